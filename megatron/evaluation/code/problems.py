"""Programming problems, as HumanEval and MultiPL-E publish them: one JSON object a line."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from megatron.evaluation.code.languages import LANGUAGES, CodeError
from megatron.utils.files import fingerprint_bytes

MAX_FILE_BYTES = 256 << 20
_MAX_PROBLEMS = 8


@dataclasses.dataclass(frozen=True)
class CodeProblem:
    """A program to be completed, and what tells whether it is right.

    Attributes:
        id: unique in its file.
        language: programming language, by MultiPL-E's names.
        prompt: the beginning of the program.
        tests: its end.
        stop: strings that end what a model writes.
    """

    id: str
    language: str
    prompt: str
    tests: str
    stop: tuple[str, ...]

    def program(self, completion: str) -> str:
        """Return the whole program."""
        return f"{self.prompt}{completion}\n{self.tests}"


@dataclasses.dataclass(frozen=True)
class CodeProblems:
    """The problems of one file.

    Attributes:
        problems: in its order.
        fingerprint: hash of the file.
    """

    problems: tuple[CodeProblem, ...]
    fingerprint: str

    @property
    def languages(self) -> list[str]:
        """Programming languages that occur, sorted."""
        return sorted({problem.language for problem in self.problems})


def read_problems(path: Path, *, limit: int | None = None) -> CodeProblems:
    """Read problems.

    A line has HumanEval's fields (``task_id``, ``prompt``, ``entry_point``, ``test``), or MultiPL-E's (``name``,
    ``language``, ``prompt``, ``tests``, and ``stop_tokens``, which may be missing).

    Args:
        path: the file.
        limit: read at most so many; for trials only.

    Raises:
        CodeError: the file cannot be read; lines that are no problems, all of them together.
    """
    data = read_bytes(path)
    wrong: list[str] = []
    found: dict[str, CodeProblem] = {}
    for number, record in json_lines(data, path, wrong):
        try:
            problem = _problem(record)
            if problem.id in found:
                raise ValueError(f"there is a second {problem.id!r}")
            found[problem.id] = problem
        except ValueError as error:
            wrong.append(f"{path}, line {number}: {error}")
    raise_all(wrong)
    if not found:
        raise CodeError(f"{path} holds no problems")
    return CodeProblems(tuple(found.values())[:limit], fingerprint_bytes(data))


def read_bytes(path: Path) -> bytes:
    """Return a file, if it is not too large to be one of problems or samples."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise CodeError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise CodeError(f"{path} cannot be read ({error.strerror})") from None


def json_lines(data: bytes, path: Path, wrong: list[str]) -> list[tuple[int, Mapping[str, Any]]]:
    """Return the objects of a file with the numbers of their lines; add to ``wrong`` what is none."""
    found: list[tuple[int, Mapping[str, Any]]] = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            wrong.append(f"{path}, line {number}: no JSON ({error})")
            continue
        if isinstance(record, dict):
            found.append((number, record))
        else:
            wrong.append(f"{path}, line {number}: no object")
    return found


def raise_all(wrong: list[str]) -> None:
    """Raise :class:`CodeError` with everything that is wrong, if anything is."""
    if wrong:
        more = [f"and {len(wrong) - _MAX_PROBLEMS} more problems"] if len(wrong) > _MAX_PROBLEMS else []
        raise CodeError("\n".join([*wrong[:_MAX_PROBLEMS], *more]))


def text_field(record: Mapping[str, Any], *names: str) -> str:
    """Return the first of some fields that is there.

    Raises:
        ValueError: none is, or it is no text.
    """
    for name in names:
        if name in record:
            if not isinstance(record[name], str):
                raise ValueError(f"{name} is {type(record[name]).__name__}, it must be a text")
            return str(record[name])
    raise ValueError(f"has no {' or '.join(names)}; it has {', '.join(sorted(record)) or 'nothing'}")


def _problem(record: Mapping[str, Any]) -> CodeProblem:
    id, prompt = text_field(record, "task_id", "name"), text_field(record, "prompt")
    if "entry_point" in record:
        entry = text_field(record, "entry_point")
        if not entry.isidentifier():
            raise ValueError(f"entry_point is {entry!r}, it must be the name of a function")
        language, tests = "py", f"{text_field(record, 'test')}\n\ncheck({entry})\n"
    else:
        language, tests = text_field(record, "language"), text_field(record, "tests")
    if language not in LANGUAGES:
        raise ValueError(f"programs in {language!r} cannot be run; known are {', '.join(LANGUAGES)}")
    stop = record.get("stop_tokens", list(LANGUAGES[language].stop))
    if not isinstance(stop, list) or not all(isinstance(text, str) for text in stop):
        raise ValueError("stop_tokens must be texts")
    return CodeProblem(id, language, prompt, tests, tuple(text for text in stop if text))
