"""The mixture as a table for people: by source, by tier, and corpus by corpus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def plan_tables(rows: Sequence[Row], *, corpora: int = 20) -> str:
    """Return the tables of a plan (or of what was used).

    Args:
        rows: from :meth:`megatron.data.mixture.Mixture.rows`.
        corpora: how many single corpora to list, those repeated most first; 0 lists all.
    """
    by_epochs = sorted(rows, key=lambda row: (-row["epochs"], row["corpus"]))
    shown = by_epochs[:corpora] if corpora else by_epochs
    parts = [
        _table("source", _grouped(rows, "source")),
        _table("tier", _grouped(rows, "tier")),
        _table("corpus", [(str(row["corpus"]), [row]) for row in shown]),
    ]
    if len(shown) < len(rows):
        parts[-1] += f"\n... and {len(rows) - len(shown)} corpora with fewer epochs"
    left_out = [row for row in rows if row["share"] == 0]
    if left_out:
        tokens = sum(row["tokens"] for row in left_out)
        parts.append(f"left out, since their tier is not trained on: {len(left_out)} corpora, {tokens:,} tokens")
    return "\n\n".join(parts)


def _grouped(rows: Iterable[Row], key: str) -> list[tuple[str, list[Row]]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str(row[key]), []).append(row)
    return sorted(groups.items(), key=lambda group: -sum(row["tokens"] for row in group[1]))


def _table(title: str, groups: Sequence[tuple[str, Sequence[Row]]]) -> str:
    width = max(len(title), *(len(name) for name, _ in groups))
    lines = [f"{title:<{width}} {'corpora':>8} {'tokens':>16} {'share':>8} {'trained tokens':>18} {'epochs':>8}"]
    for name, rows in groups:
        tokens = sum(row["tokens"] for row in rows)
        trained = sum(row["sampled_tokens"] for row in rows)
        share = sum(row["share"] for row in rows)
        lines.append(
            f"{name:<{width}} {len(rows):>8} {tokens:>16,} {share:>8.2%} {trained:>18,} "
            f"{trained / max(1, tokens):>8.2f}"
        )
    return "\n".join(lines)
