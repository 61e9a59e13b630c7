from __future__ import annotations

import logging

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from megatron.config.keys import NEOX_KEYS
from megatron.config.load import config_from, dump, effective_settings, load, resolved_name, write_resolved
from megatron.config.problems import ConfigError
from megatron.config.read import MAX_FILE_BYTES
from megatron.config.schema import SECTION_OF_KEY, SECTIONS, SHAPE_KEYS

# Writing a file takes as long as the disk likes, and the fixtures are only read.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

numbers = st.floats(1e-12, 1e12, allow_nan=False)
counts = st.integers(1, 10**12)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
fractions = st.floats(0, 1)
tiers = st.dictionaries(texts, st.tuples(numbers, numbers), min_size=1, max_size=4).map(
    lambda chosen: {name: {"above": above, "rate": rate} for name, (above, rate) in chosen.items()}
)
source = st.fixed_dictionaries({"share": numbers}, optional={"tiers": tiers, "alpha": fractions, "max_epochs": numbers})
sources = st.dictionaries(texts, numbers | source, min_size=1, max_size=3)
weights = st.dictionaries(texts, numbers, min_size=1, max_size=3)
some = st.lists(texts, max_size=2)
languages = st.lists(texts, min_size=1, max_size=2)
selection = st.fixed_dictionaries({"languages": languages, "tiers": some, "corpora": some})
chooses = {"include": selection, "exclude": selection}
by_size = {"tiers": tiers, "alpha": fractions, "sources": sources, **chooses}
from_then = st.just({"from_step": 5, "ramp_steps": 2}) | st.just({"from_tokens": 1e30})
change = st.fixed_dictionaries({"alpha": fractions}, optional={"tiers": tiers, "sources": sources, **chooses})
other_change = st.fixed_dictionaries({"weights": weights}, optional=chooses)
phase = st.tuples(from_then, change | other_change).map(lambda parts: {**parts[0], **parts[1]})
limits = {"max_epochs": numbers, "planned_tokens": numbers, **chooses}
mixtures = st.fixed_dictionaries(
    {"unit": st.sampled_from(["words", "tokens", "bytes"])},
    optional={**by_size, **limits, "phases": st.lists(phase, max_size=1)},
) | st.fixed_dictionaries({"weights": weights}, optional=limits)
SETTINGS = st.fixed_dictionaries(
    {
        "num_layers": counts,
        "hidden_size": st.just(48),
        "num_attention_heads": st.just(6),
        "intermediate_size": counts,
        "max_position_embeddings": st.just(10**12),
        "seq_length": counts,
        "train_iters": counts,
        "train_batch_size": counts,
        "tokenizer_type": st.sampled_from(["SPMTokenizer", "HFTokenizer", "TiktokenTokenizer"]),
        "vocab_file": texts,
    },
    optional={
        "lr": st.floats(1e-3, 1.0),
        "weight_decay": numbers,
        "warmup": st.floats(0, 1),
        "rotary_emb_base": numbers,
        "rope_scaling": st.fixed_dictionaries({"rope_type": st.just("llama3"), "factor": numbers}),
        "no_weight_tying": st.booleans(),
        "seed": st.integers(0, 2**63 - 1),
        "precision": st.sampled_from(["fp32", "bfloat16"]),
        "tensorboard_dir": texts,
        "load": texts,
        "finetune": st.just(False),
        "mixture": mixtures,
        "reset_attention_mask": st.booleans(),
    },
)


@patient
@given(chosen=SETTINGS)
def test_resolved_file_gives_an_equal_configuration(chosen, tmp_path_factory):
    chosen.setdefault("lr", 0.5)
    try:
        config = config_from(chosen)
    except ConfigError as error:  # two tiers may have drawn one bound
        assert all("several tiers" in problem.rule for problem in error.problems)
        return
    path = tmp_path_factory.mktemp("resolved") / "resolved.yml"
    write_resolved(config, path)
    again = load([path])
    assert again == config
    assert dump(again) == dump(config)
    assert resolved_name(again) == resolved_name(config)


def test_resolved_file_of_a_run_from_a_folder(minimal, tmp_path, caplog):
    kept = {key: minimal[key] for key in ("seq_length", "lr", "train_iters", "tokenizer_type", "vocab_file")}
    saved = {"save": "out", "extra_save_iters": [3], "keep_last_n_checkpoints": 2}
    config = config_from({**kept, **saved, "hf_model": "folder", "batch_size": 2})
    write_resolved(config, tmp_path / "resolved.yml")
    assert load([tmp_path / "resolved.yml"]) == config
    assert config.checkpoint.extra_save_iters == (3,)
    assert not caplog.records


