from __future__ import annotations

import json

import pytest

from megatron.config.architecture import Architecture
from megatron.config.check import check_files, check_run
from megatron.config.load import config_from
from megatron.config.problems import ABSENT


@pytest.mark.parametrize(
    ("changes", "key", "rule"),
    [
        ({"num_layers": None}, "num_layers", "is missing"),
        ({"train_iters": None}, "train_iters", "is missing"),
        ({"seq_length": None}, "seq_length", "is missing"),
        ({"tokenizer_type": None}, "tokenizer_type", "is missing"),
        ({"lr": None}, "lr", "is missing"),
        ({"train_batch_size": None}, "train_batch_size", "is missing"),
        ({"train_batch_size": None, "gradient_accumulation_steps": 2}, "train_batch_size", "is missing"),
        ({"load_weights": False}, "load_weights", "no effect without hf_model"),
        ({"num_kv_heads": 4}, "num_kv_heads", "does not divide num_attention_heads = 6"),
        ({"hidden_size": 50}, "hidden_size", "not a multiple of num_attention_heads = 6"),
        ({"hidden_size": 54}, "hidden_size", "odd width"),
        ({"head_dim": 7}, "head_dim", "odd width"),
        ({"seq_length": 129}, "seq_length", "exceeds max_position_embeddings = 128"),
        ({"optimizer": {"params": {"lr": 2e-3}}}, "lr", "contradicts optimizer.params.lr"),
        ({"min_lr": 2e-3}, "min_lr", "exceeds the learning rate 0.001"),
        ({"lr_decay_iters": 5, "lr_decay_fraction": 0.5}, "lr_decay_fraction", "beside lr_decay_iters"),
        ({"train_micro_batch_size_per_gpu": 3}, "train_batch_size", "not a multiple"),
        ({"train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 4}, "train_batch_size", "4 x gradient"),
        ({"save": "out"}, "save", "without saying when"),
        ({"checkpoint_factor": 5}, "checkpoint_factor", "no effect without save"),
        ({"finetune": True}, "finetune", "without load"),
    ],
)
def test_rules(changes, key, rule, problems_with):
    problems = problems_with(**changes)
    assert any(problem.key == key and rule in problem.rule and problem.fix for problem in problems), problems


@pytest.mark.parametrize(
    ("changes", "key", "rule"),
    [
        ({"lr": 0}, "lr", "is not above 0"),
        ({"lr": "fast"}, "lr", "is not a number"),
        ({"lr": True}, "lr", "is not a number"),
        ({"lr": float("inf")}, "lr", "is not a finite number"),
        ({"warmup": 1.5}, "warmup", "is above 1"),
        ({"warmup": -0.1}, "warmup", "is below 0"),
        ({"train_iters": 0}, "train_iters", "is below 1"),
        ({"train_iters": 10.0}, "train_iters", "is not a whole number"),
        ({"train_iters": True}, "train_iters", "is not a whole number"),
        ({"train_iters": "10"}, "train_iters", "is not a whole number"),
        ({"no_weight_tying": "yes"}, "no_weight_tying", "neither true nor false"),
        ({"no_weight_tying": 1}, "no_weight_tying", "neither true nor false"),
        ({"vocab_file": 5}, "vocab_file", "is not text"),
        ({"vocab_file": ""}, "vocab_file", "is empty"),
        ({"lr_decay_style": "step"}, "lr_decay_style", "is not one of"),
        ({"optimizer": "adam"}, "optimizer", "is not a mapping"),
        ({"optimizer": {"params": {"beta": 1}}}, "optimizer.params.beta", "is not a known key"),
        ({"optimizer": {"params": {"betas": [0.9]}}}, "optimizer.params.betas", "too few"),
        ({"optimizer": {"params": {"betas": [0.9, 0.9, 0.9]}}}, "optimizer.params.betas", "more than 2"),
        ({"mixture": {"tiers": {}}}, "mixture.tiers", "fewer than 1"),
        ({"mixture": {"tiers": {"a": {"above": 1, "rate": -1}}}}, "mixture.tiers.a.rate", "is below 0"),
        ({"mixture": {"tiers": {"a": {"above": 1, "rate": 1, "rat": 1}}}}, "mixture.tiers.a.rat", "is not a known key"),
        (
            {"mixture": {"tiers": {"unseen": {"above": 1, "rate": 1}}}},
            "mixture.tiers.unseen",
            "is a name kept for corpora below the lowest tier",
        ),
        ({"mixture": {"tiers": {"untiered": {"above": 1, "rate": 1}}}}, "mixture.tiers.untiered", "without a mixture"),
        ({"mixture": {"sources": {"code": -1}}}, "mixture.sources.code", "is below 0"),
        ({"mixture": {"sources": {True: 1}}}, "mixture.sources.1", "is not text"),
        ({"extra_save_iters": 5, "save": "out", "checkpoint_factor": 1}, "extra_save_iters", "is not a list"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2}}, "rope_scaling.rope_type", "is not one of"),
        ({"fp16": True}, "fp16", "is not a mapping"),
        ({"bf16": {"enabled": True}, "precision": "fp32"}, "bf16", "contradicts precision"),
        ({"bf16": {"enabled": False}, "precision": "bfloat16"}, "bf16", "contradicts precision"),
        ({"fp16": {"enabled": True}}, "precision", "fp16 is not supported"),
        ({"batch_size": 3, "train_micro_batch_size_per_gpu": 4}, "batch_size", "contradicts"),
        ({"optimizer_type": "adam", "optimizer": {"type": "AdamW"}}, "optimizer_type", "contradicts"),
        ({"mlp_multiple_of": 0}, "mlp_multiple_of", "is not a positive whole number"),
    ],
)
def test_types_and_ranges(changes, key, rule, problems_with):
    [problem] = problems_with(**changes)
    assert problem.key == key
    assert rule in problem.rule


