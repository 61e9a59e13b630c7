from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.architecture import Architecture, MissingFolderError, RopeScaling
from megatron.config.derive import (
    Batch,
    architecture_of,
    decay_steps,
    derive_batch,
    expected_architecture,
    known_vocab_size,
    vocab_size_is_known,
    warmup_steps,
)
from megatron.config.load import config_from
from megatron.config.schema import REQUIRED_SHAPE_KEYS, SHAPE_KEYS, BatchConfig, ScheduleConfig


def batch(total=None, micro=None, steps=None):
    return BatchConfig(
        train_batch_size=total, train_micro_batch_size_per_gpu=micro, gradient_accumulation_steps=steps
    )


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (batch(micro=4), Batch(32, 4, 1)),
        (batch(micro=4, steps=2), Batch(64, 4, 2)),
        (batch(total=64), Batch(64, 8, 1)),
        (batch(total=64, steps=2), Batch(64, 4, 2)),
        (batch(total=64, micro=2), Batch(64, 2, 4)),
        (batch(total=64, micro=2, steps=4), Batch(64, 2, 4)),
    ],
)
def test_batch_on_8_processes_as_gpt_neox_documents_it(section, expected):
    assert derive_batch(section, data_parallel_size=8) == expected


counts = st.integers(1, 50)


@given(micro=counts, steps=counts, size=counts)
def test_any_two_give_the_third(micro, steps, size):
    total = micro * steps * size
    expected = Batch(total, micro, steps)
    pairs = (batch(total, micro), batch(total, None, steps), batch(None, micro, steps))
    for section in (*pairs, batch(total, micro, steps)):
        assert derive_batch(section, data_parallel_size=size) == expected


@given(total=st.integers(1, 500), micro=st.none() | counts, steps=st.none() | counts, size=counts)
def test_batch_is_exact_or_refused(total, micro, steps, size):
    try:
        result = derive_batch(batch(total, micro, steps), data_parallel_size=size)
    except ValueError as error:
        assert total % ((micro or 1) * (steps or 1) * size) or (micro and steps)
        assert f"train_batch_size = {total}" in str(error) and f"{size} processes" in str(error)
    else:
        assert result.global_size == total == result.micro_size * result.accumulation_steps * size
        assert micro in (None, result.micro_size) and steps in (None, result.accumulation_steps)


def test_message_names_the_three_numbers_and_a_way_out():
    with pytest.raises(ValueError, match="train_batch_size = 10 is not a multiple of") as error:
        derive_batch(batch(total=10, micro=4), data_parallel_size=2)
    assert "train_micro_batch_size_per_gpu = 4 x 2 processes = 8" in str(error.value)
    assert "Set train_batch_size to 8" in str(error.value)
    with pytest.raises(ValueError, match="Set train_batch_size to 24"):
        derive_batch(batch(total=10, micro=4, steps=3), data_parallel_size=2)


@pytest.mark.parametrize(
    ("settings", "steps", "warmup"),
    [
        ({}, 1000, 10.0),
        ({"lr_decay_iters": 50, "warmup": 0.5}, 50, 25.0),
        ({"lr_decay_fraction": 0.3333}, 333, 3.33),
        ({"lr_decay_fraction": 0.0001, "warmup": 0.5}, 1, 0.5),
        ({"warmup": 0}, 1000, 0.0),
    ],
)
def test_lengths_of_the_schedule(settings, steps, warmup):
    section = ScheduleConfig(**settings)
    assert decay_steps(section, train_iters=1000) == steps
    assert warmup_steps(section, train_iters=1000) == pytest.approx(warmup)


def test_shape_written_out(minimal):
    scaling = {"rope_type": "llama3", "factor": 8}
    settings = {"num_kv_heads": 2, "no_weight_tying": False, "rotary_emb_base": 500000, "rope_scaling": scaling}
    shape = architecture_of(config_from({**minimal, **settings}).model, vocab_size=100)
    assert (shape.vocab_size, shape.num_key_value_heads, shape.head_dim) == (100, 2, 8)
    assert shape.tie_word_embeddings and shape.rope_theta == 500000.0
    assert shape.rope_scaling is not None and shape.rope_scaling.factor == 8.0
    assert shape.num_hidden_layers == 2 and shape.intermediate_size == 128 and shape.rms_norm_eps == 1e-5
    wide = architecture_of(config_from({**minimal, "head_dim": 32}).model, vocab_size=100)
    assert (wide.head_dim, wide.num_key_value_heads) == (32, 6)


def test_vocabulary_of_model_and_tokenizer(minimal):
    model = config_from({**minimal, "vocab_size": 128}).model
    assert architecture_of(model, vocab_size=100).vocab_size == 128  # spare rows are harmless
    assert architecture_of(model, vocab_size=None).vocab_size == 128
    with pytest.raises(ValueError, match="smaller than the tokenizer's 129 entries"):
        architecture_of(model, vocab_size=129)
    with pytest.raises(ValueError, match="vocab_size is not known"):
        architecture_of(config_from(minimal).model, vocab_size=None)


