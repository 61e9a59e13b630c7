from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from megatron.config.corpus_load import load_corpus
from megatron.config.problems import ConfigError


def load(tmp_path: Path, *overrides: str, **settings: object) -> object:
    path = tmp_path / "corpus.yml"
    path.write_text(yaml.safe_dump({"inputs": [{"path": "raw"}], "output": "out", **settings}))
    return load_corpus([path], overrides)


def test_defaults_and_overrides(tmp_path: Path) -> None:
    config = load_corpus([], ["inputs=[{path: raw}]", "output=out", "dedup.near=false", "split.valid_bytes=5"])
    assert (config.dedup.near, config.dedup.exact, config.split.valid_bytes) == (False, True, 5)
    assert config.inputs[0].path == "raw"


def test_all_problems_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, "workers=0", dedup={"nearr": True, "bands": "x"}, split={"max_fraction": 0.9}, inputz=1)
    message = str(error.value)
    for part in (
        "workers = 0",
        "Did you mean 'near'",
        "dedup.bands",
        "split.max_fraction = 0.9",
        "inputz",
        "corpus.yml:",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"tokenise": [{"output": "text", "tokenizer_type": "x", "vocab_file": "y"}]}, "not a folder of its own"),
        ({"tokenise": [{"output": "../x", "tokenizer_type": "x", "vocab_file": "y"}]}, "not a folder of its own"),
        ({"tokenise": [{"output": "s", "tokenizer_type": kind, "vocab_file": "y"} for kind in "ab"]}, "is given twice"),
        ({"inputs": [{"path": "out/text"}]}, "would read what it writes"),
    ],
)
def test_rules_over_several_keys(tmp_path: Path, settings: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load(tmp_path, **settings)
