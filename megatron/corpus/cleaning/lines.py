"""Taking lines out of a text, and the rule over lines that come again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

_SHORTEST_BYTES = 12  # a few words of an alphabet, or four Han characters


def without(lines: Sequence[str], dropped: Sequence[bool]) -> str:
    """Join the lines that are not dropped; where one was, no empty lines are left beside each other or at the ends."""
    kept: list[str] = []
    gap = False
    for line, drop in zip(lines, dropped, strict=True):
        if drop:
            gap = True
        elif line or not gap or (kept and kept[-1]):
            kept.append(line)
            gap = gap and not line
    while gap and kept and not kept[-1]:
        kept.pop()
    return "\n".join(kept)


def limit_repeats(text: str, copies: int) -> str:
    """Return ``text`` with the first ``copies`` of equal lines; lines of less than 12 bytes do not count."""
    lines = text.split("\n")
    if len(lines) <= copies or len(lines) - len(set(lines)) < copies:
        return text
    seen: Counter[str] = Counter()
    dropped = []
    for line in lines:
        seen[line] += 1
        dropped.append(seen[line] > copies and len(line.encode("utf-8", "surrogatepass")) >= _SHORTEST_BYTES)
    return without(lines, dropped) if True in dropped else text
