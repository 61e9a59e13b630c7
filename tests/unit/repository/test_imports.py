"""The import direction of the design, read from the source of every module."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

# What each package may import besides itself. Arrows point down: nothing here names a package that names it back.
ALLOWED = {
    "utils": set(),
    "config": {"utils"},
    "tokenizer": {"config", "utils"},
    "data": {"tokenizer", "config", "utils"},
    "corpus": {"data", "tokenizer", "config", "utils"},
    "launch": {"config", "utils"},
    "model": {"config", "utils"},
    "optim": {"config", "utils"},
    "parallel": {"model", "optim", "data", "config", "utils"},
    "checkpoint": {"parallel", "model", "optim", "data", "tokenizer", "config", "utils"},
    "generate": {"checkpoint", "parallel", "model", "data", "tokenizer", "config", "utils"},
    "monitor": {"config", "utils"},
    "evaluation": {
        "generate", "checkpoint", "monitor", "parallel", "model", "data", "tokenizer", "config", "utils",
    },
    "train": {
        "evaluation", "generate", "checkpoint", "monitor", "parallel", "model", "optim", "data", "tokenizer", "config",
        "utils",
    },
}  # fmt: skip
# Modules that must import without torch: they run on login nodes, in corpus jobs and in every dry run.
WITHOUT_TORCH = ["config", "corpus", "launch", "tokenizer", "monitor", "utils", "data", "optim.schedule"]
TORCH_IN_DATA: set[str] = set()


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / "megatron").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield name, path


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_imports_point_down() -> None:
    wrong = []
    for name, path in modules():
        package = name.split(".")[1]
        for target in imported(path):
            parts = target.split(".")
            if parts[0] == "megatron" and len(parts) > 1 and parts[1] != package and parts[1] not in ALLOWED[package]:
                wrong.append(f"{name} imports {target}")
    assert wrong == []


def test_the_allowed_arrows_have_no_cycle() -> None:
    def reach(package: str, seen: tuple[str, ...] = ()) -> None:
        assert package not in seen, f"cycle: {' -> '.join((*seen, package))}"
        for lower in ALLOWED[package]:
            reach(lower, (*seen, package))

    for package in ALLOWED:
        reach(package)


def test_the_model_knows_of_one_device_only() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, path in modules()
        if name.startswith("megatron.model")
        for target in imported(path)
        if target.startswith(("torch.distributed", "megatron.parallel"))
    ]
    assert wrong == []


def test_only_two_places_read_the_environment() -> None:
    wrong = [
        name
        for name, path in modules()
        if not name.startswith("megatron.launch") and name != "megatron.parallel.process"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    ]
    assert wrong == []


def test_only_config_parses_yaml() -> None:
    wrong = [
        name
        for name, path in modules()
        if not name.startswith("megatron.config") and any(target.split(".")[0] == "yaml" for target in imported(path))
    ]
    assert wrong == []


def test_megatron_has_no_init() -> None:
    # With one, pip install megatron-core would break us or we it.
    assert not (ROOT / "megatron" / "__init__.py").exists()
    taken = {"core", "bridge", "energon", "training", "legacy", "post_training", "rl"}
    assert not taken & {path.name for path in (ROOT / "megatron").iterdir()}


def test_lives_beside_megatron_core() -> None:
    import megatron.core

    import megatron.config

    assert megatron.core.__file__ != megatron.config.__file__


@pytest.mark.parametrize("start", WITHOUT_TORCH)
def test_imports_without_torch(start: str) -> None:
    names = [name for name, _ in modules() if f"{name}.".startswith(f"megatron.{start}.")]
    assert names
    code = (
        "import sys, importlib\n"
        "sys.modules['torch'] = None\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
