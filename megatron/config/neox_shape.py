"""What decides a model's shape in a configuration that GPT-NeoX was run with, such as its checkpoints hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megatron.config.fields import as_number
from megatron.config.keys import NEOX_KEYS
from megatron.config.problems import ConfigError, Problem
from megatron.config.read import Entry, read_files
from megatron.config.translate import translate

# GPT-NeoX's defaults (`neox_arguments/neox_args.py`) where they are not those of this project.
_NUMBERS: dict[str, float | None] = {
    "num_layers": None, "hidden_size": None, "num_attention_heads": None, "max_position_embeddings": None,
    "num_kv_heads": 0, "rms_norm_epsilon": 1e-8, "rotary_emb_base": 10_000,
}  # fmt: skip
# What makes a model a Llama or something else, with the same tensors.
_KINDS = (
    "norm", "pos_emb", "activation", "rotary_pct", "attention_config", "sparsity_config", "sliding_window_width",
    "use_qk_layernorm", "opt_pos_emb_offset", "num_unique_layers", "gpt_j_residual", "gpt_j_tied",
    "use_mup",
)  # fmt: skip


def neox_shape(files: Sequence[Path]) -> dict[str, Any]:
    """Return the numbers of a Llama's shape by GPT-NeoX's keys; what is absent has GPT-NeoX's default.

    Keys: ``num_layers``, ``hidden_size``, ``num_attention_heads``, ``max_position_embeddings``, ``num_kv_heads`` (0 for
    as many as query heads), ``rms_norm_epsilon``, ``rotary_emb_base``, and ``no_weight_tying``.

    Raises:
        ConfigError: files cannot be read, keys are missing, or the model is not a Llama; lists every problem.
    """
    entries, problems = read_files(files)
    shape: dict[str, Any] = {}
    for key, default in _NUMBERS.items():
        entry = entries.get(key)
        value = default if entry is None or entry.value is None else as_number(entry.value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
            written = entry or Entry(None, str(files[0].parent) if files else "")
            problems.append(Problem(written.where, key, "must be a number", "Is it this model's?", written.value))
        shape[key] = value
    defaults = {key: Entry(NEOX_KEYS[key].default, "GPT-NeoX's default") for key in _KINDS}
    problems += translate({key: entries.get(key, default) for key, default in defaults.items()}).problems
    if problems:
        raise ConfigError(problems)
    tying = entries.get("no_weight_tying")
    return {**shape, "no_weight_tying": bool(tying and tying.value)}
