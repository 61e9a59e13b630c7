"""The documentation says what is there: its tree, links, commands, options and configurations are compared with it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from megatron.config.benchmark_load import BENCHMARKS, load_benchmark, load_suites
from megatron.config.corpus_load import load_corpus
from megatron.config.keys import NEOX_KEYS
from megatron.config.load import load
from megatron.config.read import normal_name
from megatron.config.schema import SECTION_OF_KEY, SHAPE_KEYS

ROOT = Path(__file__).resolve().parents[3]
README = ROOT / "README.md"
GUIDES = (README, ROOT / "docs" / "quick-start.md")
_COMMAND_PAGES = (*GUIDES, *(ROOT / "docs" / f"{name}.md" for name in ("corpus", "evaluation", "tokenizers")))

# What a part of a configuration needs around it to be one.
COMPLEMENT = {
    "tokenizer_type": "SPMTokenizer",
    "vocab_file": "tokenizer.model",
    "seq_length": 64,
    "train_batch_size": 8,
    "lr": 1.0e-4,
    "train_iters": 10,
}
SHAPE = {
    "num_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 128,
}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`((?:python|make) [^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)
_ABROAD = re.compile(r"[a-z]+:", re.IGNORECASE)  # https: and mailto: are not this test's business
_SETTING = re.compile(r"([A-Za-z][\w.-]*)=")

# Written so that this file does not match itself.
_MACHINE_PATH = re.compile(r"(?<![\w.~>)}\]*-])/(?:work|root|home|Users)/[\w.]")
_REGISTRY = re.compile(
    r"pypi\.or[g]|pythonhosted\.or[g]|download\.pytorch\.or[g]|conda\.anaconda\.or[g]|registry\.npmjs\.or[g]"
    r"|proxy\.golang\.or[g]|index\.crates\.i[o]|docker\.i[o]|ghcr\.i[o]|nvcr\.i[o]|--(?:extra-)?index-url[ =]\"?http",
    re.IGNORECASE,
)


def project_files() -> list[Path]:
    """Return every file of the project: tracked, or new and not ignored."""
    git = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(git, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive has no git
        skipped = {".git", ".venv", "demo", "runs", "build", "dist", "__pycache__"}
        listed = [
            str(path.relative_to(ROOT))
            for path in ROOT.rglob("*")
            if not any(
                part in skipped or part.endswith((".egg-info", "_cache")) for part in path.relative_to(ROOT).parts
            )
        ]
    return sorted(path for name in listed if name and (path := ROOT / name).is_file())


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def pages() -> list[Path]:
    return [path for path in project_files() if path.suffix == ".md"]


# ---- the tour --------------------------------------------------------------------------------------------------------


def tour() -> dict[str, str]:
    """Return path -> description of the tree in the README; a folder's path ends with a slash."""
    section = README.read_text(encoding="utf-8").split("\n## A tour of the tree\n")[1].split("\n## ")[0]
    blocks = _FENCE.findall(section)
    assert len(blocks) == 1, "the tour is one block"
    entries: dict[str, str] = {}
    parents: list[str] = []
    for line in blocks[0][1].splitlines():
        if not line.strip():
            continue
        name, _, description = line.strip().partition(" ")
        depth = (len(line) - len(line.lstrip())) // 2
        assert depth <= len(parents), f"the tour skips a level at {line!r}"
        path = "".join(parents[:depth]) + name
        assert path not in entries, f"the tour names {path} twice"
        entries[path] = description.strip()
        parents = [*parents[:depth], *([name] if name.endswith("/") else [])]
    return entries