def test_did_you_mean_at_the_top_and_inside(problems_with):
    fixes = [problem.fix for problem in problems_with(hiden_size=3, optimizer={"params": {"beta": 1}})]
    assert "Did you mean 'hidden_size'?" in fixes
    assert "Did you mean 'betas'?" in fixes


def test_independent_mistakes_are_all_reported(problems_with):
    problems = problems_with(seed="x", seq_length=500, num_kv_heads=4, min_lr=1, nonsense=1, norm="layernorm")
    assert {p.key for p in problems} == {"seed", "seq_length", "num_kv_heads", "min_lr", "nonsense", "norm"}


def test_a_wrong_value_does_not_cause_a_second_complaint(problems_with):
    assert [problem.key for problem in problems_with(train_batch_size="8")] == ["train_batch_size"]
    assert [problem.key for problem in problems_with(lr="fast")] == ["lr"]
    assert [problem.key for problem in problems_with(tokenizer_type="GPT2BPETokenizer")] == ["tokenizer_type"]
    assert [problem.key for problem in problems_with(num_layers="x")] == ["num_layers"]


def test_problem_says_file_key_value_rule_and_fix(problems_with):
    [problem] = problems_with(hidden_size=50)
    assert str(problem) == (
        "hidden_size = 50: is not a multiple of num_attention_heads = 6. Change one of the two, or give head_dim."
    )
    [problem] = problems_with(lr=None)
    assert problem.value is ABSENT and str(problem).startswith("lr: is missing. Add")


def test_spellings_that_are_the_same_value(minimal):
    config = config_from({**minimal, "lr": "1e-5", "min_lr": 0, "lr_decay_style": "COSINE", "precision": "BFloat16"})
    assert config.optimizer.learning_rate == 1e-5
    assert config.schedule.min_lr == 0.0 and isinstance(config.schedule.min_lr, float)
    assert (config.schedule.lr_decay_style, config.train.precision) == ("cosine", "bfloat16")


def test_translated_keys(minimal):
    del minimal["lr"], minimal["train_batch_size"]
    config = config_from(
        {
            **minimal,
            "bf16": {"enabled": True},
            "batch_size": 4,
            "clip_grad": 0.5,
            "optimizer_type": "adam",
            "optimizer": {"params": {"lr": "2e-4", "betas": [0.9, 0.95], "eps": 1}},
        }
    )
    assert config.train.precision == "bfloat16"
    assert config.batch.train_micro_batch_size_per_gpu == 4
    assert config.optimizer.gradient_clipping == 0.5
    assert config.optimizer.learning_rate == 2e-4
    assert (config.optimizer.betas, config.optimizer.eps) == ((0.9, 0.95), 1.0)


@pytest.mark.parametrize(
    ("settings", "branch"),
    [
        ({"intermediate_size": 32768, "mlp_multiple_of": 256}, 11008),  # Llama 2 7B as GPT-NeoX ships it
        ({"intermediate_size": 14336, "mlp_multiple_of": 14336}, 14336),  # the only way to Llama 3 8B
        ({"intermediate_size": 14336, "mlp_multiple_of": 1}, 4778),
        ({"hidden_size": 48, "mlp_multiple_of": 1}, 64),  # 4 x hidden
        ({"hidden_size": 48, "expansion_factor": 8}, 128),
    ],
)
def test_feed_forward_width_of_gpt_neox_is_translated_aloud(minimal, caplog, settings, branch):
    del minimal["intermediate_size"]
    config = config_from({**minimal, **settings})
    assert config.model.intermediate_size == branch
    assert f"intermediate_size: {branch}" in caplog.text


