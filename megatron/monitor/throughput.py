"""Model FLOPs per token and model FLOPs utilisation (MFU) of a Llama."""

from __future__ import annotations

from megatron.config.architecture import Architecture


def training_flops_per_token(architecture: Architecture, *, seq_length: int) -> int:
    """Return the floating-point operations that one training token needs, forward and backward.

    ``6 * matmul_parameters + 6 * layers * seq_length * heads * head_dim``

    - A weight takes part in one multiplication and one addition per token forward, and in twice as many backward: 6.
      Counted are the four attention projections, the three feed-forward matrices and the output head (also when it
      is tied to the embedding). Looking up an embedding row and the norms cost next to nothing and are not counted.
    - Attention scores and their product with the values are ``4 * seq_length * heads * head_dim`` operations forward
      per layer and token when every position sees every other; a causal model needs half; backward doubles both:
      ``3 * 4 / 2 = 6``.

    The definition is that of PaLM (Chowdhery et al. 2022, appendix B) with the causal half of Megatron-LM's
    ``num_floating_point_operations``. Recomputed activations are work of the machine, not of the model: not counted.

    Args:
        architecture: shape of the model.
        seq_length: tokens per training sequence.
    """
    a = architecture
    attention = a.hidden_size * a.head_dim * (2 * a.num_attention_heads + 2 * a.num_key_value_heads)
    block = attention + 3 * a.hidden_size * a.intermediate_size
    matmul_parameters = a.num_hidden_layers * block + a.vocab_size * a.hidden_size
    scores = a.num_hidden_layers * seq_length * a.num_attention_heads * a.head_dim
    return 6 * matmul_parameters + 6 * scores


def mfu(tokens_per_second: float, *, flops_per_token: float, peak_flops: float) -> float:
    """Return the share of the hardware's peak that the model's own arithmetic uses (PaLM, appendix B).

    Args:
        tokens_per_second: of the whole run.
        flops_per_token: see :func:`training_flops_per_token`.
        peak_flops: FLOP/s of all devices together (``peak_theoretical_tflops * 1e12 * world_size``).

    Raises:
        ValueError: the peak is not positive.
    """
    if peak_flops <= 0:
        raise ValueError(f"peak_flops = {peak_flops} must be positive: set peak_theoretical_tflops to the device's")
    return tokens_per_second * flops_per_token / peak_flops