def test_the_tour_names_only_what_is_there() -> None:
    wrong = [
        path for path in tour() if not ((ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file())
    ]
    assert wrong == []


def test_the_tour_names_every_file_of_the_program() -> None:
    files = {
        name
        for path in project_files()
        if (name := name_of(path)).startswith(("megatron/", "tools/", "configs/", "docs/"))
        or (path.parent == ROOT and path.suffix == ".py")
    }
    files = {name for name in files if not name.endswith("/__init__.py")}
    folders = {f"{name.rpartition('/')[0]}/" for name in files if "/" in name}
    assert {path for path in files | folders if path not in tour()} == set()


def test_every_line_of_the_tour_says_something() -> None:
    assert [path for path, description in tour().items() if not description] == []


# ---- links -----------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    found: set[str] = set()
    for heading in _HEADING.findall(text):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while (anchor := slug if number == 0 else f"{slug}-{number}") in found:
            number += 1
        found.add(anchor)
    return found


def links(page: Path) -> Iterator[str]:
    text = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text(encoding="utf-8")))
    yield from (target for target in _LINK.findall(text) if not _ABROAD.match(target))


def broken_links(page: Path) -> list[str]:
    broken = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and (file.suffix != ".md" or anchor not in anchors(file))):
            broken.append(f"{page.name}: {target}")
    return broken


