"""Texts of many languages from a folder of corpora, or from the prepared data of a benchmark of texts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from megatron.corpus.reading.problems import BrokenRecord, ReadCounts
from megatron.evaluation.benchmarks.data import chosen_languages
from megatron.evaluation.benchmarks.prepare.rows import object_rows, text_lines, text_of

_CODE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
_ENDINGS = (".jsonl", ".txt")
_COMPRESSED = (".gz", ".zst")
_SPLITS = ("test", "valid", "dev")


@dataclasses.dataclass(frozen=True)
class LanguageTexts:
    """Texts by language.

    Attributes:
        texts: of each corpus code, sorted.
        notes: what was left out.
    """

    texts: Mapping[str, Sequence[str]]
    notes: tuple[str, ...]


def read_language_texts(
    folder: Path, *, languages: Sequence[str] | None, always: Sequence[str] = (), most_bytes: int
) -> LanguageTexts:
    """Read the first texts of every language.

    Args:
        folder: with a folder ``xxx_Ssss`` or a file ``xxx_Ssss.jsonl`` for each language: objects with a ``text``, or
            one text a line (``.txt``), also compressed (``.gz``, ``.zst``). Where a folder has ``test``, ``valid`` or
            ``dev`` files, only the first of these kinds is read.
        languages: corpus codes, or languages without a script; None for all.
        always: corpus codes that are read, where they are there, whatever ``languages`` are.
        most_bytes: text of a language, in UTF-8; the text that goes beyond is cut, and is the last.

    Raises:
        ValueError: there are none, a language is not there or has no text, or a file cannot be read; every one is told.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder of texts")
    found: dict[str, list[Path]] = {}
    others = 0
    for path in sorted(folder.iterdir()):
        code = path.name if path.is_dir() else path.name.partition(".")[0]
        files = _files(path)
        if _CODE.fullmatch(code) and files:
            found.setdefault(code, []).extend(files)
        elif path.is_dir() or _ending(path):
            others += 1
    chosen, missing = chosen_languages(sorted(found), languages)
    chosen = sorted({*chosen, *(code for code in always if code in found)})
    problems = [f"{folder} has no texts of {code}" for code in missing]
    if not found:
        problems = [f"{folder} holds no texts: no folder or file such as swh_Latn or swh_Latn.jsonl"]
    counts = ReadCounts()
    texts = {}
    cut = 0
    for code in chosen:
        texts[code], is_all = _first(found[code], counts, most_bytes)
        cut += not is_all
        if not texts[code]:
            problems.append(f"{', '.join(map(str, found[code]))}: no usable text of {code}")
    if problems:
        raise ValueError("\n".join(problems))
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in counts.dropped.items())
    notes = [f"records left out of the texts: {dropped}"] if dropped else []
    notes += [f"{folder}: {others:,} entries are no corpora and were not read"] if others else []
    notes += [f"of {cut:,} languages only the first texts, up to {most_bytes:,} bytes of each"] if cut else []
    return LanguageTexts(texts, tuple(notes))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path] if _ending(path) else []
    files = [file for file in sorted(path.iterdir()) if file.is_file() and _ending(file)]
    for split in _SPLITS:
        if held_out := [file for file in files if file.name.partition(".")[0] == split]:
            return held_out
    return files


def _ending(path: Path) -> str | None:
    name = path.name
    for ending in _COMPRESSED:
        name = name.removesuffix(ending)
    return next((ending for ending in _ENDINGS if name.endswith(ending)), None)


def _first(files: Sequence[Path], counts: ReadCounts, most_bytes: int) -> tuple[list[str], bool]:
    """Return the first texts, and whether they are all."""
    found: list[str] = []
    left = most_bytes
    for text in (text for path in files for text in _texts(path, counts)):
        data = text.encode("utf-8")
        if len(data) > left:
            beginning = data[:left].decode("utf-8", errors="ignore")  # up to the last whole character
            return [*found, beginning] if beginning.strip() else found, False
        left -= len(data)
        found.append(text)
    return found, True


def _texts(path: Path, counts: ReadCounts) -> Iterator[str]:
    if _ending(path) == ".txt":
        yield from (text for _, text in text_lines(path, counts))
        return
    for record in object_rows(path, ("text",), counts):
        try:
            yield text_of(record, "text")
        except BrokenRecord as broken:
            counts.dropped[broken.reason] += 1
