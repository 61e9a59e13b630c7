"""Names in Megatron-Core's ``torch_dist`` checkpoints of GPT models, and what lies under them.

Layers are stacked: a tensor of theirs holds the same matrix of all layers, along a first dimension
(``megatron.core.dist_checkpointing``; names as of ``megatron.core.models.gpt.GPTModel``).
"""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

TRACKER, BACKEND, HF = "latest_checkpointed_iteration.txt", "torch_dist", "hf"
"""A file of a ``--load`` folder that names a checkpoint; the format; our folder of Hugging Face's files."""

Part = Literal["all", "first half", "second half", "queries", "keys", "values"]


@dataclasses.dataclass(frozen=True)
class Row:
    """Where a tensor of ours lies.

    Attributes:
        ours: our name, which is Hugging Face's; ``{}`` is the number of the layer.
        theirs: Megatron-Core's name.
        part: which rows of theirs it is. ``queries``, ``keys`` and ``values`` lie by groups: the heads of queries that
            share a head of keys, that head of keys, its head of values, then the next group.
        alone: other names under which it may lie, by itself.
    """

    ours: str
    theirs: str
    part: Part = "all"
    alone: tuple[str, ...] = ()


_OURS, THEIRS = "model.layers.{}.", "decoder.layers.{}."
QKV, FC1 = f"{THEIRS}self_attention.linear_qkv.", f"{THEIRS}mlp.linear_fc1."
EMBEDDING = "embedding.word_embeddings.weight"

MAPPING = (
    Row("model.embed_tokens.weight", EMBEDDING),
    Row(f"{_OURS}input_layernorm.weight", f"{QKV}layer_norm_weight", alone=(f"{THEIRS}input_layernorm.weight",)),
    Row(f"{_OURS}self_attn.q_proj.weight", f"{QKV}weight", "queries"),
    Row(f"{_OURS}self_attn.k_proj.weight", f"{QKV}weight", "keys"),
    Row(f"{_OURS}self_attn.v_proj.weight", f"{QKV}weight", "values"),
    Row(f"{_OURS}self_attn.o_proj.weight", f"{THEIRS}self_attention.linear_proj.weight"),
    Row(
        f"{_OURS}post_attention_layernorm.weight",
        f"{FC1}layer_norm_weight",
        alone=(f"{THEIRS}pre_mlp_layernorm.weight",),
    ),
    # `singleton_local_shards` stores the halves apart.
    Row(f"{_OURS}mlp.gate_proj.weight", f"{FC1}weight", "first half", alone=(f"{FC1}weight_w",)),
    Row(f"{_OURS}mlp.up_proj.weight", f"{FC1}weight", "second half", alone=(f"{FC1}weight_v",)),
    Row(f"{_OURS}mlp.down_proj.weight", f"{THEIRS}mlp.linear_fc2.weight"),
    Row("model.norm.weight", "decoder.final_layernorm.weight"),
    Row("lm_head.weight", "output_layer.weight"),
)
"""Every tensor of a Llama model, here and there; for reading and for writing."""


@dataclasses.dataclass(frozen=True)
class Stored:
    """Where a tensor lies: rows of the tensor ``key``, there of the layer ``layer`` if layers are stacked."""

    key: str
    layer: int | None
    part: Part

    def __str__(self) -> str:
        place = self.key if self.layer is None else f"{self.key}[{self.layer}]"
        return place if self.part == "all" else f"{place}: {self.part}"


def row_of(name: str) -> tuple[Row, int | None]:
    """Return where a tensor of ours belongs, and the number of its layer."""
    number = re.match(r"model\.layers\.([0-9]+)\.", name)
    pattern = name if number is None else f"{_OURS}{name[number.end() :]}"
    return next(row for row in MAPPING if row.ours == pattern), None if number is None else int(number[1])


def stacked(pattern: str) -> str:
    """Return the name of a tensor that holds all layers."""
    return pattern.replace("{}.", "")


def place_of(name: str) -> str:
    """Return where a tensor of ours goes, for people."""
    row, layer = row_of(name)
    return str(Stored(stacked(row.theirs), layer, row.part))