def test_every_relative_link_leads_somewhere() -> None:
    assert [link for page in pages() for link in broken_links(page)] == []
    assert sum(1 for page in pages() for _ in links(page)) > 20, "the links are not found any more"


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One two\n[a](#one-two) [b](#three) [c](none.md) [d](page.md#one-two) [e](page.md#x)\n")
    assert broken_links(page) == ["page.md: #three", "page.md: none.md", "page.md: page.md#x"]


# ---- configurations --------------------------------------------------------------------------------------------------


def shipped_configurations() -> list[Path]:
    return [path for path in project_files() if path.is_relative_to(ROOT / "configs") and path.suffix == ".yml"]


def loads_with_complement(part: Path, folder: Path) -> None:
    """Load a part of a configuration together with what it lacks; raises ConfigError."""
    given = {normal_name(key) for key in yaml.safe_load(part.read_text(encoding="utf-8"))}
    rest = {key: value for key, value in COMPLEMENT.items() if key not in given}
    if given & {"train_micro_batch_size_per_gpu"}:
        rest.pop("train_batch_size", None)
    if "optimizer" in given:
        rest.pop("lr", None)
    if not given & {*SHAPE_KEYS, "hf_model"}:
        rest |= SHAPE
    complement = folder / "complement.yml"
    complement.write_text(yaml.safe_dump(rest))
    load([part, complement])


@pytest.mark.parametrize("part", shipped_configurations(), ids=name_of)
def test_shipped_configuration_loads(part: Path, tmp_path: Path) -> None:
    if part.is_relative_to(ROOT / "configs" / "corpus"):
        load_corpus([part])
        return
    if part.is_relative_to(BENCHMARKS):
        assert load_suites() if part.name == "suites.yml" else load_benchmark(str(part)).name == part.stem
        return
    loads_with_complement(part, tmp_path)


def test_corpus_configurations_in_the_guide_load(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "corpus.md").read_text(encoding="utf-8")
    blocks = [text for kind, text in _FENCE.findall(page) if kind == "yaml"]
    assert len(blocks) > 3
    for block in blocks:
        given = yaml.safe_load(block)
        part = tmp_path / "block.yml"
        part.write_text(yaml.safe_dump({"inputs": [{"path": "raw"}], "output": "corpus", **given}), encoding="utf-8")
        load_corpus([part])


def test_benchmarks_in_the_guide_load(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    blocks = [text for kind, text in _FENCE.findall(page) if kind == "yaml"]
    assert len(blocks) > 2
    for block in blocks:
        part = tmp_path / "block.yml"
        part.write_text(block, encoding="utf-8")
        load_benchmark(str(part))


def test_demo_configuration_is_whole() -> None:
    assert load([ROOT / "configs" / "demo.yml"]).checkpoint.save == "demo/run"


@pytest.mark.parametrize("page", (*GUIDES, ROOT / "docs" / "tokenizers.md"), ids=name_of)
def test_configurations_in_the_guides_load(page: Path, tmp_path: Path) -> None:
    blocks = [text for kind, text in _FENCE.findall(page.read_text(encoding="utf-8")) if kind == "yaml"]
    assert blocks
    for block in blocks:
        part = tmp_path / "block.yml"
        part.write_text(block, encoding="utf-8")
        loads_with_complement(part, tmp_path)


# ---- commands --------------------------------------------------------------------------------------------------------


class Command(NamedTuple):
    """One command of a guide, as words without leading environment variables."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def commands() -> list[Command]:
    found = []
    for page in _COMMAND_PAGES:
        text = page.read_text(encoding="utf-8")
        lines = [line for kind, block in _FENCE.findall(text) if kind == "bash" for line in joined(block)]
        lines += _INLINE.findall(_FENCE.sub("", text))
        for line in lines:
            words = shlex.split(line, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                words = words[1:]
            if words:
                found.append(Command(page.name, tuple(words)))
    return found


def joined(block: str) -> list[str]:
    return [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def script_commands() -> list[Command]:
    return [
        command for command in commands() if command.words[0] == "python" and not command.words[1].startswith("-")
    ]


@cache
def help_of(script: str) -> str:
    done = subprocess.run(
        [sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, f"{script} --help: {done.stderr}"
    return done.stdout


def unknown_options(command: Command, help_text: str) -> list[str]:
    options = [word.partition("=")[0] for word in command.words[2:] if re.match(r"--?[A-Za-z]", word)]
    return [
        f"{command}: {option}"
        for option in options
        if not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", help_text)
    ]


def test_scripts_in_the_guides_exist_and_know_their_options() -> None:
    found = script_commands()
    assert len(found) > 15, "the commands are not found any more"
    scripts = sorted({command.words[1] for command in found})
    assert [script for script in scripts if not (ROOT / script).is_file()] == []
    with ThreadPoolExecutor(4) as pool:
        texts = dict(zip(scripts, pool.map(help_of, scripts), strict=True))
    assert [wrong for command in found for wrong in unknown_options(command, texts[command.words[1]])] == []


def test_an_unknown_option_is_found() -> None:
    command = Command("page", ("python", "tool.py", "--input", "x", "--in", "-d", "a-b", "--check=1"))
    wrong = unknown_options(command, "usage: tool.py [--input INPUT] [-d DIR] [--checked]")
    assert wrong == [f"{command}: --in", f"{command}: --check"]


def test_settings_in_the_guides_are_keys() -> None:
    deepy = [command for command in script_commands() if command.words[1] in ("deepy.py", "tools/plan_mixture.py")]
    known = {*SECTION_OF_KEY, *NEOX_KEYS}
    # One command of the guide shows what a misspelled key looks like.
    mistakes = {"train_iter"}
    wrong = [
        f"{command}: {setting[1]}"
        for command in deepy
        for word in command.words[2:]
        if (setting := _SETTING.match(word)) and normal_name(setting[1].split(".")[0]) not in known | mistakes
    ]
    assert wrong == []


def test_make_commands_in_the_guides_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    variables = set(re.findall(r"^(\w+) \?=", makefile, re.MULTILINE))
    wrong, checked = [], 0
    for command in commands():
        if command.words[0] != "make":
            continue
        checked += 1
        for word in command.words[1:]:
            name, equals, _ = word.partition("=")
            if name not in (variables if equals else targets):
                wrong.append(f"{command}: {name}")
    assert wrong == []
    assert checked > 3, "the commands are not found any more"


# ---- what must not be in any file ------------------------------------------------------------------------------------


def strangers(text: str) -> list[str]:
    """Return the machine paths and registry hosts in a text."""
    return [match[0] for pattern in (_MACHINE_PATH, _REGISTRY) for match in pattern.finditer(text)]


def test_no_file_names_a_machine_or_a_registry() -> None:
    wrong = []
    for path in project_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # no text file
        wrong += [f"{name_of(path)}: {found}" for found in strangers(text)]
    assert wrong == []


@pytest.mark.parametrize("where", ["wo" + "rk", "ro" + "ot", "ho" + "me"])
def test_a_machine_path_is_found(where: str) -> None:
    assert strangers(f"see /{where}/x and docs/{where}/x") == [f"/{where}/x"]


def test_a_registry_is_found() -> None:
    assert strangers("pip install -i https://py" + "pi.org/simple") == ["py" + "pi.org"]
