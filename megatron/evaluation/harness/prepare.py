"""From the files that the benchmarks come as to ``<data>/<benchmark>/<xxx_Ssss>/{train,dev,test}.jsonl``."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from megatron.corpus.reading.problems import ReadCounts
from megatron.evaluation.benchmarks.manifest import DataFile, DataManifest, LanguageData, sha256_of
from megatron.evaluation.harness.benchmarks import BENCHMARKS, HarnessBenchmark
from megatron.evaluation.harness.installed import HarnessError
from megatron.evaluation.harness.rows import row_problems
from megatron.evaluation.harness.upstream import (
    EXEMPLARS,
    Row,
    UpstreamFile,
    are_one,
    exemplars_of,
    find_files,
    rows_of,
)
from megatron.utils.files import exclusive, fingerprint_bytes, remove_abandoned, write_bytes

_EXAMPLES = 5
_WRONG_FIELDS = "wrong_fields"

_STORY_COLUMNS = {
    **{f"InputSentence{number}": f"input_sentence_{number}" for number in range(1, 5)},
    "RandomFifthSentenceQuiz1": "sentence_quiz1",
    "RandomFifthSentenceQuiz2": "sentence_quiz2",
    "AnswerRightEnding": "answer_right_ending",
}


def prepare_harness(name: str, upstream: Path, data: Path) -> DataManifest:
    """Prepare the data of a benchmark; the same files give the same bytes.

    Args:
        name: ``xnli``, ``xcopa``, ``xstorycloze``, ``xwinograd``, ``belebele``, ``arc`` or ``mgsm``.
        upstream: folder with its files as the Hugging Face hub has them (or their authors): Parquet, JSON lines, CSV
            or tab-separated, the language in the name of each file or of its folder.
        data: folder of all prepared data.

    Returns:
        what ``<data>/<name>/manifest.json`` then holds.

    Raises:
        HarnessError: an unknown name; no file of any language; a split that comes more than once; a file without any
            sound row; a file of worked questions that is none.
        ValueError: a file is broken as a whole.
        InUseError: another process prepares the same benchmark.
    """
    benchmark = next((benchmark for benchmark in BENCHMARKS.values() if benchmark.data == name), None)
    if benchmark is None:
        raise HarnessError(f"there is no benchmark {name}; there are {', '.join(data_names())}")
    codes = {key: code for code, key in benchmark.languages.items()}
    files, others = find_files(upstream, frozenset(codes))
    parts: dict[str, dict[str, list[UpstreamFile]]] = defaultdict(lambda: defaultdict(list))
    for file in files:
        parts[codes[file.key]][file.split].append(file)
    if not parts:
        raise HarnessError(f"{upstream} holds no file of {name}; languages are named {', '.join(sorted(codes))}")
    exemplars = upstream / EXEMPLARS
    worked = exemplars_of(exemplars) if name == "mgsm" and exemplars.exists() else {}
    with exclusive(data / name / ".lock"):
        remove_abandoned(data / name)
        languages = {}
        for code in sorted(parts):
            language = _Language(benchmark, code, upstream)
            language.read(parts[code], worked.get(benchmark.languages[code], []))
            languages[code] = language.write(data)
        sources = {source: sha for language in languages.values() for source, sha in language.sources.items()}
        manifest = DataManifest(
            format=name,
            settings=fingerprint_bytes(orjson.dumps([1, list(benchmark.fields), sorted(codes.items())])),
            is_complete=True,
            languages=languages,
            sources={**sources, **({EXEMPLARS: sha256_of(exemplars)} if worked else {})},
            dropped=dict(sorted(sum((Counter(found.dropped) for found in languages.values()), Counter()).items())),
            unused_files=tuple(path.relative_to(upstream).as_posix() for path in others),
        )
        manifest.save(data / name)
    return manifest


def data_names() -> list[str]:
    """Return the names of the benchmarks that can be prepared."""
    return list(dict.fromkeys(benchmark.data for benchmark in BENCHMARKS.values()))


def shot_lines(name: str, manifest: DataManifest) -> Iterator[str]:
    """Yield which languages lack the file that shots are taken from, where a benchmark has shots by default.

    Args:
        name: as for :func:`prepare_harness`.
        manifest: what it returned.
    """
    for split in ("train", "dev", "test"):
        shots = {
            key: benchmark.num_fewshot
            for key, benchmark in BENCHMARKS.items()
            if benchmark.data == name and benchmark.shots[1] == split and benchmark.num_fewshot
        }
        lacking = [code for code, language in manifest.languages.items() if split not in language.files]
        if shots and lacking:
            missing = f"{EXEMPLARS} beside the other files" if name == "mgsm" else f"its {split} files with the others"
            told = ", ".join(f"{key} ({count} shots)" for key, count in shots.items())
            yield (
                f"no {split}.jsonl in {len(lacking)} of {len(manifest.languages)} languages ({', '.join(lacking)}), "
                f"which the shots are taken from of {told}: put {missing} and prepare again, or evaluate with "
                f"--num-fewshot {' '.join(f'{key}=0' for key in shots)}"
            )


class _Language:
    """One language of a benchmark: its records, and what was left out."""

    def __init__(self, benchmark: HarnessBenchmark, code: str, upstream: Path) -> None:
        self._benchmark, self._code, self._upstream = benchmark, code, upstream
        self._records: dict[str, list[dict[str, Any]]] = {}
        self._sources: dict[str, str] = {}
        self._dropped = Counter[str]()
        self._examples: list[str] = []

    def read(self, splits: Mapping[str, list[UpstreamFile]], worked: list[Row]) -> None:
        """Read all splits; ``worked`` are questions for ``train`` that come in no file of this language alone."""
        if worked and "train" in splits:
            place = splits["train"][0].path
            raise HarnessError(f"{self._code} has worked questions in {EXEMPLARS} and in {place}; remove one")
        for split, files in splits.items():
            names = [file.path.relative_to(self._upstream).as_posix() for file in files]
            if not are_one(files):
                told = ", ".join(names[:_EXAMPLES])
                raise HarnessError(f"{self._code}, {split} comes more than once: {told}; keep one of them")
            records = []
            for file, name in zip(files, names, strict=True):
                self._sources[name] = sha256_of(file.path)
                counts = ReadCounts()
                columns = [*self._benchmark.fields, *_STORY_COLUMNS]
                records += self._sound(rows_of(file.path, columns, counts), name)
                self._dropped += counts.dropped
                # Manifests must not depend on where the files lay.
                self._tell(place.replace(str(file.path), name, 1) for _, place in counts.examples)
            if not records:
                told = "; ".join(self._examples) or "it is empty"
                raise HarnessError(f"{files[0].path} has no row that can be used: {told}")
            self._records[split] = records
        if worked:
            self._records["train"] = self._sound(enumerate(worked, start=1), EXEMPLARS)

    def _sound(self, rows: Iterable[tuple[int, Row]], name: str) -> list[dict[str, Any]]:
        """Return the rows that have every field as it must be; count the others."""
        fields, found = self._benchmark.fields, []
        for number, row in rows:
            read = _READ[self._benchmark.data](row)
            record = {field: read.get(field) for field in fields}
            if problems := row_problems(record, fields):
                self._dropped[_WRONG_FIELDS] += 1
                self._tell([f"{name}, row {number}: {'; '.join(problems)}"])
            else:
                found.append(record)
        return found

    def _tell(self, examples: Iterable[str]) -> None:
        self._examples += examples
        del self._examples[_EXAMPLES:]

    def write(self, data: Path) -> LanguageData:
        """Write a file for every split that has records; remove the others."""
        folder, files = data / self._benchmark.data / self._code, {}
        for split in ("train", "dev", "test"):
            path = folder / f"{split}.jsonl"
            records = self._records.get(split, [])
            if not records:
                path.unlink(missing_ok=True)
                continue
            content = b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records)
            write_bytes(path, content)
            files[split] = DataFile(hashlib.sha256(content).hexdigest(), len(records))
        return LanguageData(
            files=files,
            upstream=self._benchmark.languages[self._code],
            mapped="definition",
            sources=dict(sorted(self._sources.items())),
            dropped=dict(sorted(self._dropped.items())),
            examples=tuple(self._examples),
        )


def _number(value: Any) -> Any:
    """Return a whole number that is written out, with or without commas; anything else as it is."""
    if isinstance(value, str) and value.strip().replace(",", "").lstrip("-").isdecimal():
        return int(value.strip().replace(",", ""))
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(value: Any) -> Any:
    return str(value) if type(value) is int else value


def _with(field: str, how: Callable[[Any], Any]) -> Callable[[Row], dict[str, Any]]:
    return lambda row: {**row, field: how(row.get(field))}


def _story(row: Row) -> dict[str, Any]:
    renamed = {_STORY_COLUMNS.get(column, column): value for column, value in row.items()}
    return {**renamed, "answer_right_ending": _number(renamed.get("answer_right_ending"))}


_READ: Mapping[str, Callable[[Row], dict[str, Any]]] = {
    "xnli": _with("label", _number),
    "xcopa": _with("label", _number),
    "xstorycloze": _story,
    "xwinograd": _with("answer", _text),
    "belebele": _with("correct_answer_num", _text),
    "arc": dict,
    "mgsm": _with("answer_number", _number),
}
