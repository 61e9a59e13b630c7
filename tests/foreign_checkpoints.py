"""Small models, and their checkpoints as other programs write them, in the layouts that those document."""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from megatron.checkpoint import shards
from megatron.checkpoint.hf import save_model
from megatron.checkpoint.storage import Storage
from megatron.config.architecture import Architecture, RopeScaling
from megatron.model.llama import Llama

Weights = Mapping[str, Tensor]

BASE = Architecture(96, 64, 96, 3, 4, 4, 16, 4096, rms_norm_eps=1e-5)
SHAPES = {
    "MHA": BASE,
    "GQA": dataclasses.replace(BASE, num_key_value_heads=2),
    "tied": dataclasses.replace(BASE, tie_word_embeddings=True),
    "Llama 3.1": dataclasses.replace(
        BASE,
        num_key_value_heads=2,
        rope_theta=500_000.0,
        rope_scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 8192),
        max_position_embeddings=131_072,
    ),
}


def model_of(shape: Architecture) -> dict[str, Tensor]:
    """Weights large enough that every part of the model matters."""
    model = Llama(shape)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.15, generator=generator)
    return dict(model.state_dict())


def _block(weights: Weights, layer: int) -> dict[str, Tensor]:
    prefix = f"model.layers.{layer}."
    return {name.removeprefix(prefix): t for name, t in weights.items() if name.startswith(prefix)}


def _part(tensor: Tensor, dim: int, rank: int, ranks: int) -> Tensor:
    return tensor.chunk(ranks, dim)[rank].clone()


