"""What a sample number holds: the documents of which corpus, in which epoch, and their text.

The answer is computed as training computes it, from the same mixture, order and shards; nothing is recorded for it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from megatron.data.manifest import Manifest
from megatron.data.mixing.tiers import has_language
from megatron.data.mixture import Mixture, RunSize, plan_mixture
from megatron.data.neox.paths import mixture_section, open_corpora
from megatron.data.order import SampleOrder
from megatron.data.parts import Parts
from megatron.tokenizer.base import Tokenizer
from megatron.tokenizer.load import load_tokenizer

if TYPE_CHECKING:
    from megatron.config.schema import Config


class InspectError(ValueError):
    """What is to be shown is not there, or is not what the run had."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """What one sample holds of one document.

    Attributes:
        sample: number of the sample.
        corpus: name of the corpus.
        code: its language and script.
        source: monolingual, bilingual, code, ...
        tier: its tier in the mixture.
        epoch: how often the corpus had been gone through before; 0 the first time.
        window: number of the window within the epoch.
        document: number of the document in the corpus.
        document_tokens: tokens of the whole document.
        offset: where in the document the piece begins, in tokens.
        tokens: tokens of the piece. Those of a sample add up to ``seq_length + 1``; the last of them is only a target.
        text: the piece decoded; empty without a tokenizer.
    """

    sample: int
    corpus: str
    code: str
    source: str
    tier: str
    epoch: int
    window: int
    document: int
    document_tokens: int
    offset: int
    tokens: int
    text: str


class Inspector:
    """Looks up the samples of a run.

    Args:
        manifest: the shards.
        mixture: the plan of the run.
        order: the order of its samples.
        tokenizer: decodes the text; None leaves it out.
    """

    def __init__(
        self, *, manifest: Manifest, mixture: Mixture, order: SampleOrder, tokenizer: Tokenizer | None = None
    ) -> None:
        self.manifest, self.mixture, self.order = manifest, mixture, order
        self._corpora = mixture.trained
        self._tokenizer = tokenizer
        self._parts = Parts(manifest.root)

    @classmethod
    def of(
        cls,
        config: Config,
        *,
        batch_size: int,
        recorded: Sequence[Mapping[str, Any]] = (),
        with_text: bool = True,
    ) -> Inspector:
        """Make the data of a run from its configuration, as training does.

        Args:
            config: the configuration.
            batch_size: sequences per optimizer step.
            recorded: the rows of the mixture that a run has recorded, to compare with; none when empty.
            with_text: load the tokenizer.

        Raises:
            ValueError: manifest, mixture or tokenizer cannot be read or do not fit together, or data or mixture are
                not those that were recorded.
        """
        manifest = open_corpora(config.data, config.tokenizer)
        size = RunSize(
            seq_length=config.data.seq_length, batch_size=batch_size, train_iters=config.train.train_iters
        )
        mixture = plan_mixture(manifest, mixture_section(config.data, manifest), run=size)
        if recorded:
            check_plan(mixture, recorded)
        order = mixture.order(seed=config.train.seed, seq_length=config.data.seq_length)
        tokenizer = None
        if with_text:
            section = config.tokenizer
            tokenizer = load_tokenizer(
                section.tokenizer_type, section.vocab_file, eod_id=manifest.tokenizer.eod_id
            )
            manifest.tokenizer.require_same(tokenizer, where=manifest.root)
        return cls(manifest=manifest, mixture=mixture, order=order, tokenizer=tokenizer)

    def pieces(self, sample: int) -> Iterator[Piece]:
        """Yield what a sample holds, document by document, in its order.

        Raises:
            ShardError: a shard is damaged, or is not the manifest's.
        """
        where = self.order.sample(sample)
        corpus = self._corpora[where.corpus]
        part = self._parts.open(corpus.shard)
        place, wanted = where.start, self.order.seq_length + 1
        while wanted > 0:
            document = part.document_at(place)
            start, stop = part.document_span(document)
            tokens = min(stop - place, wanted)
            ids = part.tokens(place, place + tokens).tolist()
            yield Piece(
                sample=sample,
                corpus=corpus.shard.name,
                code=corpus.shard.code,
                source=corpus.shard.source,
                tier=corpus.tier,
                epoch=where.epoch,
                window=where.window,
                document=document,
                document_tokens=stop - start,
                offset=place - start,
                tokens=tokens,
                text="" if self._tokenizer is None else self._tokenizer.decode(ids),
            )
            wanted -= tokens
            place = stop % part.num_tokens  # a corpus is a ring: after its last token comes its first

    def languages(self, samples: Sequence[int]) -> list[tuple[str, int, int]]:
        """Return (code, samples, trained tokens) for every language among ``samples``, the most frequent first."""
        counts: dict[str, int] = {}
        for sample in samples:
            shard = self._corpora[self.order.sample(sample).corpus].shard
            code = f"{shard.code} ({shard.source})" if not has_language(shard) else shard.code
            counts[code] = counts.get(code, 0) + 1
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [(code, count, count * self.order.seq_length) for code, count in ranked]


def check_plan(mixture: Mixture, rows: Sequence[Mapping[str, Any]]) -> None:
    """Make sure that a mixture is the one that a run has recorded, so that nothing untrue is shown.

    Args:
        mixture: made anew from manifest and configuration.
        rows: the ``mixture`` event that the run planned with.

    Raises:
        InspectError: naming the first corpora that differ, and how many do.
    """
    recorded = {str(row["corpus"]): row for row in rows if row["share"] > 0}
    here = {corpus.shard.name: corpus for corpus in mixture.trained}
    problems = [f"{name} is new" for name in here if name not in recorded]
    problems += [f"{name} is gone" for name in recorded if name not in here]
    for name in sorted(here.keys() & recorded.keys()):
        shard, row = here[name].shard, recorded[name]
        if shard.tokens != row["tokens"]:
            problems.append(f"{name} has {shard.tokens:,} tokens, had {row['tokens']:,}")
        elif not math.isclose(here[name].share, row["share"], rel_tol=1e-6):
            problems.append(f"{name} has share {here[name].share:.6g}, had {row['share']:.6g}")
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise InspectError(
            f"the data or the mixture are not the ones that the run has recorded: {'; '.join(problems[:5])}{more}. "
            "Put the shards and the configuration of the run back"
        )
