"""Programming problems, as HumanEval and MultiPL-E publish them: one JSON object a line."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from megatron.evaluation.code.languages import LANGUAGES, CodeError
from megatron.evaluation.json_lines import FileError, read_json_lines

MAX_FILE_BYTES = 256 << 20

_T = TypeVar("_T")


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
    ids: set[str] = set()

    def another(record: dict[str, Any]) -> CodeProblem:
        problem = _problem(record)
        if problem.id in ids:
            raise ValueError(f"there is a second {problem.id!r}")
        ids.add(problem.id)
        return problem

    problems, fingerprint = read_objects(path, another, what="problems")
    return CodeProblems(tuple(problems[:limit]), fingerprint)


def read_objects(path: Path, convert: Callable[[dict[str, Any]], _T], *, what: str) -> tuple[list[_T], str]:
    """Return what is made of the objects of a file, at least one, and the fingerprint of the file.

    Raises:
        CodeError: as :func:`read_json_lines`; or there is none.
    """
    try:
        found, fingerprint = read_json_lines(path, convert, most_bytes=MAX_FILE_BYTES)
    except FileError as error:
        raise CodeError(str(error)) from None
    if not found:
        raise CodeError(f"{path} holds no {what}")
    return found, fingerprint


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
