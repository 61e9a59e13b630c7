#!/usr/bin/env python3
"""Tokens per second of causal attention, forward and backward, with each of the kernels that PyTorch offers here.

Ours is what the model calls (``scaled_dot_product_attention``, which chooses a kernel itself); a line for each that
can be forced, and on a GPU for FlexAttention, for the variable-length kernel, and for flash-attn where it is installed.
There the heads are those of Llama 2 7B and Llama 3 8B, elsewhere those of the small shape. All compute the same, or the
benchmark fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from common import Comparison, alternate, show, torch_arguments
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from megatron.model.attention import Documents, attention_packed, causal_attention, fits_packed_kernel

Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Query ``[rows, length, heads, head_dim]``, keys and values with key heads; returns a tensor like query."""

Shape = tuple[int, int, int, int, int]
"""Rows, length, heads, key heads, head_dim."""

GPU_SHAPES: dict[str, Shape] = {
    "Llama 2 7B, 4,096": (2, 4_096, 32, 32, 128),
    "Llama 3 8B, 8,192": (1, 8_192, 32, 8, 128),
}
CPU_SHAPES: dict[str, Shape] = {"small, 512": (4, 512, 6, 6, 48), "small, 2,048": (1, 2_048, 6, 6, 48)}


def forced(backend: SDPBackend) -> Kernel:
    """Return ours with a kernel that is chosen for it."""

    def kernel(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        with sdpa_kernel(backend):
            return causal_attention(query, key, value)

    return kernel


def flex() -> Kernel:
    """Return FlexAttention with a causal block mask, compiled; the mask is made once for each length."""
    from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

    compiled = torch.compile(flex_attention, dynamic=False)
    masks: dict[int, BlockMask] = {}

    def kernel(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        length = query.shape[1]
        if length not in masks:
            masks[length] = create_block_mask(
                lambda row, head, q, k: q >= k, None, None, length, length, device=query.device
            )
        mixed: Tensor = compiled(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), block_mask=masks[length],
            enable_gqa=query.shape[2] != key.shape[2],
        )  # fmt: skip
        return mixed.transpose(1, 2)

    return kernel


def packed(rows: int, length: int, device: torch.device) -> Kernel:
    """Return the variable-length kernel, every row a document."""
    from torch.nn.attention.varlen import varlen_attn

    packing = Documents.of([length] * rows, device=device).packing

    def kernel(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        flat = (query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1))
        return attention_packed(packing, *flat, kernel=varlen_attn).view_as(query)

    return kernel


def flash_attn() -> Kernel | None:
    """Return flash-attn's own kernel, or None where it is not installed."""
    try:
        from flash_attn import flash_attn_func
    except ImportError:
        return None

    def kernel(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mixed: Tensor = flash_attn_func(query, key, value, causal=True)
        return mixed

    return kernel


def kernels(query: Tensor) -> Iterator[tuple[str, Kernel]]:
    """Return the peers that may run on such heads; those of SDPA refuse by themselves what they cannot."""
    yield "sdpa flash", forced(SDPBackend.FLASH_ATTENTION)
    yield "sdpa math", forced(SDPBackend.MATH)
    if query.is_cuda:
        yield "sdpa cudnn", forced(SDPBackend.CUDNN_ATTENTION)
        yield "sdpa efficient", forced(SDPBackend.EFFICIENT_ATTENTION)
    if query.is_cuda:
        yield "flex", flex()  # on a CPU it has no backward pass
    if fits_packed_kernel(query):
        yield "varlen", packed(*query.shape[:2], query.device)
    if query.is_cuda and (kernel := flash_attn()) is not None:
        yield "flash-attn", kernel


def both_passes(kernel: Kernel, inputs: tuple[Tensor, ...]) -> list[Tensor | None]:
    """Run a kernel forward and backward; return what it mixes and the gradients, when they are there."""
    query, key, value, direction = inputs
    leaves = [tensor.detach().requires_grad_() for tensor in (query, key, value)]
    out = kernel(*leaves)
    out.backward(direction)
    if query.is_cuda:
        torch.cuda.synchronize()
    return [out.detach(), *(leaf.grad for leaf in leaves)]


def agree(found: list[Tensor | None], wanted: list[Tensor | None]) -> bool:
    """Whether tensors differ by no more than bfloat16 does."""
    pairs = zip(found, wanted, strict=True)
    return all(a is not None and b is not None and (a - b).norm() <= 0.02 * b.norm() for a, b in pairs)


def main() -> None:
    """Measure every kernel beside ours."""
    arguments, device = torch_arguments(__doc__ or "")
    lines = []
    cuda = device.type == "cuda"
    for name, (rows, length, heads, key_heads, head_dim) in (GPU_SHAPES if cuda else CPU_SHAPES).items():
        for dtype in (torch.bfloat16,) if cuda else (torch.float32, torch.bfloat16):
            shapes = [(rows, length, count, head_dim) for count in (heads, key_heads, key_heads, heads)]
            inputs = tuple(torch.randn(shape, device=device, dtype=dtype) for shape in shapes)
            wanted = both_passes(causal_attention, inputs)
            for peer, kernel in kernels(inputs[0]):
                case = f"{name}, {'bf16' if dtype == torch.bfloat16 else 'fp32'}: {peer}"
                try:
                    found = both_passes(kernel, inputs)
                except RuntimeError as error:
                    if "No available kernel" not in str(error):  # SDPA says so of heads that a kernel does not take
                        raise
                    print(f"{case}: not here ({str(error).splitlines()[0]})")
                    continue
                if not agree(found, wanted):
                    raise ValueError(f"{case}: it computes something else than ours")
                rates = alternate(
                    lambda _, run=inputs: both_passes(causal_attention, run),
                    lambda _, run=inputs, kernel=kernel: both_passes(kernel, run),
                    repetitions=5 if arguments.quick else 21,
                    amount=rows * length,
                )
                lines.append(Comparison(case, *rates, peer, "tokens/s"))
    show(lines, as_json=arguments.json)


if __name__ == "__main__":
    main()
