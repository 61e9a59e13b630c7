"""Meta's own releases of Llama 2 and 3: ``params.json`` and ``consolidated.*.pth``, a file for each rank.

Source of names and shapes: https://github.com/meta-llama/llama-models.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from megatron.checkpoint.convert.assembled import AssembledSource, Entry, Held, held_in, layered, load_held
from megatron.checkpoint.convert.huggingface import read_hf_files
from megatron.checkpoint.convert.source import ConversionError, check_config
from megatron.checkpoint.hf import config_files
from megatron.config.architecture import Architecture, RopeScaling
from megatron.tokenizer.base import Tokenizer
from megatron.tokenizer.load import load_model_file


def _halves(tensor: Tensor, architecture: Architecture) -> Tensor:
    """Return pairs of neighbours as two halves of each head."""
    # Meta turns the pairs (0, 1), (2, 3), ... of a head's dimensions; we, as Hugging Face, (0, n/2), (1, n/2 + 1), ...
    pairs = tensor.view(-1, architecture.head_dim // 2, 2, tensor.shape[1])
    return pairs.transpose(1, 2).reshape(tensor.shape)


_HOW = "pairs as halves"
_EMBEDDING, _OUTPUT = "tok_embeddings.weight", "output.weight"

TABLE: Mapping[str, Entry] = MappingProxyType(
    layered(
        {
            "model.embed_tokens.weight": Entry(_EMBEDDING, dim=1),  # Llama 3: dim=0
            "input_layernorm.weight": Entry("layers.{layer}.attention_norm.weight"),
            "self_attn.q_proj.weight": Entry("layers.{layer}.attention.wq.weight", dim=0, take=_halves, how=_HOW),
            "self_attn.k_proj.weight": Entry(
                "layers.{layer}.attention.wk.weight", dim=0, take=_halves, how=_HOW, repeated=True
            ),
            "self_attn.v_proj.weight": Entry("layers.{layer}.attention.wv.weight", dim=0, repeated=True),
            "self_attn.o_proj.weight": Entry("layers.{layer}.attention.wo.weight", dim=1),
            "post_attention_layernorm.weight": Entry("layers.{layer}.ffn_norm.weight"),
            "mlp.gate_proj.weight": Entry("layers.{layer}.feed_forward.w1.weight", dim=0),
            "mlp.down_proj.weight": Entry("layers.{layer}.feed_forward.w2.weight", dim=1),
            "mlp.up_proj.weight": Entry("layers.{layer}.feed_forward.w3.weight", dim=0),
            "model.norm.weight": Entry("norm.weight"),
            "lm_head.weight": Entry(_OUTPUT, dim=0),
        }
    )
)
"""Our names and Meta's."""

_UNUSED = ("rope.freqs",)


class MetaSource(AssembledSource):
    """A folder with ``params.json`` and ``consolidated.00.pth``, ``consolidated.01.pth``, ...

    Args:
        folder: the folder. The tokenizer is its ``tokenizer.model``, or that of the folder around it.
        config: a Hugging Face folder whose ``config.json`` and tokenizer are taken instead.
        permuted: give q and k as our model wants them; otherwise as they are stored, for whoever computes as Meta does.

    Raises:
        ConversionError: it is no such folder, or the model is not a Llama.
    """

    format = "meta"

    def __init__(self, folder: Path, config: Path | None, *, permuted: bool = True) -> None:
        ranks = [held_in(path) for path in sorted(folder.glob("consolidated.*.pth"))]
        if not ranks:
            raise ConversionError(f"{folder} holds no consolidated.00.pth")
        self._config = config
        # Llama 2 divides the columns of the embedding, Llama 3 its rows; the norms have the whole width.
        width = ranks[0].get("norm.weight", _NONE).shape
        by_rows = ranks[0].get(_EMBEDDING, _NONE).shape[1:] == width
        tied = _is_tied(ranks, by_rows=by_rows)
        notes: list[str] = []
        if config is None:
            architecture = _architecture(_params(folder), ranks, notes, by_rows=by_rows, tied=tied)
        else:
            architecture = Architecture.from_folder(config)
            if (folder / "params.json").is_file():
                _check_config(_params(folder), architecture)
        table = dict(TABLE)
        if by_rows:
            table["model.embed_tokens.weight"] = Entry(_EMBEDDING, dim=0)
        if not permuted:
            table = {name: Entry(entry.name, entry.dim, repeated=entry.repeated) for name, entry in table.items()}
        unused = (*_UNUSED, *((_OUTPUT,) if architecture.tie_word_embeddings and tied else ()))
        super().__init__(folder, architecture, ranks, table, unused=unused)
        self.notes = (*notes, *self.notes)

    def hf_files(self) -> dict[str, bytes]:
        """Return the files of ``config``, or make them."""
        if self._config is not None:
            return read_hf_files(self._config)
        tokenizer = _tokenizer(self._folder)
        bos_id, eos_id = (tokenizer.bos_id, tokenizer.eod_id) if tokenizer else (None, None)
        files = config_files(self.architecture, self.main_dtype, bos_id=bos_id, eos_id=eos_id)
        if tokenizer is not None:
            with tempfile.TemporaryDirectory() as name:
                tokenizer.save(Path(name), prepend_bos=True)
                files |= {path.name: path.read_bytes() for path in Path(name).iterdir()}
        return files


