"""The rules about products in 8-bit floating point, as :mod:`megatron.config.check` runs them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

from megatron.config.architecture import Architecture
from megatron.config.problems import Complaint

TORCHAO = "pip install torchao==0.18.0"
"""What installs the package that the products need."""

SIDE = 16
"""Every side of a matrix must be a multiple of this (the rule of ``torch._scaled_mm``)."""


def _beside_bfloat16(fp8: str | None, precision: str) -> Iterator[Complaint]:
    if fp8 is not None and precision != "bfloat16":
        fix = "Set `precision: bfloat16`: what is not multiplied in 8 bits is computed in it."
        yield "fp8", f"does not go with precision = {precision}", fix


def _whole_tiles_of_tokens(fp8: str | None, seq_length: int, context_parallel_size: int) -> Iterator[Complaint]:
    """Ask for it of every sequence, whatever their number: the tokens are a side in products that give gradients."""
    needed = SIDE * context_parallel_size
    if fp8 is not None and seq_length % needed:
        rule = f"needs a seq_length that is a multiple of {needed}, and it is {seq_length}"
        yield "fp8", rule, "Change seq_length, or remove the key."


def _one_backward_pass(fp8: str | None, pipe_parallel_size: int, pipe_schedule: str) -> Iterator[Complaint]:
    if fp8 is not None and pipe_parallel_size > 1 and pipe_schedule == "zero_bubble":
        why = "which goes backward twice through every block, while an fp8 product gives both gradients at once"
        fix = "Use pipe_schedule: 1f1b or interleaved, or remove the key."
        yield "fp8", f"does not go with pipe_schedule: zero_bubble, {why}", fix


def _whole_matrices(fp8: str | None, model_parallel_size: int) -> Iterator[Complaint]:
    """Keep a matrix in one process: others would be asked for the scales of every product (docs/layouts.md)."""
    if fp8 is not None and model_parallel_size > 1:
        fix = "Divide the model by zero_optimization or pipe_parallel_size instead, or remove the key."
        yield "fp8", f"does not go with model_parallel_size = {model_parallel_size}", fix


FLOAT8_RULES: tuple[Callable[..., Iterator[Complaint]], ...] = (
    _beside_bfloat16,
    _whole_tiles_of_tokens,
    _one_backward_pass,
    _whole_matrices,
)
"""All rules of this module."""


def package_problems() -> Iterator[str]:
    """Tell that torchao is not installed, if it is not; it is not imported, which takes PyTorch."""
    if importlib.util.find_spec("torchao") is None:
        yield f"fp8 needs torchao, which is not installed: {TORCHAO}"


def side_problems(shape: Architecture) -> Iterator[str]:
    """Tell which matrices of a model's blocks cannot be multiplied in 8 bits."""
    sides = (
        ("all", "hidden_size", shape.hidden_size),
        ("q_proj, o_proj", "num_attention_heads x head_dim", shape.num_attention_heads * shape.head_dim),
        ("k_proj, v_proj", "num_kv_heads x head_dim", shape.num_key_value_heads * shape.head_dim),
        ("gate_proj, up_proj, down_proj", "intermediate_size", shape.intermediate_size),
    )
    wrong = [f"{name} = {size} ({matrices})" for matrices, name, size in sides if size % SIDE]
    if wrong:
        yield f"fp8 needs matrices with sides that are multiples of {SIDE}, not {', '.join(wrong)}. Remove `fp8`."