def test_plain_feed_forward_width_is_hugging_face_s(minimal, caplog):
    assert config_from(minimal).model.intermediate_size == 128
    assert not caplog.records


@pytest.fixture
def folder(tmp_path):
    shape = Architecture(
        vocab_size=100, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=4, max_position_embeddings=64,
    )  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(shape.to_hf()))
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "tokenizer.model").write_bytes(b"")
    (tmp_path / "manifest.json").write_text(json.dumps({"tokenizer": {"vocab_size": 100}}))
    return tmp_path


@pytest.fixture
def with_folder(minimal, folder):
    shape = ("num_layers", "hidden_size", "num_attention_heads", "intermediate_size", "max_position_embeddings")
    settings = {key: value for key, value in minimal.items() if key not in shape}
    files = {"vocab_file": str(folder / "tokenizer.model"), "data_manifest": str(folder / "manifest.json")}
    return {**settings, **files, "hf_model": str(folder)}


def test_all_files_are_there(with_folder):
    assert check_files(config_from(with_folder)) == []
    assert check_run(config_from(with_folder), processes=4) == []


def test_missing_files_are_all_named(minimal):
    problems = check_files(config_from({**minimal, "load": "/absent/run", "data_manifest": "/absent/manifest.json"}))
    assert [problem.split(" = ")[0] for problem in problems] == ["vocab_file", "data_manifest", "load"]
    assert "data_manifest is missing, and so are" in "".join(check_files(config_from(minimal)))
    for paths in ({"train_data_paths": ["a"]}, {"data_path": "a"}):
        assert "data_manifest" not in "".join(check_files(config_from({**minimal, **paths})))


def test_load_may_be_the_run_itself(with_folder):
    run = {"load": "/absent/run", "save": "/absent/run", "checkpoint_factor": 1}
    assert check_files(config_from({**with_folder, **run})) == []


def test_model_folder_is_looked_into(with_folder, folder):
    [problem] = check_files(config_from({**with_folder, "seq_length": 65}))
    assert "exceeds max_position_embeddings = 64" in problem
    (folder / "model.safetensors").unlink()
    [problem] = check_files(config_from(with_folder))
    assert "no *.safetensors" in problem
    assert check_files(config_from({**with_folder, "load_weights": False})) == []
    (folder / "manifest.json").write_text(json.dumps({"tokenizer": {"vocab_size": 101}}))
    [problem] = check_files(config_from(with_folder))
    assert "smaller than the tokenizer's 101" in problem
    (folder / "config.json").unlink()
    [problem] = check_files(config_from(with_folder))
    assert "does not exist" in problem


def test_every_difference_from_the_folder_is_told_at_once(with_folder, folder):
    alike = {"num_layers": 1, "hidden_size": 8, "num_kv_heads": 1, "vocab_size": 100, "rms_norm_epsilon": "1e-5"}
    assert check_files(config_from({**with_folder, **alike})) == []
    problems = check_files(config_from({**with_folder, **alike, "num_layers": 2, "no_weight_tying": False}))
    assert problems == [
        f"{key} = {written} differs from {found} in {folder}/config.json. "
        f"Change or remove {key}, or name another folder as hf_model."
        for key, written, found in (("num_layers", "2", "1"), ("no_weight_tying", "false", "true"))
    ]


def test_without_the_folder_the_layout_is_checked_by_the_shape_that_is_written(minimal, with_folder, folder):
    (folder / "config.json").unlink()
    shape = {key: value for key, value in minimal.items() if key not in with_folder}
    run = {**with_folder, **shape, "model_parallel_size": 4}  # which does not divide the 6 heads
    missing, heads, *_ = check_files(config_from(run))
    assert "does not exist: a Hugging Face model folder is wanted" in missing
    assert "num_attention_heads = 6" in heads
    del run["num_layers"]
    [missing] = check_files(config_from(run))
    assert "does not exist: a Hugging Face model folder is wanted" in missing


def test_batch_on_these_processes(with_folder):
    [problem] = check_run(config_from(with_folder), processes=3)
    assert "train_batch_size = 8 is not a multiple of 3 processes" in problem
