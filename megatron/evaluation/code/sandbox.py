"""Runs programs that a model wrote, each confined in a process and a folder of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from megatron.evaluation.code.languages import CodeError, ProgrammingLanguage, find_command

PASSED, FAILED, TIMED_OUT, CRASHED = "passed", "failed", "timed out", "crashed"
OUTCOMES = (PASSED, FAILED, TIMED_OUT, CRASHED)

_CONFINE = Path(__file__).with_name("confine.py")
_OUTPUT_BYTES = 2000
_GRACE_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a program may use.

    Attributes:
        seconds: of wall-clock time, its start included; each of its processes may use as much processor time.
        compile_seconds: the same for its compiler.
        memory_bytes: that each of its processes may write to; shared memory does not count.
        file_bytes: of each file, and of what it prints.
        processes: and threads at a time.
    """

    seconds: float = 10.0
    compile_seconds: float = 60.0
    memory_bytes: int = 2 << 30
    file_bytes: int = 16 << 20
    processes: int = 64

    def __post_init__(self) -> None:
        wrong = [f"{name} = {value}" for name, value in dataclasses.asdict(self).items() if value <= 0]
        if wrong:
            raise CodeError(f"limits must be above 0: {', '.join(wrong)}")


class Verdict(NamedTuple):
    """How a program ended.

    Attributes:
        outcome: ``passed``; ``failed``: it ended with an error, or left before its tests were over, or is no program;
            ``timed out``; ``crashed``: a signal ended it, as when it breaks a limit.
        output: the end of what it printed.
        seconds: that it took.
        exit_status: of the operating system; minus the signal, or 128 and the signal.
        isolation: what was kept apart, see :mod:`megatron.evaluation.code.confine`.
    """

    outcome: str
    output: str
    seconds: float
    exit_status: int
    isolation: Mapping[str, Any]


def run_program(source: str, language: ProgrammingLanguage, limits: Limits | None = None) -> Verdict:
    """Run a program, compiled before if its language asks for it, in an empty folder that is removed afterwards.

    Raises:
        CodeError: an interpreter or a compiler is not installed, or may not be run.
    """
    limits = limits or Limits()
    mark = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="program-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        marked = source + language.mark.replace("{mark}", mark)
        # A model may write half of a surrogate pair, which no file can hold.
        (folder / language.file).write_bytes(marked.encode("utf-8", errors="replace"))
        if language.compile:
            compiled = _run(language, language.compile, folder, limits, seconds=limits.compile_seconds)
            if compiled.outcome != PASSED:
                return compiled
        verdict = _run(language, language.run, folder, limits, seconds=limits.seconds)
    if verdict.outcome == PASSED and language.mark and mark not in verdict.output:
        return verdict._replace(outcome=FAILED, output=f"{verdict.output}\n(it left before its end)")
    return verdict._replace(output=verdict.output.replace(mark, "").rstrip()) if language.mark else verdict


def check_language(name: str, language: ProgrammingLanguage, limits: Limits | None = None) -> Verdict:
    """Run a program that is right.

    Returns:
        How it ended; its ``isolation`` is that of all programs.

    Raises:
        CodeError: it did not pass: what programs of this language need is not here, or the limits are too low.
    """
    verdict = run_program(language.right, language, limits)
    if verdict.outcome != PASSED:
        raise CodeError(
            f"programs in {name!r} cannot be judged here: one that is right has {verdict.outcome} "
            f"(exit status {verdict.exit_status}): {verdict.output or 'it printed nothing'}"
        )
    return verdict


def _run(
    language: ProgrammingLanguage, command: Sequence[str], folder: Path, limits: Limits, *, seconds: float
) -> Verdict:
    found = find_command(command, for_everybody=os.geteuid() == 0)
    reading, writing = os.pipe()
    settings = {
        "command": found,
        "folder": str(folder),
        "environment": _environment(folder),
        "seconds": seconds,
        "memory_bytes": limits.memory_bytes,
        "limit_addresses": not language.reserves_addresses,
        "file_bytes": limits.file_bytes,
        "processes": limits.processes,
        "report": writing,
    }
    outer = [sys.executable, "-I", "-S", str(_CONFINE), json.dumps(settings)]
    with os.fdopen(reading, "rb") as report, tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                outer, cwd="/", env={}, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=(writing,)
            )
        finally:
            os.close(writing)
        is_late = False
        try:
            process.wait(timeout=seconds + _GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            is_late = True
            process.kill()
            process.wait()
        told = report.read()
        text = _end_of(output)
    if told:
        return _verdict(json.loads(told), text)
    if process.returncode >= 0:
        raise CodeError(f"a program could not be confined: {text or 'no reason was given'}")
    # What confines it was ended with it: by the kernel, when memory ran out, or by us, on a machine that stands still.
    outcome = TIMED_OUT if is_late else CRASHED
    return Verdict(outcome, text, seconds, process.returncode, {})


def _verdict(told: Mapping[str, Any], output: str) -> Verdict:
    status = int(told["status"])
    if told["late"]:
        outcome = TIMED_OUT
    elif status == 0:
        outcome = PASSED
    else:
        outcome = CRASHED if status < 0 or status > 128 else FAILED
    isolation = {key: told[key] for key in ("network", "processes", "files", "user")}
    return Verdict(outcome, output, float(told["seconds"]), status, isolation)


def _environment(folder: Path) -> dict[str, str]:
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8"}


def _end_of(file: Any) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _OUTPUT_BYTES))
    text: str = file.read().decode("utf-8", errors="replace")
    return text.rstrip()
