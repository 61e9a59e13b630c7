"""The project can be built and installed from its own source archive, without the repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
BUILD = (
    "import sys; from setuptools import build_meta\n"
    "getattr(build_meta, f'build_{sys.argv[1]}')(sys.argv[2])\n"
)


def build(kind: str, source: Path, output: Path) -> Path:
    command = [sys.executable, "-c", BUILD, kind, str(output)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    [path] = output.iterdir()
    return path


def files(*folders: str) -> set[str]:
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    return {path.relative_to(ROOT).as_posix() for path in found if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the unpacked source archive of a copy of the project, which leaves nothing in the repository."""
    pytest.importorskip("setuptools", minversion="77", reason="building needs setuptools 77")
    folder = tmp_path_factory.mktemp("packaging")
    skipped = shutil.ignore_patterns(
        ".*", "*.egg-info", "*_cache", "__pycache__", "build", "dist", "demo", "runs", "tests"
    )
    shutil.copytree(ROOT, folder / "copy", ignore=skipped)
    with tarfile.open(build("sdist", folder / "copy", folder / "sdist")) as tar:
        tar.extractall(folder / "unpacked")
    [unpacked] = (folder / "unpacked").iterdir()
    return unpacked


def test_source_archive_is_complete(archive: Path) -> None:
    wanted = files("megatron", "requirements", "tools", "configs", "docs") | {path.name for path in ROOT.glob("*.py")}
    held = {path.relative_to(archive).as_posix() for path in archive.rglob("*") if path.is_file()}
    assert sorted({*wanted, "README.md", "LICENSE", "Makefile", "pyproject.toml"} - held) == []


def test_wheel_is_built_from_the_archive_alone(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(build("wheel", archive, tmp_path / "wheel")) as wheel:
        names = set(wheel.namelist())
        [metadata] = [wheel.read(name).decode() for name in names if name.endswith(".dist-info/METADATA")]
    assert sorted(files("megatron") - names) == []
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"megatron"}
    lines = metadata.splitlines()
    assert "Provides-Extra: test" in lines
    required = [line for line in lines if line.startswith("Requires-Dist: ")]
    assert any(line.startswith("Requires-Dist: torch==") and "extra" not in line for line in required)
    assert any(line.startswith("Requires-Dist: pytest==") and 'extra == "test"' in line for line in required)