def test_shape_from_a_folder(minimal, tmp_path):
    shape = architecture_of(config_from(minimal).model, vocab_size=100)
    (tmp_path / "config.json").write_text(json.dumps(shape.to_hf()))
    kept = ("seq_length", "lr", "train_iters", "train_batch_size", "tokenizer_type", "vocab_file")
    config = config_from({**{key: minimal[key] for key in kept}, "hf_model": str(tmp_path)})
    assert architecture_of(config.model, vocab_size=100) == shape
    with pytest.raises(ValueError, match="smaller than the tokenizer's 101 entries"):
        architecture_of(config.model, vocab_size=101)


@pytest.fixture
def folder(tmp_path):
    """A folder of a model with tied, stretched and grouped parts, so that none of them has its default."""
    scaling = RopeScaling("llama3", factor=8.0)
    shape = Architecture(
        vocab_size=100, hidden_size=48, intermediate_size=128, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=128, rms_norm_eps=1e-6, rope_theta=5e5,
        rope_scaling=scaling, tie_word_embeddings=True, initializer_range=0.01,
    )  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(shape.to_hf()))
    return tmp_path


WRITTEN = {
    "num_layers": 2, "hidden_size": 48, "num_attention_heads": 6, "num_kv_heads": 2, "head_dim": 16,
    "intermediate_size": 128, "vocab_size": 100, "max_position_embeddings": 128, "rms_norm_epsilon": 1e-6,
    "rotary_emb_base": 500000, "rope_scaling": {"rope_type": "llama3", "factor": 8}, "no_weight_tying": False,
    "init_method_std": 0.01,
}  # fmt: skip
OTHER = {
    "num_layers": 3, "hidden_size": 96, "num_attention_heads": 12, "num_kv_heads": 3, "head_dim": 8,
    "intermediate_size": 127, "vocab_size": 101, "max_position_embeddings": 127, "rms_norm_epsilon": 1e-5,
    "rotary_emb_base": 1e4, "rope_scaling": {"rope_type": "llama3", "factor": 9}, "no_weight_tying": True,
    "init_method_std": 0.02,
}  # fmt: skip


@pytest.mark.parametrize("key", SHAPE_KEYS)
def test_every_shape_key_beside_a_folder_is_compared_with_it(minimal, folder, key):
    shape = architecture_of(config_from({**minimal, **WRITTEN, "hf_model": str(folder)}).model, vocab_size=100)
    assert shape == Architecture.from_folder(folder)
    section = config_from({**minimal, **WRITTEN, "hf_model": str(folder), key: OTHER[key]}).model
    with pytest.raises(ValueError, match=rf"^{key} = .* differs from .* in {folder}/config\.json\. Change or"):
        architecture_of(section, vocab_size=100)


def test_a_shape_key_that_is_not_given_is_not_compared_whatever_its_default(minimal, folder):
    for key in SHAPE_KEYS:
        minimal.pop(key, None)
    section = config_from({**minimal, "hf_model": str(folder)}).model
    assert architecture_of(section, vocab_size=100) == Architecture.from_folder(folder)


def test_what_the_folder_lacks_differs_too(minimal, folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rope_scaling": None}))
    with pytest.raises(ValueError, match=r'rope_scaling = \{"rope_type": "llama3", .*\} differs from null in '):
        architecture_of(config_from({**minimal, **WRITTEN, "hf_model": str(folder)}).model, vocab_size=100)


def test_the_written_shape_is_expected_where_the_folder_is_not_at_hand(minimal, folder):
    whole = config_from({**minimal, **WRITTEN, "hf_model": str(folder)}).model
    there = expected_architecture(whole, vocab_size=None)
    (folder / "config.json").unlink()
    assert expected_architecture(whole, vocab_size=None) == there
    with pytest.raises(MissingFolderError, match=r"config\.json does not exist"):
        architecture_of(whole, vocab_size=None)
    with pytest.raises(ValueError, match="smaller than the tokenizer's 101 entries"):
        expected_architecture(whole, vocab_size=101)
    for key in REQUIRED_SHAPE_KEYS:
        part = config_from({**minimal, **WRITTEN, "hf_model": str(folder), key: None}).model
        with pytest.raises(MissingFolderError, match=r"config\.json does not exist"):
            expected_architecture(part, vocab_size=None)


def test_a_folder_that_is_there_is_what_is_expected(minimal, folder):
    section = config_from({**minimal, "num_layers": 3, "hf_model": str(folder)}).model
    with pytest.raises(ValueError, match="num_layers = 3 differs from 2"):
        expected_architecture(section, vocab_size=None)
    section = config_from({**minimal, "hf_model": str(folder)}).model
    assert expected_architecture(section, vocab_size=None).num_key_value_heads == 2  # not written, so the folder's


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"tokenizer": {"vocab_size": "many"}}', '{"tokenizer": 3}'])
def test_vocabulary_from_an_unusable_manifest(minimal, tmp_path, text):
    path = tmp_path / "manifest.json"
    path.write_text(text)
    config = config_from({**minimal, "data_manifest": str(path)})
    assert known_vocab_size(config) is None
    assert not vocab_size_is_known(config)
    path.write_text('{"tokenizer": {"vocab_size": 77}}')
    assert known_vocab_size(config) == 77
    assert vocab_size_is_known(config)
