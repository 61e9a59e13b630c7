from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from megatron.config.derive import architecture_of
from megatron.config.fields import sections_in
from megatron.config.keys import LATER_KEYS, NEOX_KEYS
from megatron.config.load import config_from, load
from megatron.config.reference import benchmark_reference, corpus_reference, reference
from megatron.config.schema import SECTION_OF_KEY, SECTIONS

ROOT = Path(__file__).resolve().parents[3]

# Published sizes; those of Llama 3.2 count the tied embedding once.
PARAMETERS = {
    "llama2-7b": 6_738_415_616,
    "llama2-13b": 13_015_864_320,
    "llama2-70b": 68_976_648_192,
    "llama3-8b": 8_030_261_248,
    "llama3.1-8b": 8_030_261_248,
    "llama3.2-1b": 1_235_814_400,
    "small": 24_407_712,
}


def test_page_is_up_to_date():
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == reference(), "run tools/config_reference.py"
    page = (ROOT / "docs" / "corpus-settings.md").read_text(encoding="utf-8")
    assert page == corpus_reference(), "run tools/config_reference.py"
    page = (ROOT / "docs" / "benchmark-settings.md").read_text(encoding="utf-8")
    assert page == benchmark_reference(), "run tools/config_reference.py"


def test_page_names_every_key_once_in_its_part():
    ours, _, neox = reference().partition("## GPT-NeoX's 318 keys")
    assert all(ours.count(f"\n| `{key}` |") >= 1 for key in SECTION_OF_KEY)
    assert all(ours.count(f"\n| `{key}` |") == 1 for key in LATER_KEYS)
    assert all(neox.count(f"\n| `{key}` |") == 1 for key in NEOX_KEYS)


def test_every_field_is_documented():
    sections = [*SECTIONS.values()]
    while sections:
        section = sections.pop()
        assert section.__doc__
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"
            sections += sections_in(field.annotation)


@pytest.mark.parametrize("name", PARAMETERS)
def test_shipped_shapes_have_their_published_sizes(name, minimal, caplog):
    run = {key: minimal[key] for key in ("lr", "train_iters", "train_batch_size", "tokenizer_type", "vocab_file")}
    overrides = [f"{key}={value}" for key, value in run.items()]
    config = load([ROOT / "configs" / "models" / name], [*overrides, "seq_length=256"])
    assert architecture_of(config.model, vocab_size=None).num_parameters() == PARAMETERS[name]
    assert not caplog.records


def test_all_shipped_shapes_are_tested():
    assert {path.stem for path in (ROOT / "configs" / "models").glob("*.yml")} >= set(PARAMETERS)


def test_tool_writes_the_page(tmp_path):
    command = [sys.executable, str(ROOT / "tools" / "config_reference.py"), "--output", str(tmp_path)]
    subprocess.run(command, check=True, timeout=60)
    assert (tmp_path / "configuration.md").read_text(encoding="utf-8") == reference()


def test_packages_import_without_torch(minimal):
    code = (
        "import sys; sys.modules['torch'] = None; sys.path.insert(0, sys.argv[1])\n"
        "import pathlib, importlib\n"
        "for package in ('config', 'launch'):\n"
        "    for path in sorted(pathlib.Path(sys.argv[1], 'megatron', package).glob('*.py')):\n"
        "        importlib.import_module(f'megatron.{package}.{path.stem}'.removesuffix('.__init__'))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(ROOT)], check=True, timeout=60)
    assert config_from(minimal)