def write_meta(
    weights: Weights, shape: Architecture, folder: Path, *, ranks: int = 1, llama: int = 2, copies: int = 1
) -> None:
    """Write ``consolidated.*.pth`` and ``params.json``; with ``copies``, so many ranks share a head of keys."""
    folder.mkdir(parents=True)

    def pairs(matrix: Tensor) -> Tensor:
        heads = matrix.view(-1, 2, shape.head_dim // 2, matrix.shape[1])
        return heads.transpose(1, 2).reshape(matrix.shape)

    for rank in range(ranks):
        found = {
            "tok_embeddings.weight": _part(weights["model.embed_tokens.weight"], 1 if llama == 2 else 0, rank, ranks),
            "norm.weight": weights["model.norm.weight"],
            "rope.freqs": torch.zeros(shape.head_dim // 2),
        }
        head = weights.get("lm_head.weight", weights["model.embed_tokens.weight"])
        found["output.weight"] = _part(head, 0, rank, ranks)
        for layer in range(shape.num_hidden_layers):
            block, name = _block(weights, layer), f"layers.{layer}"
            shared, of = rank // copies, ranks // copies
            found |= {
                f"{name}.attention_norm.weight": block["input_layernorm.weight"],
                f"{name}.attention.wq.weight": _part(pairs(block["self_attn.q_proj.weight"]), 0, rank, ranks),
                f"{name}.attention.wk.weight": _part(pairs(block["self_attn.k_proj.weight"]), 0, shared, of),
                f"{name}.attention.wv.weight": _part(block["self_attn.v_proj.weight"], 0, shared, of),
                f"{name}.attention.wo.weight": _part(block["self_attn.o_proj.weight"], 1, rank, ranks),
                f"{name}.ffn_norm.weight": block["post_attention_layernorm.weight"],
                f"{name}.feed_forward.w1.weight": _part(block["mlp.gate_proj.weight"], 0, rank, ranks),
                f"{name}.feed_forward.w2.weight": _part(block["mlp.down_proj.weight"], 1, rank, ranks),
                f"{name}.feed_forward.w3.weight": _part(block["mlp.up_proj.weight"], 0, rank, ranks),
            }
        torch.save(found, folder / f"consolidated.{rank:02d}.pth")
    params: dict[str, object] = {
        "dim": shape.hidden_size, "n_layers": shape.num_hidden_layers, "n_heads": shape.num_attention_heads,
        "multiple_of": 256, "norm_eps": shape.rms_norm_eps, "vocab_size": -1 if llama == 2 else shape.vocab_size,
    }  # fmt: skip
    if shape.num_key_value_heads != shape.num_attention_heads:
        params["n_kv_heads"] = shape.num_key_value_heads
    if llama == 3:
        params["rope_theta"] = shape.rope_theta
    if shape.rope_scaling is not None:
        params |= {"use_scaled_rope": True}
    (folder / "params.json").write_text(json.dumps(params))


def write_neox(
    weights: Weights,
    shape: Architecture,
    folder: Path,
    *,
    ranks: int = 1,
    pipeline: bool = True,
    by_head: bool = False,
    old_feed_forward: bool = False,
    padding: int = 0,
) -> None:
    """Write ``layer_*`` files and ``mp_rank_*`` files, with what DeepSpeed puts beside the tensors."""
    (folder / "configs").mkdir(parents=True)
    layers = shape.num_hidden_layers

    def rows(name: str) -> Tensor:
        return torch.cat([weights[name], torch.zeros(padding, shape.hidden_size, dtype=weights[name].dtype)])

    for rank in range(ranks):
        files: dict[int, dict[str, Tensor]] = {
            0: {"word_embeddings.weight": _part(rows("model.embed_tokens.weight"), 0, rank, ranks)},
            layers + 3: {"norm.scale": weights["model.norm.weight"]},
        }
        if not shape.tie_word_embeddings:
            files[layers + 4] = {"final_linear.weight": _part(rows("lm_head.weight"), 0, rank, ranks)}
        for layer in range(layers):
            block = _block(weights, layer)
            qkv = [_part(block[f"self_attn.{letter}_proj.weight"], 0, rank, ranks) for letter in "qkv"]
            if by_head:
                # Where keys are shared, each query head has a slice of them beside it.
                heads = [matrix.view(shape.num_attention_heads // ranks, -1, shape.hidden_size) for matrix in qkv]
                fused = torch.cat(heads, dim=1).reshape(-1, shape.hidden_size)
            else:
                fused = torch.cat(qkv)
            gate, up = (_part(block[f"mlp.{name}_proj.weight"], 0, rank, ranks) for name in ("gate", "up"))
            down = _part(block["mlp.down_proj.weight"], 1, rank, ranks)
            files[layer + 2] = {
                "input_layernorm.scale": block["input_layernorm.weight"],
                "attention.query_key_value.weight": fused,
                "attention.rotary_emb.inv_freq": torch.ones(shape.head_dim // 2),
                "attention.dense.weight": _part(block["self_attn.o_proj.weight"], 1, rank, ranks),
                "post_attention_layernorm.scale": block["post_attention_layernorm.weight"],
                **(
                    {"mlp.w1.weight": gate, "mlp.w2.weight": down, "mlp.w3.weight": up}
                    if old_feed_forward
                    else {"mlp.linear1.weight": torch.cat([up, gate]), "mlp.linear2.weight": down}
                ),
            }
        module: dict[str, Tensor] = {}
        for number, tensors in files.items():
            if pipeline:
                torch.save(tensors, folder / f"layer_{number:02d}-model_{rank:02d}-model_states.pt")
            else:
                module |= {f"sequential.{number}.{name}": tensor for name, tensor in tensors.items()}
        state = {
            "module": module if not pipeline else None, "iteration": 1200, "args": argparse.Namespace(seed=1234),
            "random_rng_state": random.getstate(), "np_rng_state": np.random.get_state(),
            "torch_rng_state": torch.get_rng_state(), "ds_version": "0.16.5", "dp_world_size": 4,
        }  # fmt: skip
        torch.save(state, folder / f"mp_rank_{rank:02d}_model_states.pt")
    own_keys = shape.num_key_value_heads != shape.num_attention_heads
    (folder / "configs" / "model.yml").write_text(
        f"""{{
  "num-layers": {layers}, "hidden-size": {shape.hidden_size}, "num-attention-heads": {shape.num_attention_heads},
  {f'"num_kv_heads": {shape.num_key_value_heads},' if own_keys else ""}
  "seq-length": 64, "max-position-embeddings": {shape.max_position_embeddings}, "pos-emb": "rotary",
  "rotary-pct": 1, "rotary_emb_base": {shape.rope_theta},
  "no-weight-tying": {str(not shape.tie_word_embeddings).lower()},
  "norm": "rmsnorm", "rms_norm_epsilon": {shape.rms_norm_eps}, "activation": "swiglu", "mlp_multiple_of": 256,
}}
"""
    )
    (folder / "configs" / "run.yml").write_text("train_micro_batch_size_per_gpu: 4\nzero_optimization: {stage: 1}\n")


def hf_folder_of(shape: Architecture, path: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    """Write a Hugging Face folder of a model as it is before training."""
    model = Llama(shape)
    model.init_weights(seed=3)
    save_model(model.state_dict(), shape, path, dtype=dtype, bos_id=1, eos_id=2)
    # Whatever its writer has put there comes back.
    (path / "generation_config.json").write_text('{"eos_token_id": [2, 7],   "temperature": 0.6}')
    return path


@contextmanager
def power_cut(monkeypatch: pytest.MonkeyPatch, *, after: int) -> Iterator[list[str]]:
    """Let what is done here end with an error after so many files; give their names."""
    write, written = shards.write_file, []

    def failing(folder: Storage, file: shards.File, read: Any, *, ahead: int) -> Any:
        if len(written) == after:
            raise OSError("the power is gone")
        written.append(file.name)
        return write(folder, file, read, ahead=ahead)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="power"):
        patch.setattr(shards, "write_file", failing)
        yield written
