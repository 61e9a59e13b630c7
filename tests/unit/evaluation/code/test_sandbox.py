"""Programs that do what they should not; each of them really runs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from megatron.evaluation.code import sandbox
from megatron.evaluation.code.languages import LANGUAGES, CodeError, find_command, language_of
from megatron.evaluation.code.sandbox import CRASHED, FAILED, PASSED, TIMED_OUT, Limits, check_language, run_program

PYTHON = LANGUAGES["py"]
LIMITS = Limits(seconds=10, memory_bytes=256 << 20, file_bytes=1 << 20, processes=8)
SHORT = Limits(seconds=1, memory_bytes=256 << 20, file_bytes=1 << 20, processes=8)


@pytest.fixture(scope="module")
def isolation() -> dict[str, object]:
    return dict(check_language("py", PYTHON, LIMITS).isolation)


@pytest.mark.parametrize(
    ("source", "outcome", "said"),
    [
        ("assert 1 + 1 == 2", PASSED, ""),
        ("assert 1 + 1 == 3", FAILED, "AssertionError"),
        ("def f(:", FAILED, "SyntaxError"),
        ("x = '''", FAILED, "SyntaxError"),
        ("raise SystemExit(0)", FAILED, "it left before its end"),
        ("import os; os._exit(0)", FAILED, "it left before its end"),
        ("x = bytearray(1 << 30)", FAILED, "MemoryError"),
        ("x = []\nwhile True: x.append('a' * 1000000)", FAILED, "MemoryError"),
        ("file = open('big', 'wb')\nwhile True: file.write(b'x' * 100000)", FAILED, "File too large"),
        ("while True: print('x' * 1000)", FAILED, "xxx"),
        ("import ctypes; ctypes.string_at(0)", CRASHED, ""),
        ("import os; os.abort()", CRASHED, ""),
        ("open('here', 'w').write('x'); assert open('here').read() == 'x'", PASSED, ""),
        ("x = '\ud800'", PASSED, ""),
        ("import sys; sys.stdout.buffer.write(b'\\xff')", PASSED, "\ufffd"),
    ],
)
def test_programs_end_as_they_deserve(source: str, outcome: str, said: str) -> None:
    verdict = run_program(source, PYTHON, LIMITS)
    assert (verdict.outcome, said in verdict.output) == (outcome, True), verdict
    assert len(verdict.output) < 3000


@pytest.mark.parametrize("source", ["while True: pass", "import time; time.sleep(60)"])
def test_an_endless_program_is_ended(source: str) -> None:
    started = time.monotonic()
    assert run_program(source, PYTHON, SHORT).outcome == TIMED_OUT
    assert 0.9 < time.monotonic() - started < 8


def test_a_program_ends_with_what_confines_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_GRACE_SECONDS", -9.0)  # as on a machine that stands still
    verdict = run_program("import time; time.sleep(60)", PYTHON, LIMITS)
    assert (verdict.outcome, verdict.exit_status) == (TIMED_OUT, -signal.SIGKILL)
    time.sleep(0.2)
    assert alive("-B program.py") == []


def alive(word: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if word in line]


def test_a_fork_bomb_stays_small_and_ends() -> None:
    source = (
        "import os, time\nforks = 0\ntry:\n    while True:\n        if os.fork() == 0:\n            time.sleep(60)\n"
        "        forks += 1\nexcept OSError:\n    print('forks:', forks)\n"
    )
    verdict = run_program(source, PYTHON, LIMITS)
    forks = int(verdict.output.rpartition("forks: ")[2].split()[0])
    assert 0 < forks <= 8 and verdict.outcome == PASSED
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n"
    assert run_program(bomb, PYTHON, SHORT).outcome == TIMED_OUT
    assert alive("-B program.py") == []


def test_what_a_program_leaves_running_is_ended() -> None:
    source = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(60)\n"
        "    os._exit(0)\n"
    )
    started = time.monotonic()
    assert run_program(source, PYTHON, LIMITS).outcome == PASSED
    assert time.monotonic() - started < 8
    assert alive("-B program.py") == []


def test_nothing_outside_its_folder_is_changed(tmp_path: Path, isolation: dict[str, object]) -> None:
    if not isolation["files"]:
        pytest.skip("this kernel has no Landlock")
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents:
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)  # so that nothing but the sandbox is in its way
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "kept").chmod(0o666)
    for action in (
        f"open({str(tmp_path / 'kept')!r}, 'w')",
        f"open({str(tmp_path / 'new')!r}, 'w')",
        f"import os; os.unlink({str(tmp_path / 'kept')!r})",
        f"import os; os.truncate({str(tmp_path / 'kept')!r}, 0)",
        f"import os; os.rename('program.py', {str(tmp_path / 'new')!r})",
        f"import os; os.mkdir({str(tmp_path / 'new')!r})",
        f"import os; os.symlink('a', {str(tmp_path / 'new')!r})",
    ):
        verdict = run_program(action, PYTHON, LIMITS)
        assert verdict.outcome == FAILED and "Error: [Errno" in verdict.output, (action, verdict)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_text() == "kept"


def test_no_network_is_reached(isolation: dict[str, object]) -> None:
    if not isolation["network"]:
        pytest.skip("this kernel gives users no network namespaces")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connect = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=2)"
        assert run_program(connect, PYTHON, LIMITS).outcome == FAILED
        send = f"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))"
        assert run_program(send, PYTHON, LIMITS).outcome == FAILED
        socket.create_connection(("127.0.0.1", port), timeout=2).close()  # we do reach it


def test_other_processes_are_out_of_reach(isolation: dict[str, object]) -> None:
    if not isolation["processes"]:
        pytest.skip("this kernel gives users no process namespaces")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as victim:
        for number in (victim.pid, os.getpid()):
            verdict = run_program(f"import os; os.kill({number}, {signal.SIGKILL})", PYTHON, LIMITS)
            assert verdict.outcome == FAILED
        assert victim.poll() is None
        victim.kill()


def test_a_program_sees_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    source = "import os\nassert sorted(os.environ) == ['HOME', 'LANG', 'PATH', 'TMPDIR'], os.environ"
    more = "\nassert os.getuid() > 0\nassert os.listdir('.') == ['program.py']"
    verdict = run_program(source + more, PYTHON, LIMITS)
    assert verdict.outcome == PASSED, verdict.output


def test_no_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(tempfile.mkdtemp(prefix="programs-"))
    place.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    source = "import os\nos.makedirs('a/b')\nopen('a/b/c', 'w').close()\nos.chmod('a/b', 0)\nos.chmod('.', 0)"
    assert run_program(source, PYTHON, LIMITS).outcome == PASSED
    assert list(place.iterdir()) == []
    place.rmdir()


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_language_that_is_here_tells_right_from_wrong(name: str) -> None:
    language = language_of(name)
    try:
        check_language(name, language)
    except CodeError as error:
        pytest.skip(str(error))
    wrong = {
        "py": "assert False", "js": "throw new Error('no');", "pl": "exit 1;", "sh": "exit 3",
        "cpp": "#include <cassert>\nint main() { assert(false); }", "rs": 'fn main() { panic!("no"); }',
        "rb": "exit 1", "php": "<?php exit(1);", "lua": "os.exit(1)", "r": "stopifnot(FALSE)", "jl": "exit(1)",
    }  # fmt: skip
    assert run_program(wrong[name], language).outcome in (FAILED, CRASHED)
    broken = run_program("({[", language)
    assert name == "php" or (broken.outcome == FAILED and broken.output)


def test_programs_that_are_not_here_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CodeError, match="no-such-program is not installed"):
        find_command(("no-such-program", "x"), for_everybody=False)
    with pytest.raises(CodeError, match=r"programs in 'cobol' cannot be run; known are py, js"):
        language_of("cobol")
    monkeypatch.setattr(sandbox, "find_command", lambda *_, **__: ["/no/such/file"])
    with pytest.raises(CodeError, match=r"programs in 'py' cannot be judged here: .* failed .*cannot be started"):
        check_language("py", PYTHON, LIMITS)


def test_what_only_root_may_run_is_not_run_as_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir(mode=0o700)
    program = tmp_path / "bin" / "interpreter"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    assert find_command(("interpreter", "a"), for_everybody=False) == [str(program), "a"]
    with pytest.raises(CodeError, match="programs are not run as root"):
        find_command(("interpreter", "a"), for_everybody=True)


def test_limits_without_sense_are_refused() -> None:
    with pytest.raises(CodeError, match=r"above 0: seconds = 0, processes = -1"):
        Limits(seconds=0, processes=-1)
