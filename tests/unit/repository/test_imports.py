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
    "languages": set(),
    "config": {"utils"},
    "tokenizer": {"languages", "config", "utils"},
    "data": {"tokenizer", "config", "utils"},
    "corpus": {"data", "tokenizer", "languages", "config", "utils"},
    "launch": {"config", "utils"},
    "simulate": {"config", "utils"},
    "model": {"config", "utils"},
    "optim": {"config", "utils"},
    "parallel": {"launch", "model", "optim", "data", "config", "utils"},
    "checkpoint": {"parallel", "model", "optim", "data", "tokenizer", "config", "utils"},
    "generate": {"checkpoint", "parallel", "model", "data", "tokenizer", "config", "utils"},
    "monitor": {"config", "utils"},
    "evaluation": {
        "generate", "checkpoint", "monitor", "parallel", "model", "data", "tokenizer", "languages", "config", "utils",
    },
    "train": {
        "evaluation", "generate", "checkpoint", "monitor", "parallel", "model", "optim", "simulate", "data",
        "tokenizer", "config", "utils",
    },
}  # fmt: skip
# Single modules beyond that, which stand below the package that may import them.
ALLOWED_MODULES = {
    "evaluation": {
        "corpus.languages", "corpus.pairs.names", "corpus.reading.fields",
        "corpus.reading.jsonl", "corpus.reading.problems", "corpus.reading.tables",
    },
}  # fmt: skip
# Modules that must import without torch: they run on login nodes, in corpus jobs and in every dry run.
WITHOUT_TORCH = [
    "config", "corpus", "languages", "launch", "simulate", "tokenizer", "monitor", "utils", "data", "optim.schedule",
    "evaluation.metrics", "evaluation.benchmarks.prepare", "evaluation.benchmarks.rescore",
]  # fmt: skip
# Scripts that may look at the environment: they hand it to megatron.launch, which picks what a run may know.
READ_THE_ENVIRONMENT = {"deepy.py", "tools/corpus.py", "tools/plan_mixture.py"}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / "megatron").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield name, path


def scripts() -> Iterator[tuple[str, Path]]:
    for path in sorted([*ROOT.glob("*.py"), *(ROOT / "tools").rglob("*.py")]):
        yield path.relative_to(ROOT).as_posix(), path


def imports_of(source: str) -> Iterator[str]:
    """Yield the modules that a source imports; what is taken from the namespace ``megatron`` is one, too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"megatron.{alias.name}" for alias in node.names) if module == "megatron" else (module,)


def imported(path: Path) -> Iterator[str]:
    yield from imports_of(path.read_text(encoding="utf-8"))


def wrong_imports(package: str, source: str) -> list[str]:
    """Return what a module of ``package`` imports against the direction; relative imports and a bare megatron, too."""
    wrong = []
    for target in imports_of(source):
        top, _, rest = target.partition(".")
        if top == "megatron" and rest in ALLOWED_MODULES.get(package, ()):
            continue
        if top == "" or (top == "megatron" and rest.split(".")[0] not in {package, *ALLOWED[package]}):
            wrong.append(target)
    return wrong


def reads_environment(source: str) -> bool:
    names = {"environ", "environb", "getenv", "getenvb"}
    return any(
        (isinstance(node, ast.Attribute) and node.attr in names)
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and names & {alias.name for alias in node.names})
        for node in ast.walk(ast.parse(source))
    )


def test_imports_point_down() -> None:
    assert {
        name: wrong
        for name, path in modules()
        if (wrong := wrong_imports(name.split(".")[1], path.read_text(encoding="utf-8")))
    } == {}


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("from megatron.config.load import load", []),
        ("from megatron import config, data", []),
        ("import megatron.data.order, megatron.utils.log", []),
        ("from megatron import train", ["megatron.train"]),
        ("from megatron import config, train as t", ["megatron.train"]),
        ("def f():\n  import megatron.train.build", ["megatron.train.build"]),
        ("import megatron", ["megatron"]),
        ("from ..train import build", ["..train"]),
        ("from . import order", ["."]),
    ],
)
def test_every_way_to_import_is_seen(source: str, wrong: list[str]) -> None:
    assert wrong_imports("data", source) == wrong


@pytest.mark.parametrize(
    ("package", "source", "wrong"),
    [
        ("evaluation", "from megatron.corpus.languages import Label", []),
        ("evaluation", "from megatron.corpus.languages_of import x", ["megatron.corpus.languages_of"]),
        ("evaluation", "from megatron.corpus import languages", ["megatron.corpus"]),
        ("generate", "from megatron.corpus.languages import Label", ["megatron.corpus.languages"]),
    ],
)
def test_single_modules_are_allowed_to_one_package(package: str, source: str, wrong: list[str]) -> None:
    assert wrong_imports(package, source) == wrong


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("import os\nos.environ['A']", True),
        ("import os\nos.getenv('A')", True),
        ("from os import environ as e", True),
        ("from os import path", False),
        ("environ = 1", False),
    ],
)
def test_every_way_to_read_the_environment_is_seen(source: str, reads: bool) -> None:
    assert reads_environment(source) is reads


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
    found = {
        name
        for name, path in modules()
        if not name.startswith("megatron.launch") and reads_environment(path.read_text(encoding="utf-8"))
    }
    assert found <= {"megatron.parallel.process"}


def test_scripts_leave_the_environment_to_the_launcher() -> None:
    found = {name for name, path in scripts() if reads_environment(path.read_text(encoding="utf-8"))}
    assert found <= READ_THE_ENVIRONMENT


@pytest.mark.parametrize("script", ["train.py", "eval.py"])
def test_root_scripts_hold_no_logic(script: str) -> None:
    assert len((ROOT / script).read_text(encoding="utf-8").splitlines()) <= 60, "parse, build, run"


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
