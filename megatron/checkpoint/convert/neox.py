"""Checkpoints of GPT-NeoX, which DeepSpeed writes: ``layer_*`` files of a pipeline, or ``mp_rank_*`` files without one.

Names and shapes are those of GPT-NeoX's ``megatron/model/transformer.py``. It has stored q, k and v in two ways. By
head: models with keys for every query head are trained so, and those that share keys were until November 2024
(EleutherAI/gpt-neox#1315). One after the other: models that share keys are trained so since, and the converters write
all models so since 2025 (#1345). Nothing in the file tells them apart; only running the model does.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from megatron.checkpoint.convert.assembled import AssembledSource, Entry, Held, held_in, layered
from megatron.checkpoint.convert.huggingface import read_hf_files
from megatron.checkpoint.convert.source import ConversionError, check_config
from megatron.checkpoint.hf import config_files
from megatron.config.architecture import Architecture
from megatron.config.neox_shape import neox_shape

BY_HEAD, JOINED = "by-head", "joined"
QKV_LAYOUTS = (BY_HEAD, JOINED)
"""How q, k and v of a rank may lie in one matrix: ``[q; k; v]`` for each query head, or once for all."""


def _joined(which: int) -> Callable[[Tensor, Architecture], Tensor]:
    def take(tensor: Tensor, architecture: Architecture) -> Tensor:
        parts: Sequence[Tensor] = tensor.split(_rows(tensor.shape[0], architecture))
        return parts[which]

    return take


def _rows(together: int, architecture: Architecture) -> list[int]:
    """Return how many rows of q, k and v are in so many together."""
    query, key = architecture.num_attention_heads, architecture.num_key_value_heads
    return [together * heads // (query + 2 * key) for heads in (query, key, key)]


def _by_head(which: int) -> Callable[[Tensor, Architecture], Tensor]:
    def take(tensor: Tensor, architecture: Architecture) -> Tensor:
        query, key = architecture.num_attention_heads, architecture.num_key_value_heads
        # Where keys are shared, a query head has a slice of them beside it.
        rows = _rows(architecture.head_dim * (query + 2 * key) // query, architecture)
        heads: Sequence[Tensor] = tensor.view(-1, sum(rows), tensor.shape[1]).split(rows, dim=1)
        return heads[which].reshape(-1, tensor.shape[1])

    return take


def _upper(tensor: Tensor, architecture: Architecture) -> Tensor:
    """Return the rows that come first."""
    return tensor.chunk(2)[0]


def _lower(tensor: Tensor, architecture: Architecture) -> Tensor:
    """Return the rows that come last."""
    return tensor.chunk(2)[1]


_QKV = "{block}.attention.query_key_value.weight"
_PROJECTIONS = {letter: f"self_attn.{letter}_proj.weight" for letter in "qkv"}

TABLE: Mapping[str, Entry] = MappingProxyType(
    layered(
        {
            "model.embed_tokens.weight": Entry("0.word_embeddings.weight", dim=0, padded=True),
            "input_layernorm.weight": Entry("{block}.input_layernorm.scale"),
            **{
                name: Entry(_QKV, dim=0, take=_joined(which), how=f"{letter} of [q; k; v]")
                for which, (letter, name) in enumerate(_PROJECTIONS.items())
            },
            "self_attn.o_proj.weight": Entry("{block}.attention.dense.weight", dim=1),
            "post_attention_layernorm.weight": Entry("{block}.post_attention_layernorm.scale"),
            "mlp.up_proj.weight": Entry("{block}.mlp.linear1.weight", dim=0, take=_upper, how="upper half"),
            "mlp.gate_proj.weight": Entry("{block}.mlp.linear1.weight", dim=0, take=_lower, how="lower half"),
            "mlp.down_proj.weight": Entry("{block}.mlp.linear2.weight", dim=1),
            "model.norm.weight": Entry("{last_norm}.norm.scale"),
            "lm_head.weight": Entry("{head}.final_linear.weight", dim=0, padded=True),
        }
    )
)
"""Our names and GPT-NeoX's, which begin with the number of a layer."""

_BY_HEAD: Mapping[str, Entry] = MappingProxyType(
    layered(
        {
            name: Entry(_QKV, dim=0, take=_by_head(which), how=f"{letter} of each head's [q; k; v]")
            for which, (letter, name) in enumerate(_PROJECTIONS.items())
        }
    )
)

# Before September 2024 (#1212) a Llama's feed-forward layer had Meta's names.
_OLD_FEED_FORWARD: Mapping[str, Entry] = MappingProxyType(
    layered(
        {
            "mlp.gate_proj.weight": Entry("{block}.mlp.w1.weight", dim=0),
            "mlp.down_proj.weight": Entry("{block}.mlp.w2.weight", dim=1),
            "mlp.up_proj.weight": Entry("{block}.mlp.w3.weight", dim=0),
        }
    )
)

_STATED = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "rms_norm_eps", "rope_theta",
    "tie_word_embeddings",
)  # fmt: skip
"""What a configuration of GPT-NeoX says of a model that its Hugging Face folder says, too."""

_UNUSED = ("rotary_emb.inv_freq",)
_LAYER_FILE = re.compile(r"layer_(\d+)-model_(\d+)-model_states\.pt")
_RANK_FILE = re.compile(r"mp_rank_(\d+)_model_states\.pt")


