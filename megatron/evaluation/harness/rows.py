"""Reads the files of a benchmark, ``<data>/<benchmark>/<xxx_Ssss>/{train,dev,test}.jsonl``, and checks every line."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from megatron.evaluation.harness.benchmarks import GAP, NUMBER, OPTIONAL_TEXT, TEXT, HarnessBenchmark, Rule
from megatron.evaluation.harness.installed import HarnessError
from megatron.utils.files import fingerprint_bytes

MAX_FILE_BYTES = 1 << 30
_MAX_PROBLEMS = 5


@dataclasses.dataclass(frozen=True)
class Rows:
    """The lines of one file, all of them as they must be; read again when they are needed, not kept.

    Attributes:
        path: one JSON object a line.
        fields: that each line has.
        fingerprint: hash of the file.
        count: lines, blank ones apart.
    """

    path: Path
    fields: Mapping[str, Rule]
    fingerprint: str
    count: int

    def load(self) -> list[dict[str, Any]]:
        """Return them, without fields that the benchmark does not name.

        Raises:
            HarnessError: the file is not what it was.
        """
        problems: list[str] = []
        data = _bytes_of(self.path, problems)
        if data is None or fingerprint_bytes(data) != self.fingerprint:
            raise HarnessError(f"{self.path} has been changed since it was checked; run this again")
        return _parsed(data, self.path, self.fields, problems)


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
    data = _bytes_of(path, problems)
    if data is None:
        return None
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        problems.append(f"{path} is not the file that its manifest names; prepare the benchmark again")
        return None
    found: list[str] = []
    rows = _parsed(data, path, fields, found)
    if not rows and not found:
        found.append(f"{path} is empty")
    problems += found[:_MAX_PROBLEMS]
    if len(found) > _MAX_PROBLEMS:
        problems.append(f"{path}: {len(found) - _MAX_PROBLEMS} more problems like these")
    return None if found else Rows(path, fields, fingerprint_bytes(data), len(rows))


def _bytes_of(path: Path, problems: list[str]) -> bytes | None:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            problems.append(f"{path} has more than {MAX_FILE_BYTES >> 30} GiB: that is no file of a benchmark")
            return None
        return path.read_bytes()
    except OSError as error:
        problems.append(f"{path} cannot be read ({error.strerror}); prepare the benchmark's files first")
        return None


def _parsed(data: bytes, path: Path, fields: Mapping[str, Rule], problems: list[str]) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            problems.append(f"{path}, line {number}: no JSON ({error})")
            continue
        problems += [f"{path}, line {number}: {problem}" for problem in row_problems(record, fields)]
        if isinstance(record, dict):
            rows.append({name: record.get(name) for name in fields})
    return rows


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
