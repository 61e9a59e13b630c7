"""What a manifest holds, as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from megatron.data.manifest import Manifest, ShardInfo
from megatron.utils.table import text_table


def summary_table(manifest: Manifest, *, corpora: int = 0) -> str:
    """Return what a manifest holds as a table: a line per corpus, the largest first, and the sum of all.

    Args:
        manifest: the shards.
        corpora: how many corpora to list; 0 lists all.
    """
    shards_of: dict[str, list[ShardInfo]] = {}
    for shard in manifest.shards:
        shards_of.setdefault(shard.name, []).append(shard)
    names = sorted(shards_of, key=lambda name: (-sum(shard.bytes for shard in shards_of[name]), name))
    shown = names[:corpora] if corpora else names
    cells: list[tuple[str, ...]] = [("corpus", "documents", "words", "tokens", "bytes", "bytes/token", "held out")]
    cells += [_summary_row(name, shards_of[name]) for name in shown]
    cells.append(_summary_row(f"all {len(names)}", manifest.shards))
    lines = text_table(cells).splitlines()
    if len(shown) < len(names):
        lines.insert(-1, f"... and {len(names) - len(shown):,} more")
    return "\n".join(lines)


def _summary_row(name: str, shards: Sequence[ShardInfo]) -> tuple[str, ...]:
    documents, words, tokens, size_bytes = (
        sum(getattr(shard, key) for shard in shards) for key in ("documents", "words", "tokens", "bytes")
    )
    held_out = sum(shard.documents for shard in shards if shard.split == "valid")
    numbers = (f"{number:,}" for number in (documents, words, tokens, size_bytes))
    return (name, *numbers, f"{size_bytes / tokens:.2f}", f"{held_out:,}")
