"""Megatron-Core's own checkpoints become Hugging Face folders that compute the same, and ours load in Megatron-Core."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from megatron.checkpoint.convert.run import Conversion, convert
from megatron.checkpoint.convert.torch_dist import TorchDistFolder
from megatron.config.architecture import Architecture, RopeScaling

transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install transformers")
pytest.importorskip("megatron.core", reason="megatron-core is not installed: pip install megatron-core")
pytest.importorskip("psutil", reason="megatron-core saves with it: pip install psutil")

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-5  # of the largest logit
LENGTH = 48
# One frequency of these is divided by the factor, one is interpolated, and the others stay.
SCALED = Architecture(
    64, 32, 48, 2, 4, 2, 8, 64, rope_theta=500_000.0, rope_scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 8192)
)
SHAPES = {
    "many heads": Architecture(64, 32, 48, 2, 4, 4, 8, 64, rope_theta=10_000.0),
    "grouped heads": Architecture(64, 32, 48, 3, 8, 2, 8, 64, rms_norm_eps=1e-6),
    "tied": Architecture(70, 32, 48, 2, 4, 2, 8, 64, tie_word_embeddings=True),
    "scaled positions": SCALED,
    "layers apart": Architecture(64, 32, 48, 2, 4, 2, 8, 64),
}
PADDED = {"tied": 96}
"""Rows of the vocabulary in Megatron-Core, where they are more than there are tokens."""
METADATA = {"layers apart": {"singleton_local_shards": True}}
"""What Megatron-Core is told about how to store."""


def hf_model(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def hf_logits(folder: Path, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return hf_model(folder)(tokens).logits


def prepared(folder: Path) -> torch.Tensor:
    """Write a Hugging Face model for every case, and what is made of it for Megatron-Core; return tokens."""
    tokens = torch.randint(0, 64, (2, LENGTH), generator=torch.Generator().manual_seed(1))
    torch.save(tokens, folder / "tokens.pt")
    for name, shape in SHAPES.items():
        case = folder / name
        torch.manual_seed(11)
        config = transformers.LlamaConfig(**shape.to_hf())
        config.initializer_range = 0.3
        model = transformers.LlamaForCausalLM(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.uniform_(0.5, 1.5)
        model.save_pretrained(case / "hf")
        list(convert(Conversion("hf", str(case / "hf"), "megatron-core", str(case / "ours"))))
        values = dataclasses.asdict(shape)
        extra = {"padded_vocab_size": PADDED.get(name, shape.vocab_size), "metadata": METADATA.get(name)}
        (case / "shape.json").write_text(json.dumps({**values, **extra}))
    return tokens


@pytest.fixture(scope="module", params=[1, 2], ids=["TP 1", "TP 2"])
def cases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """What Megatron-Core has saved and computed for all shapes, in as many processes."""
    folder, size = tmp_path_factory.mktemp("megatron-core"), request.param
    prepared(folder)
    told = {"CASES": str(folder), "SIZE": str(size), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "tests/parity/megatron_core_models.py")],
            env={**os.environ, **told, "RANK": str(rank)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(size)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=150)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), "\n".join(outputs)
    yield folder, size


def largest(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Return the largest difference, as a share of the largest number."""
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("name", SHAPES)
def test_what_megatron_core_saved_computes_the_same(
    cases: tuple[Path, int], name: str, record_property: Callable[[str, object], None], tmp_path: Path
) -> None:
    folder, _ = cases
    tokens, case = torch.load(folder / "tokens.pt"), folder / name
    if name == "layers apart":
        stored = TorchDistFolder(case / "theirs" / "iter_0000007").tensors
        assert {"decoder.layers.1.mlp.linear_fc1.weight_w", "decoder.layers.1.mlp.linear_fc1.weight_v"} < stored.keys()
    theirs = torch.load(case / "logits.pt")["saved"][..., : SHAPES[name].vocab_size]
    # Only where the vocabulary is padded the arguments do not say how many tokens there are.
    config = case / "hf" if name in PADDED else None
    wanted = Conversion("megatron-core", str(case / "theirs"), "hf", str(tmp_path / "back"), config=config)
    notes = list(convert(wanted))
    assert any("26 rows of the vocabulary are padding" in note for note in notes) == (name in PADDED)
    assert any("left out: _extra_state" in note for note in notes)
    assert Architecture.from_folder(tmp_path / "back") == dataclasses.replace(
        SHAPES[name], initializer_range=0.3 if config else 0.02
    )
    difference = largest(hf_logits(tmp_path / "back", tokens), theirs)
    record_property("difference", difference)
    assert difference < TOLERANCE


@pytest.mark.parametrize("name", SHAPES)
def test_megatron_core_loads_what_we_wrote(
    cases: tuple[Path, int], name: str, record_property: Callable[[str, object], None]
) -> None:
    folder, size = cases
    tokens, case, shape = torch.load(folder / "tokens.pt"), folder / name, SHAPES[name]
    theirs = torch.load(case / "logits.pt")["loaded"][..., : shape.vocab_size]
    difference = largest(theirs, hf_logits(case / "hf", tokens))
    record_property("difference", difference)
    assert difference < TOLERANCE
    if size == 1:
        state, weights = torch.load(case / "state.pt"), load_file(case / "hf" / "model.safetensors")
        embedding = state["embedding.word_embeddings.weight"]
        assert torch.equal(embedding[: shape.vocab_size], weights["model.embed_tokens.weight"])
        assert not embedding[shape.vocab_size :].any()
        for layer in range(shape.num_hidden_layers):
            ours, mine = f"model.layers.{layer}.", f"decoder.layers.{layer}."
            heads = {
                part: weights[f"{ours}self_attn.{part}_proj.weight"].split(shape.head_dim) for part in ("q", "k", "v")
            }
            share = shape.num_attention_heads // shape.num_key_value_heads
            rows = [
                row
                for group in range(shape.num_key_value_heads)
                for row in (*heads["q"][group * share : (group + 1) * share], heads["k"][group], heads["v"][group])
            ]
            assert torch.equal(state[f"{mine}self_attention.linear_qkv.weight"], torch.cat(rows))
            gated = [weights[f"{ours}mlp.{part}_proj.weight"] for part in ("gate", "up")]
            assert torch.equal(state[f"{mine}mlp.linear_fc1.weight"], torch.cat(gated))
            assert torch.equal(state[f"{mine}mlp.linear_fc2.weight"], weights[f"{ours}mlp.down_proj.weight"])
            assert torch.equal(state[f"{mine}input_layernorm.weight"], weights[f"{ours}input_layernorm.weight"])


def test_the_test_would_notice_the_scaling(cases: tuple[Path, int], tmp_path: Path) -> None:
    """Logits without it differ by far more than is let pass."""
    folder, _ = cases
    case, tokens = folder / "scaled positions", torch.load(folder / "tokens.pt")
    config = json.loads((case / "hf" / "config.json").read_text())
    for key in ("rope_scaling", "rope_parameters"):
        config.pop(key, None)
    (tmp_path / "config.json").write_text(json.dumps({**config, "rope_theta": SCALED.rope_theta}))
    (tmp_path / "model.safetensors").symlink_to(case / "hf" / "model.safetensors")
    assert largest(hf_logits(tmp_path, tokens), hf_logits(case / "hf", tokens)) > 100 * TOLERANCE
