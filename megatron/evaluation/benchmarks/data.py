"""Prepared data: read as a benchmark sees it, and compared with its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from megatron.config.benchmark_schema import LANGUAGE_FIELDS, BenchmarkConfig
from megatron.config.templates import template_fields
from megatron.evaluation.benchmarks.manifest import MANIFEST, BenchmarkDataError, LanguageData, load_manifest
from megatron.evaluation.json_lines import FileError, read_json_lines

Record = dict[str, Any]


class Items(NamedTuple):
    """What a benchmark asks in one language.

    Attributes:
        test: records to ask about, in the order of their file.
        shots: records that shots may be taken from.
        unpaired: sentences of a translation benchmark that only one of the two languages has.
        scripts: those in which the data has the language, ISO 15924.
    """

    test: list[Record]
    shots: list[Record]
    unpaired: int
    scripts: tuple[str, ...] = ()


class BenchmarkData:
    """The prepared data of one benchmark.

    Args:
        benchmark: the definition.
        data: folder of all prepared data.

    Attributes:
        languages: those that have all that the benchmark needs, sorted.
        lacking: the other languages with data, and which split they lack.

    Raises:
        BenchmarkDataError: there is no data, or it was not prepared to the end.
    """

    def __init__(self, benchmark: BenchmarkConfig, data: Path) -> None:
        self._benchmark, self._folder = benchmark, data / benchmark.data
        manifest = load_manifest(self._folder)
        if not manifest.is_complete:
            raise BenchmarkDataError(f"{self._folder / MANIFEST}: preparing was interrupted; start it again")
        self._manifest = manifest
        # Every split that is read, of a language and of the pivot.
        self._splits = ("test", benchmark.shots_from) if benchmark.shots else ("test",)
        pivot = benchmark.pivot
        if pivot is not None and (lacks := self._lacks(manifest.languages.get(pivot))):
            raise BenchmarkDataError(f"{self._folder}: {pivot}, the pivot of {benchmark.name}, has no {lacks} data")
        found = {code: self._lacks(entry) for code, entry in manifest.languages.items() if code != pivot}
        self.languages = sorted(code for code, lacks in found.items() if not lacks)
        self.lacking = {code: lacks for code, lacks in sorted(found.items()) if lacks}

    def _lacks(self, language: LanguageData | None) -> str:
        return " and ".join(split for split in self._splits if language is None or split not in language.files)

    def hashes(self, language: str) -> dict[str, str]:
        """Return the sha256 of every file that scores of a language depend on, by ``<language>/<split>``.

        Where prompts name a language by its script, because the data has it in several, ``<language>/scripts`` are
        these.
        """
        codes = [language, *([self._benchmark.pivot] if self._benchmark.pivot else [])]
        found = {
            f"{code}/{split}": self._manifest.languages[code].files[split].sha256
            for code in codes
            for split in self._splits
        }
        scripts = self._scripts(language)
        if len(scripts) > 1 and language not in self._benchmark.language_names and _names_languages(self._benchmark):
            found[f"{language}/scripts"] = " ".join(scripts)
        return found

    def _scripts(self, language: str) -> tuple[str, ...]:
        parts = [code.partition("_") for code in sorted(self._manifest.languages)]
        return tuple(script for code, _, script in parts if code == language.partition("_")[0])

    def items(self, language: str) -> Items:
        """Read the records of a language.

        Raises:
            BenchmarkDataError: a file is missing or is not the one that the manifest describes.
        """
        test, unpaired = self._split(language, "test")
        if not self._benchmark.shots:
            return Items(test, [], unpaired, self._scripts(language))
        shots, also_unpaired = self._split(language, self._benchmark.shots_from)
        return Items(test, shots, unpaired + also_unpaired, self._scripts(language))

    def _split(self, language: str, split: str) -> tuple[list[Record], int]:
        records = self._read(language, split)
        if self._benchmark.pivot is None:
            return records, 0
        other = {record["id"]: record["text"] for record in self._read(self._benchmark.pivot, split)}
        own = {record["id"]: record["text"] for record in records}
        names = ("target", "source") if self._benchmark.direction == "from" else ("source", "target")
        paired = [
            {"id": id, names[0]: text, names[1]: other[id]} for id, text in own.items() if id in other
        ]
        return paired, len(own) + len(other) - 2 * len(paired)

    def _read(self, language: str, split: str) -> list[Record]:
        path = self._folder / language / f"{split}.jsonl"
        described = self._manifest.languages[language].files[split]
        try:
            return read_json_lines(path, _record, sha256=described.sha256)[0]
        except FileError as error:
            raise BenchmarkDataError(f"{error}; prepare the benchmark again") from None


def _record(record: Record) -> Record:
    if not isinstance(record.get("id"), str):
        raise ValueError("no record with an `id`")
    return record


def _names_languages(benchmark: BenchmarkConfig) -> bool:
    """Return whether prompts say what languages are called."""
    texts = (benchmark.instruction, benchmark.prompt, benchmark.answer, benchmark.shot, benchmark.premise)
    used = frozenset[str]().union(*(template_fields(text) for text in texts if text))
    return not used.isdisjoint(LANGUAGE_FIELDS)


def chosen_languages(available: Sequence[str], asked: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Return which of the available languages were asked for, and which of those asked for are not available.

    Args:
        available: corpus codes.
        asked: corpus codes, or languages without a script (``swh``), which stand for all of their scripts; None for
            all.
    """
    if asked is None:
        return list(available), []
    wanted = set(asked)
    found = [code for code in available if code in wanted or code.partition("_")[0] in wanted]
    there = {*found, *(code.partition("_")[0] for code in found)}
    return found, sorted(wanted - there)
