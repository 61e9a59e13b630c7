from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from megatron.monitor.record import MetricsWriter

ROOT = Path(__file__).resolve().parents[3]


def write_step(writer: MetricsWriter, step: int) -> None:
    writer.write(
        "train", step, loss=5.0 - step, learning_rate=1e-4, gradient_norm=0.5, tokens_per_second=5.0, seconds=2.0
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with MetricsWriter(tmp_path / "run" / "metrics.jsonl") as writer:
        writer.write(
            "start", 0, parameters=1000, world_size=1, tokens_per_step=10, train_iters=4, device="cpu",
            precision="fp32", resumed_from=None,
        )  # fmt: skip
        for step in (1, 2):
            write_step(writer, step)
    return tmp_path / "run"


def watch(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "tools/watch.py", *map(str, arguments)],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_without_a_terminal_there_is_one_plain_frame(folder: Path) -> None:
    done = watch(folder, COLUMNS="80")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "running" in lines[0] and "step 2 of 4" in lines[0]
    assert "\x1b" not in done.stdout
    assert max(map(len, lines)) <= 80


def test_a_terminal_without_unicode_is_no_reason_to_fail(folder: Path) -> None:
    done = watch(folder, "--once", COLUMNS="60", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "*" in done.stdout and done.stdout.isascii()


def test_mistakes_are_told_in_one_line(tmp_path: Path, folder: Path) -> None:
    done = watch(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ") and "give the `save` folder" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = watch(folder / "metrics.jsonl")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1


def read_until(terminal: int, text: bytes, *, seconds: float = 30.0) -> bytes:
    """Read a terminal until a text appears, or to its end."""
    got, deadline = b"", time.monotonic() + seconds
    while text not in got and time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        try:
            got += os.read(terminal, 1 << 16)
        except OSError:  # the other side is closed
            break
    return got


def test_a_terminal_is_drawn_on_until_ctrl_c(folder: Path) -> None:
    terminal, other_side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "tools/watch.py", str(folder), "--interval", "0.1"],
        cwd=ROOT, env={**os.environ, "TERM": "xterm", "NO_COLOR": "1"}, stdin=other_side, stdout=other_side,
        stderr=subprocess.PIPE,
        # A shell's background jobs ignore it, and what they start does, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    os.close(other_side)
    try:
        assert b"step 2 of 4" in read_until(terminal, b"step 2 of 4")
        with MetricsWriter(folder / "metrics.jsonl") as writer:
            write_step(writer, 3)
        assert b"step 3 of 4" in read_until(terminal, b"step 3 of 4")
        process.send_signal(signal.SIGINT)
        left = read_until(terminal, b"no such text", seconds=5.0)
        assert b"step 3 of 4" in left.split(b"\x1b[?1049l")[1]  # the last frame stays in the terminal
        assert process.stderr is not None and process.stderr.read() == b""
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
