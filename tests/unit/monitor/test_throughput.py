from __future__ import annotations

import pytest

from megatron.config.architecture import Architecture
from megatron.monitor.throughput import mfu, training_flops_per_token


def _architecture(**changes: object) -> Architecture:
    shape = {"vocab_size": 11, "hidden_size": 6, "intermediate_size": 10, "num_hidden_layers": 3, "head_dim": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 16}  # fmt: skip
    return Architecture(**{**shape, **changes})


def test_counted_by_hand_matrix_by_matrix() -> None:
    seq_length = 5
    query, key, value, output = 6 * 8, 6 * 4, 6 * 4, 8 * 6
    gate = up = down = 6 * 10
    weights = 3 * (query + key + value + output + gate + up + down) + 6 * 11
    # forward: q.k and the weighted sum of values, half of the positions on average
    attention = 3 * (2 * 4 * 2 * seq_length + 2 * 4 * 2 * seq_length) / 2
    assert training_flops_per_token(_architecture(), seq_length=seq_length) == 6 * weights + 3 * attention


def test_only_the_embedding_lookup_is_left_out_and_a_tied_head_still_counts() -> None:
    untied, tied = _architecture(), _architecture(tie_word_embeddings=True)
    flops = training_flops_per_token(untied, seq_length=5)
    assert flops == training_flops_per_token(tied, seq_length=5)
    norms_and_lookup = 6 * (2 * 3 + 1) + 11 * 6
    assert flops - 6 * 3 * 5 * 8 == 6 * (untied.num_parameters() - norms_and_lookup)


def test_llama_2_7b_costs_about_six_times_its_parameters() -> None:
    llama = _architecture(
        vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=32, head_dim=128, max_position_embeddings=4096,
    )  # fmt: skip
    flops = training_flops_per_token(llama, seq_length=4096)
    assert flops == 6 * (6_738_415_616 - 32000 * 4096 - 65 * 4096) + 6 * 32 * 4096 * 4096


def test_mfu_is_work_done_over_work_possible() -> None:
    assert mfu(100.0, flops_per_token=2e9, peak_flops=1e12) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="peak_flops = 0"):
        mfu(1.0, flops_per_token=1.0, peak_flops=0)