class NeoxSource(AssembledSource):
    """A ``global_step<N>`` folder, or the folder around it whose ``latest`` names one.

    Args:
        folder: the folder.
        config: a Hugging Face folder whose ``config.json`` and tokenizer belong to the model. By default the shape is
            that of the checkpoint's ``configs/*.yml``, and there is no tokenizer.
        qkv_layout: one of :data:`QKV_LAYOUTS`.

    Raises:
        ValueError: it is no such folder, or the model is not a Llama.
    """

    format = "neox"

    def __init__(self, folder: Path, config: Path | None, *, qkv_layout: str = JOINED) -> None:
        latest = folder / "latest"
        if latest.is_file():
            name = latest.read_text(encoding="utf-8", errors="replace").strip()
            if Path(name).name != name:
                raise ConversionError(f"{latest} names a folder elsewhere: {name}")
            folder = folder / name
        ranks = _ranks(folder)
        self._config = config
        files = sorted((folder / "configs").glob("*.yml"))
        if config is None:
            architecture = _architecture(files, ranks, folder)
        else:
            architecture = Architecture.from_folder(config)
            if files:
                stated = dataclasses.asdict(_architecture(files, ranks, folder))
                check_config({name: stated[name] for name in _STATED}, architecture, where=f"{folder}/configs")
        table = dict(TABLE)
        if qkv_layout == BY_HEAD:
            table |= _BY_HEAD
        if "2.mlp.w1.weight" in ranks[0]:
            table |= _OLD_FEED_FORWARD
        super().__init__(folder, architecture, ranks, table, unused=_UNUSED)
        if architecture.rope_scaling is not None:
            note = "positions are scaled, as --config says: GPT-NeoX cannot train such a model, only hold it"
            self.notes = (note, *self.notes)
        if config is None:
            self.notes = ("there is no tokenizer: --config names a Hugging Face folder that has it", *self.notes)

    def numbers(self, layer: int) -> dict[str, int]:
        """Return GPT-NeoX's numbers: embedding, a transposition, the blocks, another transposition, norm, head."""
        layers = self.architecture.num_hidden_layers
        return {"block": layer + 2, "last_norm": layers + 3, "head": layers + 4}

    def hf_files(self) -> dict[str, bytes]:
        """Return the files of ``config``, or a ``config.json`` without a tokenizer."""
        if self._config is not None:
            return read_hf_files(self._config)
        return config_files(self.architecture, self.main_dtype, bos_id=None, eos_id=None)


def _ranks(folder: Path) -> list[dict[str, Held]]:
    """Return the tensors of every rank, by the number of their layer and their name in it."""
    layers = {match: path for path in sorted(folder.glob("layer_*")) if (match := _LAYER_FILE.fullmatch(path.name))}
    ranks: dict[int, dict[str, Held]] = {}
    for match, path in layers.items():
        held = held_in(path)
        ranks.setdefault(int(match[2]), {}).update({f"{int(match[1])}.{name}": tensor for name, tensor in held.items()})
    if not ranks:
        for path in sorted(folder.glob("mp_rank_*")):
            if match := _RANK_FILE.fullmatch(path.name):
                held = held_in(path, "module")
                ranks[int(match[1])] = {name.removeprefix("sequential."): tensor for name, tensor in held.items()}
    if not ranks or not ranks[min(ranks)]:
        stage_3 = any(folder.glob("*zero_pp_rank_*_model_states.pt"))
        why = "its weights are divided by ZeRO stage 3: write it once more with stage 1" if stage_3 else (
            "it holds neither layer_*-model_*-model_states.pt nor mp_rank_*_model_states.pt with weights"
        )  # fmt: skip
        raise ConversionError(f"{folder} is no checkpoint of GPT-NeoX that can be read: {why}")
    missing = sorted(set(range(max(ranks) + 1)) - ranks.keys())
    if missing:
        raise ConversionError(f"{folder} lacks the files of model ranks {', '.join(map(str, missing))}")
    return [ranks[rank] for rank in range(len(ranks))]


def _architecture(configs: list[Path], ranks: list[dict[str, Held]], folder: Path) -> Architecture:
    """Return the shape as the configuration has it; widths are those of the tensors."""
    if not configs:
        raise ConversionError(f"{folder}/configs holds no *.yml: give --config, a Hugging Face folder of this model")
    keys = neox_shape(configs)
    nothing = Held(folder, (), torch.Size((0,)), torch.float32)
    first = ranks[0]
    fused, old = first.get("2.mlp.linear1.weight"), first.get("2.mlp.w1.weight")
    width = fused.shape[0] // 2 if fused is not None else (old or nothing).shape[0]
    heads = int(keys["num_attention_heads"])
    return Architecture(
        vocab_size=first.get("0.word_embeddings.weight", nothing).shape[0] * len(ranks),
        hidden_size=int(keys["hidden_size"]),
        intermediate_size=width * len(ranks),
        num_hidden_layers=int(keys["num_layers"]),
        num_attention_heads=heads,
        num_key_value_heads=int(keys["num_kv_heads"]) or heads,
        head_dim=int(keys["hidden_size"]) // max(1, heads),
        max_position_embeddings=int(keys["max_position_embeddings"]),
        rms_norm_eps=float(keys["rms_norm_epsilon"]),
        rope_theta=float(keys["rotary_emb_base"]),
        tie_word_embeddings=not keys["no_weight_tying"],
    )
