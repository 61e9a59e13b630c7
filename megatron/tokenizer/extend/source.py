"""The texts that a vocabulary is extended for, and those whose segmentation must stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import xxhash

#: Of the lines of pivot texts, one in so many is kept from a first guard, to see how other pivot text fares.
GUARD_HOLDS_OUT = 10


@dataclass(frozen=True)
class Source:
    """The documents of one corpus.

    Attributes:
        name: of the corpus, one of its own.
        code: ``xxx_Ssss``; ``zxx_Zyyy`` where there is no language, as of code.
        read: begins to read the documents; the same ones in the same order each time. An empty one stands for a
            document that is not there, so that translations have the same number.
        is_pivot: whether its segmentation must stay; then no new token is learnt from it.
        is_cut: whether the corpus has more than is read; the last document may then be a part of one.
    """

    name: str
    code: str
    read: Callable[[], Iterable[str]]
    is_pivot: bool = False
    is_cut: bool = False

    def learnt(self, hold_out: int) -> Iterator[str]:
        """Yield the documents to learn from: all but every ``hold_out``-th."""
        return (text for number, text in enumerate(self.read(), start=1) if number % hold_out)

    def held_out(self, hold_out: int) -> Iterator[tuple[int, str]]:
        """Yield every ``hold_out``-th document and its number, so that translations are held out together."""
        return ((number, text) for number, text in enumerate(self.read(), start=1) if number % hold_out == 0)


def pivot_lines(sources: Iterable[Source], *, held_out: bool | None = None) -> Iterator[str]:
    """Yield the lines of the pivot texts: all, or those that are held out, or the others.

    The hash of a line decides, so the same line is always on the same side.
    """
    for source in sources:
        if source.is_pivot:
            for text in source.read():
                for line in text.split("\n"):
                    if line and (held_out is None or _is_held_out(line) == held_out):
                        yield line


def _is_held_out(line: str) -> bool:
    return xxhash.xxh3_64_intdigest(line.encode("utf-8", "surrogatepass")) % GUARD_HOLDS_OUT == 0


def in_text(line: str) -> tuple[str, str]:
    """Return a line as a text of its own, and as it stands inside one: a text may begin with a space of its own."""
    return line, f"\n{line}\n"
