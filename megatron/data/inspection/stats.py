"""What a tokenised corpus consists of: sizes, how well the tokenizer fits, lengths of documents. Reads indices only."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from megatron.data.manifest import Manifest, ShardInfo
from megatron.data.parts import Parts
from megatron.data.shard_files import Array
from megatron.utils.files import write_text
from megatron.utils.table import text_table

PERCENTILES = (5, 50, 95, 100)


class Lengths:
    """Exact percentiles of document lengths in little memory: how often each length comes."""

    def __init__(self) -> None:
        self._values = self._counts = np.zeros(0, dtype=np.int64)

    def add(self, lengths: Array, counts: Array | None = None) -> None:
        """Count documents: ``lengths`` in tokens, each ``counts`` times (once by default)."""
        counts = np.ones(len(lengths), dtype=np.int64) if counts is None else counts
        self._values, places = np.unique(np.concatenate([self._values, lengths]), return_inverse=True)
        summed = np.zeros(len(self._values), dtype=np.int64)
        np.add.at(summed, places, np.concatenate([self._counts, counts]))
        self._counts = summed

    def merge(self, other: Lengths) -> None:
        """Count the documents of another one too."""
        self.add(other._values, other._counts)

    def percentiles(self) -> tuple[int, ...]:
        """Return the smallest lengths that 5, 50, 95 and 100 per cent of the documents do not exceed."""
        reached = np.cumsum(self._counts)
        if not len(reached):
            return (0,) * len(PERCENTILES)
        wanted = [-(-int(reached[-1]) * part // 100) for part in PERCENTILES]
        return tuple(int(self._values[np.searchsorted(reached, max(1, count))]) for count in wanted)


@dataclasses.dataclass(frozen=True)
class Stats:
    """Sums over some shards, with ratios.

    Attributes:
        kind: ``corpus``, ``source``, ``script`` or ``all``.
        name: of the corpus, source or script.
        shards: how many shards were added up.
        documents: documents.
        tokens: tokens, with those that begin and end documents.
        words: whitespace-separated words.
        bytes: UTF-8 bytes of the raw text.
        unk_tokens: tokens that are the unknown id.
        percentiles: of the lengths of documents in tokens, see :data:`PERCENTILES`.
    """

    kind: str
    name: str
    shards: int
    documents: int
    tokens: int
    words: int
    bytes: int
    unk_tokens: int
    percentiles: tuple[int, ...]


def report(manifest: Manifest, *, corpora: int = 0, tsv: Path | None = None) -> Iterator[str]:
    """Yield the tables of a manifest, and write all of it to ``tsv`` when that is given.

    Raises:
        ShardError: an index is damaged, or is not the manifest's.
    """
    stats = corpus_stats(manifest)
    if tsv is not None:
        write_tsv(stats, tsv)
    yield stats_table(stats, corpora=corpora)


def corpus_stats(manifest: Manifest, *, show_progress: bool = True) -> list[Stats]:
    """Return the statistics of every corpus (both splits together), the largest first, then those of groups and all.

    Groups are the sources and the scripts; a pair of languages counts under its two scripts joined.

    Raises:
        ShardError: an index is damaged, or is not the manifest's.
    """
    keys: dict[str, Callable[[ShardInfo], str]] = {
        "corpus": lambda shard: shard.name,
        "source": lambda shard: shard.source,
        "script": lambda shard: shard.script,
        "all": lambda shard: "",
    }
    lengths = _lengths(manifest, show_progress)
    stats: list[Stats] = []
    for kind, key in keys.items():
        groups: dict[str, list[ShardInfo]] = {}
        for shard in manifest.shards:
            groups.setdefault(key(shard), []).append(shard)
        found = [_sum(kind, name, shards, [lengths[shard] for shard in shards]) for name, shards in groups.items()]
        stats += sorted(found, key=lambda each: (-each.bytes, -each.tokens, each.name))
    return stats


def stats_table(stats: Sequence[Stats], *, corpora: int = 0) -> str:
    """Return the statistics as tables, one for each kind.

    Args:
        stats: from :func:`corpus_stats`.
        corpora: how many corpora to list; 0 lists all.
    """
    parts = []
    for kind in dict.fromkeys(each.kind for each in stats):
        members = [each for each in stats if each.kind == kind]
        shown = members[:corpora] if corpora and kind == "corpus" else members
        table = text_table([_heading(kind), *(_cells(each) for each in shown)])
        parts.append(table + (f"\n... and {len(members) - len(shown):,} more" if len(shown) < len(members) else ""))
    return "\n\n".join(parts)


def write_tsv(stats: Iterable[Stats], path: Path) -> None:
    """Write the statistics as tab-separated values with full numbers, atomically."""
    names = ["kind", "name", "shards", "documents", "tokens", "words", "bytes", "unk_tokens"]
    lines = ["\t".join([*names, *(f"length_p{part}" for part in PERCENTILES)])]
    for each in stats:
        values = [*(getattr(each, name) for name in names), *each.percentiles]
        lines.append("\t".join(map(str, values)))
    write_text(path, "\n".join(lines) + "\n")


def _lengths(manifest: Manifest, show_progress: bool) -> dict[ShardInfo, Lengths]:
    parts, found = Parts(manifest.root), {}
    for shard in tqdm(manifest.shards, desc="stats", unit="shard", delay=2, disable=not show_progress):
        found[shard] = Lengths()
        for block in parts.open(shard).length_blocks():
            found[shard].add(block)
    return found


def _sum(kind: str, name: str, shards: Sequence[ShardInfo], lengths: Sequence[Lengths]) -> Stats:
    together = Lengths()
    for each in lengths:
        together.merge(each)
    documents, tokens, words, size_bytes, unk_tokens = (
        sum(getattr(shard, key) for shard in shards)
        for key in ("documents", "tokens", "words", "bytes", "unk_tokens")
    )
    return Stats(
        kind, name, len(shards), documents, tokens, words, size_bytes, unk_tokens, together.percentiles()
    )


def _heading(kind: str) -> tuple[str, ...]:
    lengths = ("p5", "p50", "p95", "longest")
    return (kind, "documents", "tokens", "words", "bytes", "tokens/word", "bytes/token", "unknown", *lengths)


def _cells(each: Stats) -> tuple[str, ...]:
    counts = (each.documents, each.tokens, each.words, each.bytes)
    return (
        each.name,
        *(f"{count:,}" for count in counts),
        f"{each.tokens / each.words:.2f}" if each.words else "-",
        f"{each.bytes / each.tokens:.2f}" if each.tokens else "-",
        f"{each.unk_tokens / each.tokens:.3%}" if each.tokens else "-",
        *(f"{length:,}" for length in each.percentiles),
    )
