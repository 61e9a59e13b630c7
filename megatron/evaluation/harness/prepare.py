"""From the files that the benchmarks come as to ``<data>/<benchmark>/<xxx_Ssss>/{train,dev,test}.jsonl``."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

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
from megatron.utils.files import exclusive, fingerprint_file, remove_abandoned, write_bytes

MANIFEST = "manifest.json"
_EXAMPLES = 5

_STORY_COLUMNS = {
    **{f"InputSentence{number}": f"input_sentence_{number}" for number in range(1, 5)},
    "RandomFifthSentenceQuiz1": "sentence_quiz1",
    "RandomFifthSentenceQuiz2": "sentence_quiz2",
    "AnswerRightEnding": "answer_right_ending",
}


def prepare_harness(name: str, upstream: Path, data: Path) -> dict[str, Any]:
    """Prepare the data of a benchmark; the same files give the same bytes.

    Args:
        name: ``xnli``, ``xcopa``, ``xstorycloze``, ``xwinograd``, ``belebele``, ``arc`` or ``mgsm``.
        upstream: folder with its files as the Hugging Face hub has them (or their authors): Parquet, JSON lines, CSV
            or tab-separated, the language in the name of each file or of its folder.
        data: folder of all prepared data.

    Returns:
        what ``<data>/<name>/manifest.json`` then holds: hashes and counts of all files, rows left out with a few
        examples, and files that were not read.

    Raises:
        HarnessError: an unknown name; no file of any language; a split that comes more than once; a file without any
            sound row; a broken file.
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
    exemplars = upstream / EXEMPLARS
    worked = exemplars_of(exemplars) if name == "mgsm" and exemplars.exists() else {}
    if not parts:
        raise HarnessError(f"{upstream} holds no file of {name}; languages are named {', '.join(sorted(codes))}")
    with exclusive(data / name / ".lock"):
        remove_abandoned(data / name)
        languages = {
            code: _language(benchmark, code, parts[code], worked.get(benchmark.languages[code], []), upstream, data)
            for code in sorted(parts)
        }
        manifest = {
            "version": 1,
            "benchmark": name,
            "languages": languages,
            "exemplars": fingerprint_file(exemplars) if worked else None,
            "dropped": sum(language["dropped"] for language in languages.values()),
            "unused_files": [path.relative_to(upstream).as_posix() for path in others],
        }
        write_bytes(data / name / MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2) + b"\n")
    return manifest


def data_names() -> list[str]:
    """Return the names of the benchmarks that can be prepared."""
    return list(dict.fromkeys(benchmark.data for benchmark in BENCHMARKS.values()))


def manifest_lines(manifest: Mapping[str, Any]) -> Iterable[str]:
    """Yield what has been prepared, in lines for people."""
    splits: dict[str, int] = defaultdict(int)
    for language in manifest["languages"].values():
        for split, file in language["files"].items():
            splits[split] += file["items"]
    counts = ", ".join(f"{split} {splits[split]:,}" for split in ("train", "dev", "test") if splits[split])
    yield f"{manifest['benchmark']}: {len(manifest['languages'])} languages, {counts}"
    if manifest["dropped"]:
        yield f"left out: {manifest['dropped']:,} rows"
        yield from (f"  {line}" for language in manifest["languages"].values() for line in language["examples"])
    if manifest["unused_files"]:
        more = ", ..." if len(manifest["unused_files"]) > _EXAMPLES else ""
        shown = ", ".join(manifest["unused_files"][:_EXAMPLES])
        yield f"not read: {len(manifest['unused_files'])} other files ({shown}{more})"


def _language(
    benchmark: HarnessBenchmark,
    code: str,
    splits: Mapping[str, list[UpstreamFile]],
    worked: list[Row],
    upstream: Path,
    data: Path,
) -> dict[str, Any]:
    written: dict[str, Any] = {}
    sources: dict[str, str] = {}
    dropped: list[str] = []
    if worked and "train" in splits:
        raise HarnessError(f"{code} has worked questions in {EXEMPLARS} and in {splits['train'][0].path}; remove one")
    for split in ("train", "dev", "test"):
        files = splits.get(split, [])
        if not are_one(files):
            names = ", ".join(file.path.relative_to(upstream).as_posix() for file in files[:_EXAMPLES])
            raise HarnessError(f"{code}, {split} comes more than once: {names}; keep one of them")
        records = []
        for file in files:
            name = file.path.relative_to(upstream).as_posix()
            sources[name] = fingerprint_file(file.path)
            unread: list[str] = []
            records += _sound(benchmark, rows_of(file.path, unread), name, dropped)
            dropped += [f"{name}, {problem}" for problem in unread]
        records += _sound(benchmark, enumerate(worked, start=1), EXEMPLARS, dropped) if split == "train" else []
        path = data / benchmark.data / code / f"{split}.jsonl"
        if files and not records:
            raise HarnessError(f"{files[0].path} has no row that can be used: {'; '.join(dropped[:_EXAMPLES])}")
        if not records:
            path.unlink(missing_ok=True)
            continue
        content = b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records)
        write_bytes(path, content)
        written[split] = {"sha256": hashlib.sha256(content).hexdigest(), "items": len(records)}
    return {
        "files": written,
        "upstream": benchmark.languages[code],
        "sources": sources,
        "dropped": len(dropped),
        "examples": dropped[:_EXAMPLES],
    }


def _sound(
    benchmark: HarnessBenchmark, rows: Iterable[tuple[int, Row]], name: str, dropped: list[str]
) -> list[dict[str, Any]]:
    """Return the rows that have every field as it must be; tell of the others."""
    found = []
    for number, row in rows:
        record = _READ[benchmark.data](row)
        record = {field: record.get(field) for field in benchmark.fields}
        problems = row_problems(record, benchmark.fields)
        if problems:
            dropped.append(f"{name}, row {number}: {'; '.join(problems)}")
        else:
            found.append(record)
    return found


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
