from __future__ import annotations

import json

import pytest

from megatron.config.derive import architecture_of
from megatron.config.describe import describe
from megatron.config.load import config_from
from megatron.optim.schedule import schedule_from


def text_of(settings, processes=2):
    config = config_from(settings)
    rate = schedule_from(config.schedule, peak=config.optimizer.learning_rate, train_iters=config.train.train_iters)
    return describe(config, learning_rate=rate, data_parallel_size=processes)


def test_everything_that_follows_is_shown(minimal):
    settings = {**minimal, "vocab_size": 1000, "lr_decay_style": "cosine", "warmup": 0.1, "min_lr": 1e-4}
    lines = [" ".join(line.split()) for line in text_of(settings).splitlines()]
    # embeddings 2 x 1000 x 48, two blocks of 4 x 48 x 48 + 3 x 48 x 128 + 2 x 48, last norm 48
    assert f"in all {2 * 1000 * 48 + 2 * (4 * 48 * 48 + 3 * 48 * 128 + 2 * 48) + 48:,}" in lines
    assert "batch 8 sequences = 4 per rank x 1 accumulation steps x 2 data-parallel ranks" in lines
    assert "tokens per step 512" in lines
    assert "steps 100" in lines
    assert "tokens in all 51,200" in lines
    assert "train_iters 100" in lines and "lr_decay_style cosine" in lines


def test_what_a_budget_chooses_is_shown(minimal):
    assert "recomputation" not in text_of(minimal)
    config = config_from(minimal)
    text = describe(config, learning_rate=lambda _: 1e-3, data_parallel_size=2, recomputation="1 block full, 1 none")
    assert "recomputation 1 block full, 1 none" in [" ".join(line.split()) for line in text.splitlines()]


def test_curve_has_the_first_the_last_and_the_highest_point(minimal):
    lines = text_of({**minimal, "lr_decay_style": "cosine", "warmup": 0.13, "min_lr": 1e-4}).splitlines()
    rows = [line.split() for line in lines[lines.index("  step  rate") + 1 :]]
    points = {int(step): float(rate) for step, rate in rows}
    assert len(points) == 8
    assert points[1] == pytest.approx(1e-3 / 13, rel=1e-3)
    assert points[14] == 1e-3  # 13 finished steps
    assert points[100] == pytest.approx(1e-4, rel=1e-2)


@pytest.mark.parametrize("iters", [1, 2, 3, 7])
def test_short_runs_have_no_step_twice_or_past_the_end(minimal, iters):
    lines = text_of({**minimal, "train_iters": iters}).splitlines()
    steps = [int(line.split()[0]) for line in lines[lines.index("  step  rate") + 1 :]]
    assert steps == list(range(1, iters + 1))


def test_unknown_vocabulary_is_said(minimal):
    assert "vocab_size is taken from the tokenizer when the run starts" in text_of(minimal)


def test_what_cannot_be_computed_does_not_hide_the_rest(minimal):
    text = text_of({**minimal, "hf_model": None, "vocab_size": 10}, processes=3)
    assert "unknown: train_batch_size = 8 is not a multiple of 3 processes" in text
    assert "learning rate" in text
    kept = ("seq_length", "lr", "train_iters", "train_batch_size", "tokenizer_type", "vocab_file")
    text = text_of({**{key: minimal[key] for key in kept}, "hf_model": "/absent"})
    assert "unknown: /absent/config.json does not exist" in text
    assert "num_layers" not in text


def test_parameters_are_known_without_the_folder_whose_shape_is_written(minimal, tmp_path):
    settings = {**minimal, "vocab_size": 1000}
    [parameters] = [line for line in text_of(settings).splitlines() if "in all" in line and "tokens" not in line]
    settings |= {"hf_model": str(tmp_path)}
    assert parameters in text_of(settings).splitlines()
    assert "num_layers" in text_of(settings)
    shape = architecture_of(config_from(minimal).model, vocab_size=900)
    (tmp_path / "config.json").write_text(json.dumps({**shape.to_hf(), "num_hidden_layers": 3}))
    unknown = [line for line in text_of(settings).splitlines() if line.startswith("  unknown: ")]
    assert ["num_layers" in unknown[0], "vocab_size" in unknown[1], len(unknown)] == [True, True, 2]
