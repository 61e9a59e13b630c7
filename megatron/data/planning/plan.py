"""The plan of a run's data: every row of its mixture, from a manifest or from counts alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron.config.derive import derive_batch
from megatron.data.manifest import Manifest
from megatron.data.mixture import RunSize, plan_mixture
from megatron.data.neox.paths import mixture_section, open_corpora
from megatron.data.planning.counts import read_counts, read_tokens_per_word
from megatron.data.planning.plan_groups import SourcePhase, source_phases

if TYPE_CHECKING:
    from megatron.config.mixture_schema import MixtureConfig
    from megatron.config.schema import BatchConfig, DataConfig, TokenizerConfig, TrainConfig


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run trains on, in numbers.

    Attributes:
        rows: one for each corpus, from :meth:`megatron.data.mixture.Mixture.rows`, with ``estimated`` added.
        batch_size: samples per step.
        samples: length of the run.
        phases: what each source has in every phase.
        bound: in every prefix of the run, how many samples a count may be off its share; None when not known.
    """

    rows: Sequence[dict[str, Any]]
    batch_size: int
    samples: int
    phases: Sequence[SourcePhase] = ()
    bound: float | None = None


def run_size(data: DataConfig, batch: BatchConfig, train: TrainConfig, *, processes: int) -> RunSize:
    """Return the length of a run. A batch that is given as a whole does not depend on where the run is planned.

    Args:
        data: gives the length of a sample.
        batch: gives the samples per step.
        train: gives the steps.
        processes: data-parallel processes, which decide the batch when only each process's part of it is given.

    Raises:
        ValueError: the numbers of the batch do not go into each other.
    """
    size = batch.train_batch_size or derive_batch(batch, data_parallel_size=processes).global_size
    return RunSize(seq_length=data.seq_length, batch_size=size, train_iters=train.train_iters)


def plan_configured(data: DataConfig, tokenizer: TokenizerConfig, *, run: RunSize, seed: int) -> Plan:
    """Plan a run over the corpora that its configuration names.

    Args:
        data: names the corpora and the mixture.
        tokenizer: of the run.
        run: its length.
        seed: of the run.

    Raises:
        ValueError: there are no corpora, or the mixture cannot be made from them.
    """
    manifest = open_corpora(data, tokenizer)
    return plan_manifest(manifest, mixture_section(data, manifest), run=run, seed=seed)


def plan_manifest(
    manifest: Manifest,
    section: MixtureConfig | None,
    *,
    run: RunSize,
    seed: int,
    estimated: frozenset[str] = frozenset(),
) -> Plan:
    """Plan a run over the corpora of a manifest, of which no shard is opened.

    Args:
        manifest: the corpora.
        section: the mixture.
        run: its length.
        seed: of the run.
        estimated: names of corpora whose tokens are estimates.

    Raises:
        MixtureError: the mixture cannot be made from these corpora.
    """
    mixture = plan_mixture(manifest, section, run=run)
    order = mixture.order(seed=seed, seq_length=run.seq_length)
    rows = [{**row, "estimated": row["corpus"] in estimated} for row in mixture.rows(order, samples=run.samples)]
    return Plan(rows, run.batch_size, run.samples, source_phases(mixture), order.interleaving.bound())


def plan_counts(
    files: Sequence[Path | str],
    section: MixtureConfig | None,
    *,
    tokens_per_word: str,
    run: RunSize,
    seed: int,
) -> Plan:
    """Plan a run from tables of counts, before anything is tokenised.

    Args:
        files: for :func:`megatron.data.planning.counts.read_counts`.
        section: the mixture.
        tokens_per_word: a number, or a table of them.
        run: its length.
        seed: of the run.

    Raises:
        CountsError: listing every problem of the tables.
        MixtureError: the mixture cannot be made from these corpora.
    """
    counts = read_counts(files, tokens_per_word=read_tokens_per_word(tokens_per_word))
    if section is not None:
        counts.require_unit(section.unit)
    return plan_manifest(counts.manifest, section, run=run, seed=seed, estimated=counts.estimated)
