"""OPUS's Moses format: parallel text as two files of lines, ``NAME.en-sw.en`` and ``NAME.en-sw.sw``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from megatron.corpus.document import CorpusError, Document
from megatron.corpus.reading.problems import BrokenRecord, Problems

_CODE = r"[A-Za-z]{2,3}(?:_[A-Za-z0-9]+)*"
_MARKED = re.compile(rf"(?P<stem>.+\.(?P<first>{_CODE})-(?P<second>{_CODE}))\.(?P<side>{_CODE})")
_MISSING = b"\n"  # where a file has ended; no line holds a line feed
_PLAIN = re.compile(r"(?P<stem>.+)\.(?P<side>[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]+)*)")


class MosesSide(NamedTuple):
    """What the name of one file tells.

    Attributes:
        stem: what the names of both files begin with, ``NAME.en-sw``.
        code: the language code of this side.
        rank: 0 for the first side and 1 for the second; None when the name names no pair.
    """

    stem: str
    code: str
    rank: int | None


def moses_side(path: Path, *, marked: bool) -> MosesSide | None:
    """Read the name of one side of a pair; None when it is none.

    Args:
        path: the file; ``.gz`` and ``.zst`` do not count.
        marked: accept only names that name the pair, as OPUS's do; otherwise any name that ends in a code.
    """
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    if match := _MARKED.fullmatch(name):
        codes = (match["first"], match["second"])
        # `TED.en-sw.ids` belongs to a pair, but is none of its sides.
        is_side = codes[0] != codes[1] and match["side"] in codes
        return MosesSide(match["stem"], match["side"], codes.index(match["side"])) if is_side else None
    if not marked and (match := _PLAIN.fullmatch(name)):
        return MosesSide(match["stem"], match["side"], None)
    return None


def pair_up(
    paths: Sequence[Path], languages: Sequence[str] = ()
) -> tuple[list[tuple[str, tuple[Path, Path]]], list[Path]]:
    """Put the files of the same pair together.

    Args:
        paths: files whose names :func:`moses_side` can read, of one folder.
        languages: the two codes in the order of the sides, where names do not say which side is the first.

    Returns:
        The stem and both files of each pair, sorted; and the files that stand alone and do not claim to be of a pair.

    Raises:
        CorpusError: a file that names its pair but stands alone, or more than two files of one stem.
    """
    sides: dict[str, list[tuple[int, str, Path]]] = {}
    for path in paths:
        side = moses_side(path, marked=False)
        assert side is not None
        order = list(languages)
        rank = side.rank if side.rank is not None else order.index(side.code) if side.code in order else len(order)
        sides.setdefault(side.stem, []).append((rank, side.code, path))
    pairs, alone = [], []
    for stem, found in sorted(sides.items()):
        files = [path for _, _, path in sorted(found)]
        if len(files) == 2:
            pairs.append((stem, (files[0], files[1])))
        elif len(files) == 1 and moses_side(files[0], marked=True) is None:
            alone.append(files[0])
        else:
            names = ", ".join(path.name for path in files)
            raise CorpusError(
                f"{files[0].parent}: the pair {stem!r} has {len(files)} files ({names}); the Moses format is two files "
                "of the same name, one for each language"
            )
    return pairs, alone


def moses_codes(paths: Sequence[Path], languages: Sequence[str]) -> tuple[str | None, str | None]:
    """Return the code of each side: as the input's settings give both, or as the names of the files end."""
    if len(languages) == 2:
        return languages[0], languages[1]
    first, second = (moses_side(path, marked=False) for path in paths)
    return first.code if first else None, second.code if second else None


def moses_documents(
    paths: tuple[Path, Path], codes: tuple[str | None, str | None], name: str, problems: Problems
) -> Iterator[Document]:
    """Yield the pairs of two files of lines: line n of one is the translation of line n of the other.

    Args:
        paths: the files.
        codes: the language code of each.
        name: begins the documents' ids.
        problems: what to do with lines that cannot be used; with one of a pair goes the other.

    Raises:
        CorpusError: the files have different numbers of lines, or cannot be read.
    """
    first, second = (problems.lines(path) for path in paths)
    counts = [0, 0]
    for number, sides in enumerate(zip_longest(first, second, fillvalue=_MISSING), start=1):
        for index, side in enumerate(sides):
            counts[index] += side is not _MISSING
        if counts[0] != counts[1]:
            continue  # only counting is left to do
        try:
            text, target = (problems.decode(side).removesuffix("\r") for side in sides)
        except BrokenRecord as broken:
            problems.drop(number, broken)
            continue
        problems.counts.kinds["pair"] += 1
        yield Document(text, codes[0], f"{name}:{number}", target, codes[1])
    if counts[0] != counts[1] and not problems.is_cut:
        raise CorpusError(
            f"{paths[0]} has {counts[0]:,} lines and {paths[1]} has {counts[1]:,}; line n of one must translate line n "
            "of the other: fetch both again"
        )
