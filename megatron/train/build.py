"""Makes the parts of a run from the sections that describe them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

from megatron.checkpoint.hf import load_weights
from megatron.config.derive import architecture_of
from megatron.config.load import effective_settings
from megatron.config.schema import Config, DataConfig, EvaluationConfig, ModelConfig, TokenizerConfig
from megatron.data.check import tokenizer_problem
from megatron.data.loader import Loader
from megatron.data.manifest import Manifest
from megatron.data.mixture import Mixture, RunSize, plan_mixture
from megatron.data.neox.paths import mixture_section, open_corpora
from megatron.data.order import SampleOrder
from megatron.data.same_ids import other_ids_problem
from megatron.evaluation.bits_per_byte import HeldOutSet
from megatron.model.llama import Llama
from megatron.monitor.console import Console
from megatron.monitor.record import Listener, MetricsWriter, read_metrics
from megatron.monitor.tensorboard import TensorBoardWriter
from megatron.monitor.wandb import WandbWriter
from megatron.parallel.build import build_stages
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.parts import local_part
from megatron.parallel.pipeline import joined
from megatron.tokenizer.extend.extension import FILE_NAME
from megatron.utils.log import get_logger

logger = get_logger(__name__)


@dataclasses.dataclass(frozen=True)
class Data:
    """What a run trains on and is measured on.

    Attributes:
        manifest: the tokenised shards.
        mixture: every corpus's share.
        order: which sample holds what.
        loader: reads samples.
        held_out: the held-out documents, or None when nothing is held out or evaluation is off.
    """

    manifest: Manifest
    mixture: Mixture
    order: SampleOrder
    loader: Loader
    held_out: HeldOutSet | None


def build_data(
    section: DataConfig,
    evaluation: EvaluationConfig,
    tokenizer: TokenizerConfig,
    *,
    run: RunSize,
    seed: int,
    show_progress: bool = False,
) -> Data:
    """Open the corpora of a run and plan its mixture; no shard is read yet.

    Args:
        section: names the corpora and the mixture.
        evaluation: says whether anything is held out.
        tokenizer: the run's tokenizer, which shards without a description of their own are taken to be made by.
        run: its size, which limits on epochs and phases are reckoned for.
        seed: decides the order.
        show_progress: whether to draw a bar while held-out text without a size is measured.

    Raises:
        ValueError: the manifest is missing or broken, or the mixture cannot be made from it.
    """
    limit = evaluation.eval_iters * run.batch_size * run.seq_length if evaluation.eval_interval else None
    manifest = open_corpora(section, tokenizer, max_valid_tokens=limit, show_progress=show_progress)
    shares = mixture_section(section, manifest)
    if shares is None and len(manifest.split("train")) > 1:
        logger.warning("no mixture is named: each of the corpora is taken by its size (docs/mixtures.md)")
    mixture = plan_mixture(manifest, shares, run=run)
    if left_out := Counter(corpus.reason for corpus in mixture.corpora if corpus.reason):
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common())
        logger.info("%d of %d corpora are not trained on: %s", left_out.total(), len(mixture.corpora), reasons)
    order = mixture.order(seed=seed, seq_length=section.seq_length)
    loader = Loader(order=order, manifest=manifest, shards=[corpus.shard for corpus in mixture.trained])
    shards = manifest.split("valid") if evaluation.eval_interval else ()
    unmeasured = {corpus.shard.name for corpus in mixture.trained} - {shard.name for shard in shards}
    if evaluation.eval_interval and unmeasured:
        shown = ", ".join(sorted(unmeasured)[:5]) + (", ..." if len(unmeasured) > 5 else "")
        logger.warning("%d corpora have no held-out text and are not measured: %s", len(unmeasured), shown)
    held_out = (
        HeldOutSet(
            folder=manifest.root, shards=shards, tokenizer=manifest.tokenizer, seq_length=section.seq_length
        )
        if shards
        else None
    )
    return Data(manifest=manifest, mixture=mixture, order=order, loader=loader, held_out=held_out)


def check_tokenizer(section: TokenizerConfig, model: ModelConfig, manifest: Manifest) -> None:
    """Refuse data that another tokenizer made, and a pretrained model whose own tokenizer gives other ids.

    Raises:
        ValueError: naming both sides.
    """
    if problem := tokenizer_problem(section, manifest):
        raise ValueError(problem)
    if problem := other_ids_problem(section, model, eod_id=manifest.tokenizer.eod_id):
        raise ValueError(problem)


def tokenizer_files(section: TokenizerConfig) -> list[Path]:
    """Return the tokenizer's file and, for a Hugging Face one, the settings beside it that name its special tokens."""
    file = Path(section.vocab_file)
    beside = ("tokenizer_config.json", "special_tokens_map.json") if section.tokenizer_type == "HFTokenizer" else ()
    return [file, *(path for name in beside if (path := file.parent / name).exists())]


def carried_files(config: Config) -> dict[str, Path]:
    """Return the files that go into every checkpoint as they are, by their names there.

    They are what the model will need elsewhere: its tokenizer, which tokens of it are new, and how the model that it
    began as writes text.
    """
    files = {f"tokenizer/{path.name}": path for path in tokenizer_files(config.tokenizer)}
    carried = {}
    if config.model.hf_model is not None:
        carried = {name: Path(config.model.hf_model) / name for name in ("generation_config.json", FILE_NAME)}
    if config.new_tokens.vocab_extension is not None:
        named = Path(config.new_tokens.vocab_extension)
        carried[FILE_NAME] = named / FILE_NAME if named.is_dir() else named
    files |= {f"hf/{name}": path for name, path in carried.items() if path.is_file()}
    return files


def build_model(
    section: ModelConfig,
    *,
    vocab_size: int,
    seed: int,
    mesh: Mesh,
    execution: Execution,
    seq_length: int,
) -> list[Llama]:
    """Return this process's part of the model, with pretrained weights or, where there are none, random ones.

    Args:
        section: its shape, and where its weights are.
        vocab_size: entries of the tokenizer.
        seed: decides random weights.
        mesh: how the processes divide it. None ever holds more of it in memory than its part and one tensor.
        execution: how each of them computes its part.
        seq_length: tokens of a sequence, for the cost of a block.

    Returns:
        The whole model, or the stages of a pipeline that belong to this process.
    """
    architecture = architecture_of(section, vocab_size=vocab_size)
    stages = build_stages(architecture, mesh, execution, seq_length=seq_length)
    model = joined(stages)
    if section.hf_model is not None and section.load_weights:
        load_weights(model, Path(section.hf_model))
    else:
        model.init_weights(seed=seed, part=local_part)
    return stages


def open_metrics(config: Config, *, resumed: bool) -> MetricsWriter:
    """Open the record of a run, and everything that shows it.

    Args:
        config: the run.
        resumed: whether the record that is there is this run's own.
    """
    section, folder = config.logging, Path(config.checkpoint.save or ".")
    path = folder / "metrics.jsonl"
    earlier = read_metrics(path) if path.exists() and resumed else []
    first = next((event["rows"] for event in earlier if event["event"] == "validation"), None)
    listeners: list[Listener] = [
        Console(train_iters=config.train.train_iters, log_interval=section.log_interval, first_validation=first)
    ]
    if section.tensorboard_dir is not None:
        listeners.append(TensorBoardWriter(Path(section.tensorboard_dir)))
    if section.use_wandb:
        listeners.append(WandbWriter(section, folder, settings=effective_settings(config)))
    return MetricsWriter(path, listeners=listeners)
