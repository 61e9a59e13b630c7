"""Reads the files of a benchmark, ``<data>/<benchmark>/<xxx_Ssss>/{train,dev,test}.jsonl``, and checks every line."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from megatron.evaluation.harness.benchmarks import GAP, NUMBER, OPTIONAL_TEXT, TEXT, HarnessBenchmark, Rule
from megatron.utils.files import fingerprint_bytes

MAX_FILE_BYTES = 1 << 30
_MAX_PROBLEMS = 5


@dataclasses.dataclass(frozen=True)
class Rows:
    """The lines of one file.

    Attributes:
        rows: the fields that the benchmark names; others are left out.
        fingerprint: hash of the file.
    """

    rows: list[dict[str, Any]]
    fingerprint: str


def split_path(data: Path, benchmark: HarnessBenchmark, language: str, split: str) -> Path:
    """Return the file of one split (``train``, ``dev`` or ``test``) of a language."""
    return data / benchmark.data / language / f"{split}.jsonl"


def read_rows(
    path: Path, fields: Mapping[str, Rule], *, problems: list[str], sha256: str | None = None
) -> Rows | None:
    """Read a file and check every line.

    Args:
        path: one JSON object a line.
        fields: that each line must have.
        problems: what is wrong is added to it; None is returned then.
        sha256: of the file, where it is known.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            problems.append(f"{path} has more than {MAX_FILE_BYTES >> 30} GiB: that is no file of a benchmark")
            return None
        data = path.read_bytes()
    except OSError as error:
        problems.append(f"{path} cannot be read ({error.strerror}); prepare the benchmark's files first")
        return None
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        problems.append(f"{path} is not the file that its manifest names; prepare the benchmark again")
        return None
    rows, found = [], []
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            found.append(f"{path}, line {number}: no JSON ({error})")
            continue
        found += [f"{path}, line {number}: {problem}" for problem in row_problems(record, fields)]
        if isinstance(record, dict):
            rows.append({name: record.get(name) for name in fields})
    if not rows and not found:
        found.append(f"{path} is empty")
    problems += found[:_MAX_PROBLEMS]
    if len(found) > _MAX_PROBLEMS:
        problems.append(f"{path}: {len(found) - _MAX_PROBLEMS} more problems like these")
    return None if found else Rows(rows, fingerprint_bytes(data))


def row_problems(record: Any, fields: Mapping[str, Rule]) -> list[str]:
    """Return what is wrong with a line; nothing when it has all fields as they must be."""
    if not isinstance(record, dict):
        return ["no object"]
    return [
        f"{name} is {_shown(record.get(name))}, it must be {_wanted(rule)}"
        for name, rule in fields.items()
        if not _fits(record.get(name), rule)
    ]


def _fits(value: Any, rule: Rule) -> bool:
    if rule in (TEXT, GAP):
        return isinstance(value, str) and bool(value.strip()) and (rule == TEXT or "_" in value)
    if rule == OPTIONAL_TEXT:
        return value is None or isinstance(value, str)
    if rule == NUMBER:
        return type(value) is int
    return any(type(value) is type(allowed) and value == allowed for allowed in rule)


def _wanted(rule: Rule) -> str:
    if isinstance(rule, str):
        wanted = {TEXT: "a text", GAP: "a text with _ in it", OPTIONAL_TEXT: "a text or null", NUMBER: "a whole number"}
        return wanted[rule]
    return "one of " + ", ".join(repr(value) for value in rule)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
