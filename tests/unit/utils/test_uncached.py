from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from megatron.utils import uncached
from megatron.utils.files import atomic_write
from tests.disks import small_disk


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, (9 << 20) + 12345])
@pytest.mark.parametrize("direct", [True, False])
def test_what_is_written_is_there(size: int, direct: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not direct:
        monkeypatch.setattr(uncached, "_O_DIRECT", 0)
    data, pieces = random.Random(size).randbytes(size), random.Random(0)
    with atomic_write(tmp_path / "x", cached=False) as file:
        rest = memoryview(data)
        while rest:
            count = pieces.choice([1, 7, 4096, 100_000, 5 << 20])
            assert file.write(rest[:count]) == len(rest[:count])
            rest = rest[count:]
    assert (tmp_path / "x").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("when", ["opening", "writing"])
def test_a_file_system_that_cannot(when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    real_open, real_write = os.open, os.write

    def refusing_open(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT and when == "opening":
            calls.append("open")
            raise OSError(errno.EINVAL, "Invalid argument")
        return real_open(path, flags, mode)

    def refusing_write(descriptor: int, data: memoryview) -> int:
        if when == "writing" and not calls:
            calls.append("write")
            raise OSError(errno.EINVAL, "Invalid argument")
        return real_write(descriptor, data)

    monkeypatch.setattr(os, "open", refusing_open)
    monkeypatch.setattr(os, "write", refusing_write)
    data = random.Random(1).randbytes((5 << 20) + 3)
    with atomic_write(tmp_path / "x", cached=False) as file:
        file.write(data)
    assert calls and (tmp_path / "x").read_bytes() == data


def test_writes_that_are_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[: max(1, len(data) // 3)]))
    data = random.Random(1).randbytes((5 << 20) + 3)
    with atomic_write(tmp_path / "x", cached=False) as file:
        file.write(data)
    assert (tmp_path / "x").read_bytes() == data


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8 << 20) as disk:
        with pytest.raises(OSError, match="No space left"), atomic_write(disk / "x", cached=False) as file:
            for _ in range(12):
                file.write(bytes(1 << 20))
        assert not [path for path in disk.iterdir() if path.name != "lost+found"]
