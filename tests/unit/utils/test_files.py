from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import xxhash

from megatron.utils.files import (
    atomic_write,
    exclusive,
    fingerprint_bytes,
    fingerprint_file,
    remove_abandoned,
    write_text,
)

ROOT = Path(__file__).resolve().parents[3]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_the_new_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_write(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"


def test_what_a_killed_writer_has_left_is_removed(tmp_path: Path) -> None:
    code = """
import os, sys, signal
from pathlib import Path
from megatron.utils.files import atomic_write
with atomic_write(Path(sys.argv[1])) as file:
    os.kill(os.getpid(), signal.SIGKILL)
"""
    path, other = tmp_path / "a[b]", tmp_path / ".a[b].tmpx"
    subprocess.run([sys.executable, "-c", code, str(path)], check=False, cwd=ROOT)
    [left] = tmp_path.iterdir()
    assert left.name.startswith(".a[b].tmp")
    other.touch()
    running = tmp_path / f".a[b].tmp{os.getpid()}"
    running.touch()
    remove_abandoned(tmp_path)
    assert set(tmp_path.iterdir()) == {other, running}


def test_fingerprints_of_bytes_and_files_agree(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000  # several pieces
    (tmp_path / "file").write_bytes(data)
    assert fingerprint_file(tmp_path / "file") == fingerprint_bytes(data) == xxhash.xxh3_128_hexdigest(data)


def test_a_lock_is_held_by_one_process_and_ends_with_it(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from megatron.utils.files import exclusive\n"
        "with exclusive(Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    lock = tmp_path / "run" / ".lock"
    holder = subprocess.Popen([sys.executable, "-c", code, str(lock)], cwd=ROOT, stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    said = rf"another run is writing to .*run \(process {holder.pid} on "
    with pytest.raises(ValueError, match=said), exclusive(lock):
        pass
    holder.kill()
    holder.communicate()
    with exclusive(lock):
        assert lock.exists()


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    with atomic_write(path) as first:
        first.write(b"first")
        with atomic_write(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]
