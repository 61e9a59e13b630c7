"""The shape of a model as Megatron-LM keeps it: arguments of its command line, in ``common.pt``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from megatron.checkpoint.convert.source import ConversionError
from megatron.config.architecture import Architecture, RopeScaling

_NAMES: Mapping[str, str] = {
    "hidden_size": "hidden_size", "intermediate_size": "ffn_hidden_size", "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_attention_heads", "head_dim": "kv_channels", "rope_theta": "rotary_base",
    "max_position_embeddings": "max_position_embeddings", "rms_norm_eps": "norm_epsilon",
}  # fmt: skip
"""Names in ``config.json``, and Megatron-LM's for the same."""

_LLAMA: Mapping[str, Any] = {
    "normalization": "RMSNorm", "swiglu": True, "position_embedding_type": "rope", "rotary_percent": 1.0,
    "add_bias_linear": False,
}  # fmt: skip
"""What makes a model of Megatron-LM a Llama; its own defaults are others."""

_OFF = (
    "add_qkv_bias", "qk_layernorm", "rotary_interleaved", "apply_layernorm_1p", "multi_latent_attention", "num_experts",
    "squared_relu",
)  # fmt: skip
"""What no Llama has, and what Megatron-LM leaves off by default."""

# Llama 3.1's rule has these numbers built in there (`RotaryEmbedding._apply_scaling`); only the factor can be chosen.
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def architecture_of(arguments: object, vocab_size: int) -> Architecture:
    """Return the shape that arguments describe.

    Args:
        arguments: what ``common.pt`` has under ``args``.
        vocab_size: rows of the embedding, which the arguments need not say.

    Raises:
        ConversionError: there are none, or they describe another kind of model; every reason is listed.
    """
    if not isinstance(arguments, argparse.Namespace):
        raise ConversionError("common.pt holds no arguments of Megatron-LM; give --config")
    values = vars(arguments)
    wanted = [*_NAMES.values(), *_LLAMA, "untie_embeddings_and_output_weights"]
    problems = [f"{key} is missing" for key in wanted if key not in values]
    problems += [
        f"{key} is {values[key]!r:.60}, a Llama has {value!r}"
        for key, value in _LLAMA.items()
        if key in values and values[key] != value
    ]
    problems += [f"{key} is {values[key]!r:.60}, a Llama has none" for key in _OFF if values.get(key)]
    groups = "num_query_groups" if values.get("group_query_attention") else "num_attention_heads"
    tied = values.get("untie_embeddings_and_output_weights")
    config = {
        **{ours: values[theirs] for ours, theirs in _NAMES.items() if theirs in values},
        "model_type": "llama",
        "vocab_size": vocab_size,
        "num_key_value_heads": values.get(groups),
        "tie_word_embeddings": not tied if isinstance(tied, bool) else tied,
        "initializer_range": values.get("init_method_std", 0.02),
        "rope_scaling": _scaling_of(values, problems),
    }
    if not problems:
        try:
            return Architecture.from_hf(config)
        except (ValueError, TypeError) as error:
            problems.append(str(error))
    raise ConversionError(f"the arguments in common.pt cannot be used, give --config: {'; '.join(problems)}")


def _scaling_of(values: Mapping[str, Any], problems: list[str]) -> dict[str, Any] | None:
    linear = values.get("rotary_seq_len_interpolation_factor")
    if not values.get("use_rope_scaling"):
        return None if linear is None else {"rope_type": "linear", "factor": linear}
    if linear is not None:
        problems.append("use_rope_scaling and rotary_seq_len_interpolation_factor are both given")
    return {"rope_type": "llama3", "factor": values.get("rope_scaling_factor", 8.0), **_LLAMA3}


def arguments_of(architecture: Architecture) -> argparse.Namespace:
    """Return the arguments that ``--use-checkpoint-args`` takes, and that Megatron-LM compares with its own.

    Raises:
        ConversionError: Megatron-Core computes no such model.
    """
    heads, shared = architecture.num_attention_heads, architecture.num_key_value_heads
    values: dict[str, Any] = {theirs: getattr(architecture, ours) for ours, theirs in _NAMES.items()}
    if float(architecture.rope_theta).is_integer():
        values["rotary_base"] = int(architecture.rope_theta)  # a whole number on the command line
    return argparse.Namespace(
        **values,
        **_LLAMA,
        **{name: None if name == "num_experts" else False for name in _OFF},
        **_scaling_arguments(architecture.rope_scaling),
        group_query_attention=shared != heads,
        num_query_groups=shared,
        untie_embeddings_and_output_weights=not architecture.tie_word_embeddings,
        padded_vocab_size=architecture.vocab_size,
        seq_length=architecture.max_position_embeddings,
        init_method_std=architecture.initializer_range,
        attention_dropout=0.0,
        hidden_dropout=0.0,
        ckpt_format="torch_dist",
        tensor_model_parallel_size=1,
        pipeline_model_parallel_size=1,
    )


def _scaling_arguments(scaling: RopeScaling | None) -> dict[str, Any]:
    if scaling is None:
        return {"use_rope_scaling": False}
    if scaling.rope_type == "linear":
        return {"use_rope_scaling": False, "rotary_seq_len_interpolation_factor": scaling.factor}
    other = {key: getattr(scaling, key) for key, value in _LLAMA3.items() if getattr(scaling, key) != value}
    if other:
        shown = ", ".join(f"{key} = {value}" for key, value in other.items())
        raise ConversionError(
            f"Megatron-Core cannot compute this model: its rule for scaled rotary frequencies has "
            f"{', '.join(f'{key} = {_LLAMA3[key]}' for key in other)} built in, and the model has {shown}"
        )
    return {"use_rope_scaling": True, "rope_scaling_factor": scaling.factor}