def test_resolved_file_keeps_the_shape_keys_that_were_given_beside_a_folder(minimal, tmp_path):
    given = {"rms_norm_epsilon": 1e-5, "no_weight_tying": True, "rope_scaling": {"rope_type": "linear", "factor": 2}}
    shape = {key: minimal[key] for key in ("num_layers", "hidden_size")}
    del minimal["num_attention_heads"], minimal["intermediate_size"], minimal["max_position_embeddings"]
    config = config_from({**minimal, **given, "head_dim": None, "hf_model": "folder"})
    write_resolved(config, tmp_path / "resolved.yml")
    again = load([tmp_path / "resolved.yml"])
    assert again == config
    assert again.model.model_fields_set & {*SHAPE_KEYS} == given.keys() | shape.keys()  # two have their default values


def test_resolved_mixture_holds_what_was_given_and_no_more(minimal):
    mixture = {
        "sources": {"code": 0.1, "text": {"share": 0.9, "max_epochs": 4}},
        "exclude": {"languages": ["eng"]},
        "phases": [{"from_step": 5, "include": {"sources": ["text"]}}],
    }
    data = yaml.safe_load(dump(config_from({**minimal, "mixture": mixture})))
    expected = {**mixture, "unit": "words", "sources": {"code": {"share": 0.1}, "text": mixture["sources"]["text"]}}
    assert data["mixture"] == expected
    assert not {"split", "eval_iters", "weighted_sampler_alpha", "weight_by_num_documents"} & data.keys()


def test_resolved_file_of_gpt_neox_s_paths(minimal, tmp_path, caplog):
    paths = {"train_data_paths": ["a", "b"], "valid_data_paths": ["c"], "eval_iters": 7}
    for more in ({"weight_by_num_documents": True, "weighted_sampler_alpha": 0.3}, {"train_data_weights": [1, 2]}):
        config = config_from({**minimal, **paths, **more})
        write_resolved(config, tmp_path / "resolved.yml")
        assert load([tmp_path / "resolved.yml"]) == config
    config = config_from({**minimal, "data_path": "a", "split": "9/1"})
    write_resolved(config, tmp_path / "resolved.yml")
    assert load([tmp_path / "resolved.yml"]) == config
    assert not caplog.records


def test_line_ends_in_names_survive_the_resolved_file(minimal, tmp_path):
    tiers = {f"a{end}b": {"above": number, "rate": 1} for number, end in enumerate("\x85\u2028\u2029\r\n")}
    config = config_from({**minimal, "vocab_file": "\x85a\x85", "mixture": {"tiers": tiers}})
    write_resolved(config, tmp_path / "resolved.yml")
    assert load([tmp_path / "resolved.yml"]) == config


def test_resolved_file_is_plain_yaml_in_sections(minimal):
    text = dump(config_from(minimal))
    assert "# optimizer\n" in text and "\nlr: 0.001\n" in text
    assert yaml.safe_load(text)["num_layers"] == 2


def test_effective_settings_hold_no_absent_or_idle_key(minimal):
    shown = effective_settings(config_from(minimal))
    assert list(shown) == [name for name in SECTIONS if name in shown]
    assert "load_weights" not in shown["model"] and "vocab_size" not in shown["model"]
    sizes = {f"{axis}_parallel_size": 1 for axis in ("model", "pipe", "context")}
    assert shown["parallel"] == {"zero_optimization": {"stage": 0}, **sizes}


def test_files_and_overrides_together(minimal, write):
    model = {key: minimal.pop(key) for key in ("num_layers", "hidden_size", "num_attention_heads")}
    files = [write("model.yml", model), write("run.yml", minimal)]
    config = load([files[0].with_suffix(""), files[1]], ["num-layers=5", "optimizer.params.eps=1e-6"])
    assert config.model.num_layers == 5
    assert config.optimizer.eps == 1e-6


def test_null_means_not_given(minimal, write):
    minimal.update({"gradient_accumulation_steps": None, "no_weight_tying": None, "made_up": None})
    config = load([write("a.yml", minimal)])
    assert config.model.no_weight_tying is True
    assert config.batch.gradient_accumulation_steps is None


def test_everything_wrong_with_two_files_is_told_at_once(minimal, write, tmp_path):
    minimal.update({"num_kv_heads": 4, "lr": "1e-5", "train_batch_size": 10, "train_micro_batch_size_per_gpu": 4})
    a, b = write("a.yml", minimal), write("b.yml", {"seq-length": 128, "hiden_size": 5, "train_iter": 3})
    with pytest.raises(ConfigError) as caught:
        load([a, b, tmp_path / "absent"], ["warmup=2"])
    problems = {problem.key: problem for problem in caught.value.problems}
    assert set(problems) == {
        "this file", "seq_length", "hiden_size", "train_iter", "warmup", "num_kv_heads", "train_batch_size"
    }  # fmt: skip
    assert problems["this file"].where.endswith("absent.yml")
    assert problems["warmup"].where == "command line"
    assert problems["num_kv_heads"].where.startswith(f"{a}:")
    assert problems["train_iter"].fix == "Did you mean 'train_iters'?"
    text = str(caught.value)
    assert "7 problems" in text and all(str(problem) in text for problem in problems.values())


