"""Reads the files of a benchmark, ``<data>/<benchmark>/<xxx_Ssss>/{train,dev,test}.jsonl``, and checks every line."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from megatron.evaluation.harness.benchmarks import GAP, NUMBER, OPTIONAL_TEXT, TEXT, HarnessBenchmark, Rule
from megatron.evaluation.harness.installed import HarnessError
from megatron.evaluation.json_lines import FileError, read_json_lines


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
        try:
            rows, fingerprint = _read(self.path, self.fields)
        except FileError:  # it could be read before
            rows, fingerprint = [], ""
        if fingerprint != self.fingerprint:
            raise HarnessError(f"{self.path} has been changed since it was checked; run this again")
        return rows


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
        rows, fingerprint = _read(path, fields, sha256=sha256)
    except FileError as error:
        problems.append(f"{error}; prepare the benchmark again")
        return None
    if not rows:
        problems.append(f"{path} is empty")
        return None
    return Rows(path, fields, fingerprint, len(rows))


def _read(path: Path, fields: Mapping[str, Rule], sha256: str | None = None) -> tuple[list[dict[str, Any]], str]:
    def checked(record: dict[str, Any]) -> dict[str, Any]:
        if wrong := row_problems(record, fields):
            raise ValueError("; ".join(wrong))
        return {name: record.get(name) for name in fields}

    return read_json_lines(path, checked, sha256=sha256)


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
