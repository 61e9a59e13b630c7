from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.config.architecture import Architecture, RopeScaling
from megatron.config.hf_config import read_entries

LLAMA = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 48,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def refusal(**changes):
    with pytest.raises(ValueError, match=r"config\.json cannot be used") as caught:
        Architecture.from_hf({**LLAMA, **changes})
    return str(caught.value)


def test_defaults_are_those_of_transformers():
    shape = Architecture.from_hf(LLAMA)
    assert (shape.num_key_value_heads, shape.head_dim, shape.max_position_embeddings) == (6, 8, 2048)
    assert (shape.rms_norm_eps, shape.rope_theta, shape.initializer_range) == (1e-6, 10_000.0, 0.02)
    assert shape.rope_scaling is None and shape.tie_word_embeddings is False
    nulls = dict.fromkeys(("num_key_value_heads", "head_dim", "rope_scaling", "rope_parameters", "rope_theta"))
    assert Architecture.from_hf({**LLAMA, **nulls, "partial_rotary_factor": None, "attention_bias": None}) == shape
    assert Architecture.from_hf({**LLAMA, "partial_rotary_factor": 1.0, "rope_scaling": {}}) == shape


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_scaling": LLAMA3, "rope_theta": 5e5},
        {"rope_parameters": {**LLAMA3, "rope_theta": 5e5}},
        {"rope_parameters": {**LLAMA3, "rope_theta": 5e5}, "rope_scaling": LLAMA3, "rope_theta": 1e4},
        {"rope_scaling": {"type": "llama3", **LLAMA3}, "rope_theta": 500000},
    ],
)
def test_rotary_entries_of_both_versions_of_transformers(rope):
    shape = Architecture.from_hf({**LLAMA, **rope})
    assert shape.rope_scaling == RopeScaling(**LLAMA3)
    assert shape.rope_theta == 5e5


def test_linear_scaling_under_its_old_name():
    shape = Architecture.from_hf({**LLAMA, "rope_scaling": {"type": "linear", "factor": 2}})
    assert shape.rope_scaling == RopeScaling("linear", factor=2.0)


COUNTS = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


@pytest.mark.parametrize("key", [*COUNTS, "num_key_value_heads", "head_dim", "max_position_embeddings"])
@pytest.mark.parametrize("value", [0, -1, 2.5, 8.0, True, "8", [], {}, 10**30])
def test_counts_that_are_none(key, value):
    assert f"{key} is {value!r}, must be a whole number" in refusal(**{key: value})


@pytest.mark.parametrize("key", [*COUNTS, "max_position_embeddings"])
def test_null_is_no_count(key):
    assert f"{key} is None, must be" in refusal(**{key: None})


@pytest.mark.parametrize("key", COUNTS)
def test_missing_counts(key):
    with pytest.raises(ValueError, match=f"{key} is missing"):
        Architecture.from_hf({name: value for name, value in LLAMA.items() if name != key})


@pytest.mark.parametrize("key", ["rms_norm_eps", "rope_theta", "initializer_range"])
@pytest.mark.parametrize("value", [-1e-6, float("nan"), float("inf"), 10**400, True, "1e-5", []])
def test_numbers_that_are_none(key, value):
    assert f"{key} is " in refusal(**{key: value})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model_type": "gpt_neox"}, "model_type is 'gpt_neox'"),
        ({"model_type": ["llama"]}, "model_type is ['llama']"),
        ({"hidden_act": None}, "hidden_act is None"),
        ({"attention_bias": True}, "attention_bias is True, Llama has no biases"),
        ({"mlp_bias": "no"}, "mlp_bias is 'no', Llama has no biases"),
        ({"tie_word_embeddings": None}, "tie_word_embeddings is None, must be true or false"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings is 'false', must be true or false"),
        ({"num_attention_heads": 7}, "hidden_size = 48 is no multiple of num_attention_heads = 7"),
        ({"num_attention_heads": 96}, "hidden_size = 48 is no multiple of num_attention_heads = 96"),
        ({"num_key_value_heads": 4}, "num_attention_heads = 6 must be a multiple"),
        ({"head_dim": 7}, "head_dim = 7 must be even"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5, Llama turns whole heads"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "rope_parameters.partial_rotary_factor is 0.5"),
        ({"rope_scaling": []}, "rope_scaling is [], must be an object"),
        ({"rope_scaling": ["linear", 2.0]}, "rope_scaling is ['linear', 2.0], must be an object"),
        ({"rope_parameters": 5}, "rope_parameters is 5, must be an object"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling.factor is missing"),
        ({"rope_scaling": {"type": "linear", "factor": None}}, "rope_scaling.factor is None"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "rope_scaling.factor is 0"),
        ({"rope_scaling": {"type": "yarn", "factor": 2}}, "rope_scaling.rope_type is 'yarn'"),
        ({"rope_scaling": {"rope_type": ["linear"]}}, "rope_scaling.rope_type is ['linear']"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8}}, "rope_scaling.low_freq_factor is missing"),
        ({"rope_scaling": {**LLAMA3, "high_freq_factor": 1.0}}, "high_freq_factor = 1.0 must exceed"),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear"}}}, "full_attention is an object"),
        (
            {"rope_parameters": {"rope_type": "default"}, "rope_scaling": {"type": "linear", "factor": 2}},
            "rope_type is 'default' in rope_parameters, 'linear' in rope_scaling",
        ),
    ],
)
def test_entries_that_cannot_be_used(changes, text):
    assert text in refusal(**changes)


def test_all_problems_are_told_at_once():
    text = refusal(
        vocab_size=None, num_key_value_heads=4, rms_norm_eps=0, head_dim=3, mlp_bias=True,
        rope_scaling={**LLAMA3, "high_freq_factor": 1}, partial_rotary_factor=0.25,
    )  # fmt: skip
    for part in ("vocab_size", "key/value heads, 4", "rms_norm_eps", "head_dim = 3", "mlp_bias", "high_fr", "partial"):
        assert part in text


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["llama", "silu", "linear", "llama3", "default", 1, 2, 8, 10**400]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from([*LLAMA3, "type", "rope_theta", "partial_rotary_factor"]), inner, max_size=5),
    max_leaves=8,
)  # fmt: skip
ENTRIES = [*(field.name for field in dataclasses.fields(Architecture)), "model_type", "hidden_act", "attention_bias",
           "mlp_bias", "rope_parameters", "partial_rotary_factor"]  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(changes=st.dictionaries(st.sampled_from(ENTRIES), junk, max_size=5), whole=st.booleans())
def test_any_json_gives_a_shape_or_says_what_is_wrong(changes, whole):
    try:
        shape = Architecture.from_hf({**(LLAMA if whole else {}), **changes})
    except ValueError as error:
        assert str(error).startswith("config.json cannot be used: ")
    else:
        assert Architecture.from_hf(json.loads(json.dumps(shape.to_hf()))) == shape
        assert read_entries(changes | LLAMA)[0]


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff", "[" * 100_000, '{"a": ' * 5000, "9" * 5000])
def test_any_file_gives_a_shape_or_names_itself(text, tmp_path):
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"config\.json"):
        Architecture.from_folder(tmp_path)


def test_what_is_no_folder_is_named(tmp_path):
    (tmp_path / "model").write_bytes(b"")
    with pytest.raises(ValueError, match=r"config\.json cannot be read: Not a directory"):
        Architecture.from_folder(tmp_path / "model")