_NONE = Held(Path(), (), torch.Size(()), torch.float32)


def _params(folder: Path) -> dict[str, Any]:
    path = folder / "params.json"
    try:
        params = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConversionError(f"{path} is missing; or give --config, a Hugging Face folder of this model") from None
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(params, dict):
        raise ConversionError(f"{path} must hold one JSON object")
    return params


def _architecture(
    params: Mapping[str, Any], ranks: list[dict[str, Held]], notes: list[str], *, by_rows: bool, tied: bool
) -> Architecture:
    """Return the shape; widths are those of the tensors, which ``params.json`` tells in a roundabout way."""
    hidden, heads = _count(params, "dim"), _count(params, "n_heads")
    theta = _number(params, "rope_theta", 10_000.0)
    scaling = None
    if params.get("use_scaled_rope"):
        if tied and "rope_scaling_factor" not in params:
            raise ConversionError(
                "params.json asks for scaled positions and not by how much: 8 for Llama 3.1, 32 for Llama 3.2; give "
                "--config, a Hugging Face folder of this model"
            )
        scaling = RopeScaling("llama3", _number(params, "rope_scaling_factor", 8.0), 1.0, 4.0, 8192)
        if "rope_scaling_factor" not in params:
            notes.append("positions are scaled by 8, as in Llama 3.1, since params.json does not tell by how much")
    # Not written down anywhere: the lengths of the releases.
    longest = 131_072 if scaling else 8_192 if theta == 500_000.0 else 4_096
    notes.append(f"max_position_embeddings = {longest:,} is assumed, since params.json does not tell")
    query = ranks[0].get("layers.0.attention.wq.weight", _NONE).shape
    if len(query) == 2 and hidden % query[0] == 0 and hidden // query[0] != len(ranks):
        raise ConversionError(
            f"there are {len(ranks)} files consolidated.*.pth, and the model is divided into {hidden // query[0]}"
        )
    embedding = ranks[0].get(_EMBEDDING, _NONE).shape
    width = ranks[0].get("layers.0.feed_forward.w1.weight", _NONE).shape
    if len(embedding) != 2 or len(width) != 2:
        raise ConversionError("consolidated.00.pth holds no Llama: it lacks tok_embeddings or layers.0.feed_forward.w1")
    return Architecture(
        vocab_size=embedding[0] * (len(ranks) if by_rows else 1),
        hidden_size=hidden,
        intermediate_size=width[0] * len(ranks),
        num_hidden_layers=_count(params, "n_layers"),
        num_attention_heads=heads,
        num_key_value_heads=_count(params, "n_kv_heads") if params.get("n_kv_heads") is not None else heads,
        head_dim=hidden // heads,
        max_position_embeddings=longest,
        rms_norm_eps=_number(params, "norm_eps", 1e-5),
        rope_theta=theta,
        rope_scaling=scaling,
        tie_word_embeddings=tied,
    )


def _check_config(params: Mapping[str, Any], config: Architecture) -> None:
    heads = _count(params, "n_heads")
    stated: dict[str, object] = {
        "hidden_size": _count(params, "dim"),
        "num_hidden_layers": _count(params, "n_layers"),
        "num_attention_heads": heads,
        "num_key_value_heads": _count(params, "n_kv_heads") if params.get("n_kv_heads") is not None else heads,
        "rms_norm_eps": _number(params, "norm_eps", 1e-5),
        "rope_theta": _number(params, "rope_theta", 10_000.0),
    }
    if bool(params.get("use_scaled_rope")) != (config.rope_scaling is not None):
        stated["rope_scaling"] = "given" if params.get("use_scaled_rope") else None
    check_config(stated, config, where="params.json")


def _count(params: Mapping[str, Any], key: str) -> int:
    value = params.get(key)
    if type(value) is not int or value < 1:
        raise ConversionError(f"params.json: {key} is {value!r}, must be a whole number of at least 1")
    return value


def _number(params: Mapping[str, Any], key: str, default: float) -> float:
    value = params.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e12:
        raise ConversionError(f"params.json: {key} is {value!r}, must be a positive number")
    return float(value)


def _is_tied(ranks: list[dict[str, Held]], *, by_rows: bool) -> bool:
    """Return whether the output matrix is missing, or the embedding once more, as in the small Llama 3.2."""
    if any(_OUTPUT not in rank for rank in ranks):
        return True
    shapes = [rank[name].shape for rank in ranks for name in (_EMBEDDING, _OUTPUT) if name in rank]
    if len(shapes) < 2 * len(ranks) or any(len(shape) != 2 for shape in shapes) or len({*shapes[::2]}) > 1:
        return False

    def rows(name: str, dim: int, some: slice) -> Tensor:
        held = ranks if dim == 1 or some.stop is None else ranks[:1]
        return torch.cat([load_held(rank[name])[some] for rank in held], dim=dim)

    # Nearly always one row is enough.
    return all(
        torch.equal(rows(_EMBEDDING, 0 if by_rows else 1, some), rows(_OUTPUT, 0, some))
        for some in (slice(0, 1), slice(0, None))
    )


def _tokenizer(folder: Path) -> Tokenizer | None:
    """Return the tokenizer beside the weights, or one folder up, where Llama 2's download has it."""
    for path in (folder / "tokenizer.model", folder.parent / "tokenizer.model"):
        if path.is_file():
            return load_model_file(path)
    return None