def keys_with_problems(*files):
    with pytest.raises(ConfigError) as caught:
        load(files)
    return [problem.key for problem in caught.value.problems]


UNREADABLE = [None, b"a: [1", b"- 1\n", b"a: \xff\xfe", b"#" * (MAX_FILE_BYTES + 1)]


@pytest.mark.parametrize("content", UNREADABLE, ids=["absent", "no yaml", "no mapping", "no utf-8", "too large"])
def test_beside_a_file_that_cannot_be_read_nothing_is_missing(content, write, tmp_path):
    if content is not None:
        (tmp_path / "b.yml").write_bytes(content)
    # Each of these needs a key that may stand in the other file.
    for part in (
        {"save": "out"},
        {"checkpoint_factor": 5},
        {"finetune": True},
        {"load_weights": False},
        {"hidden_size": 50, "num_attention_heads": 6},
        {"gradient_accumulation_steps": 2, "min_lr": 1e-3},
        {"train_data_weights": [1, 2], "valid_data_paths": ["a"], "weight_by_num_documents": True},
    ):
        assert keys_with_problems(write("a.yml", part), tmp_path / "b.yml") == ["this file"]


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ({"mixture": {"alpha": 1, "weights": {"a": 1}}}, "mixture.alpha"),
        ({"train_data_paths": ["a"], "data_path": "a"}, "data_path"),
        ({"train_itres": 5}, "train_itres"),
        ({"train_iters": "x"}, "train_iters"),
        ({"mixture": {"tiers": {"a": {"above": 1}}}}, "mixture.tiers.a.rate"),
        ({"hidden_size": 50, "num_attention_heads": 6, "head_dim": 7}, "head_dim"),
        ({"num_attention_heads": 6, "num_kv_heads": 4}, "num_kv_heads"),
        ({"lr": 1e-3, "min_lr": 1e-2}, "min_lr"),
        ({"train_batch_size": 10, "train_micro_batch_size_per_gpu": 4}, "train_batch_size"),
    ],
)
def test_beside_a_file_that_cannot_be_read_what_no_key_can_mend_is_told(part, key, write, tmp_path):
    assert keys_with_problems(write("a.yml", part), tmp_path / "absent.yml") == ["this file", key]


def test_a_problem_never_prints_a_whole_list(problems_with):
    [problem] = problems_with(seed=list(range(10_000)))
    assert len(str(problem)) < 250


def test_warnings_come_once_and_not_again_from_the_resolved_file(minimal, write, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    config = load([write("a.yml", {**minimal, "eval_iters": 10, "intermediate_size": 384, "mlp_multiple_of": 64})])
    assert len(caplog.records) == 2
    caplog.clear()
    write_resolved(config, tmp_path / "resolved.yml")
    assert load([tmp_path / "resolved.yml"]) == config
    assert not caplog.records


def test_sections_cannot_be_changed(minimal):
    config = config_from(minimal)
    with pytest.raises(ValueError, match="frozen"):
        config.train.seed = 3


def test_nothing_is_required_of_files_that_are_named(minimal):
    assert config_from({**minimal, "hf_model": None, "data_manifest": "/absent"}).data.data_manifest == "/absent"


yaml_scraps = st.sampled_from(
    [*"[]{}:,-?&*!|>%@\"'# \n\t", "lr", "optimizer", "params", "seq_length", "norm", "bf16", "enabled", "1e-5", "!!int",
     "true", "null", "~", "12:30:45", "0x1f", "<<", "---", "é", "\ud7ff", "\x00", "mlp_multiple_of", "fp16", "mixture"]
)  # fmt: skip


@patient
@given(text=st.lists(yaml_scraps, max_size=30).map("".join), override=st.lists(yaml_scraps, max_size=6).map("".join))
def test_any_text_is_read_or_refused_in_our_words(text, override, tmp_path_factory):
    path = tmp_path_factory.mktemp("any") / "any.yml"
    path.write_text(text, encoding="utf-8", newline="")
    with pytest.raises(ConfigError) as caught:  # it cannot be a whole configuration
        load([path], [override])
    assert all(problem.key and problem.rule for problem in caught.value.problems)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@patient
@given(changes=st.dictionaries(st.sampled_from([*SECTION_OF_KEY, *NEOX_KEYS]), junk, max_size=6))
def test_any_value_of_any_key_is_used_or_refused_in_our_words(changes, minimal):
    try:
        config = config_from({**minimal, **changes})
    except ConfigError as error:
        assert {problem.key.split(".")[0] for problem in error.problems} <= set(SECTION_OF_KEY) | set(NEOX_KEYS)
    else:
        dump(config)
