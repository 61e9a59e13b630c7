from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from megatron.config.keys import GROUPS, LATER_KEYS, NEOX_KEYS, REJECTED_VALUES, Status
from megatron.config.load import config_from, dump
from megatron.config.problems import ConfigError
from megatron.config.schema import SECTION_OF_KEY, SECTIONS

REFERENCE = Path(__file__).resolve().parents[4] / "shared" / "reference" / "neox.md"


def of(*statuses):
    return [pytest.param(key, id=key.name) for key in NEOX_KEYS.values() if key.status in statuses]


def test_every_key_is_in_the_table_once():
    assert len(NEOX_KEYS) == 318
    assert sum(map(len, GROUPS.values())) == 318
    assert [len(group) for group in GROUPS.values()] == [35, 13, 6, 77, 8, 7, 31, 20, 2, 99, 14, 6]


@pytest.mark.skipif(not REFERENCE.is_file(), reason=f"the list of GPT-NeoX's keys is not here: {REFERENCE}")
def test_names_and_defaults_are_those_of_gpt_neox():
    appendix = REFERENCE.read_text(encoding="utf-8").partition("## 7.")[2]
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", appendix, re.MULTILINE)
    assert {name for name, _ in rows} == set(NEOX_KEYS)
    defaults = {name: ast.literal_eval(text.strip("`").replace("\\|", "|")) for name, text in rows if text[0] == "`"}
    assert len(defaults) == 317  # git_hash has a description instead
    assert {name: NEOX_KEYS[name].default for name in defaults} == defaults


def test_no_two_sections_share_a_key():
    assert sum(len(section.model_fields) for section in SECTIONS.values()) == len(SECTION_OF_KEY)


def test_used_keys_are_fields_and_others_are_not():
    assert {key.name for key in NEOX_KEYS.values() if key.status is Status.USED} == set(SECTION_OF_KEY) & set(NEOX_KEYS)


def test_every_other_key_has_a_reason():
    assert all(key.note for key in NEOX_KEYS.values() if key.status is not Status.USED)
    renamed = [key.note for key in NEOX_KEYS.values() if key.status is Status.RENAMED]
    assert set(renamed) <= set(SECTION_OF_KEY)


# A valid value of each used key that differs from the default and from the smallest configuration, with what it needs.
REACHES = {
    "train_batch_size": (16, {}),
    "train_micro_batch_size_per_gpu": (4, {}),
    "gradient_accumulation_steps": (2, {}),
    "optimizer": ({"type": "AdamW", "params": {"betas": [0.8, 0.9]}}, {}),
    "gradient_clipping": (0.5, {}),
    "num_gpus": (3, {}),
    "launcher": ("PDSH", {}),
    "hostfile": ("hosts", {}),
    "include": ("a@b:0,1", {}),
    "exclude": ("a", {}),
    "num_nodes": (2, {}),
    "master_addr": ("a", {}),
    "master_port": (29500, {}),
    "comment": ("a run", {}),
    "account": ("project", {}),
    "precision": ("bfloat16", {}),
    "num_layers": (3, {}),
    "hidden_size": (96, {}),
    "intermediate_size": (64, {}),
    "num_attention_heads": (3, {}),
    "num_kv_heads": (2, {}),
    "seq_length": (32, {}),
    "max_position_embeddings": (64, {}),
    "rms_norm_epsilon": (1e-6, {}),
    "no_weight_tying": (False, {}),
    "init_method_std": (0.01, {}),
    "rotary_emb_base": (500000, {}),
    "lr": (2e-3, {}),
    "lr_decay_style": ("cosine", {}),
    "lr_decay_iters": (50, {}),
    "lr_decay_fraction": (0.5, {}),
    "min_lr": (1e-5, {}),
    "warmup": (0.1, {}),
    "tensorboard_dir": ("tb", {}),
    "peak_theoretical_tflops": (312, {}),
    "log_interval": (10, {}),
    "use_wandb": (True, {}),
    "wandb_group": ("a", {"use_wandb": True}),
    "wandb_run_name": ("a", {"use_wandb": True}),
    "wandb_team": ("a", {"use_wandb": True}),
    "wandb_project": ("emma", {"use_wandb": True}),
    "wandb_host": ("https://wandb.example.org", {"use_wandb": True}),
    "profile": (True, {}),
    "profile_step_start": (5, {"profile": True}),
    "profile_step_stop": (20, {"profile": True}),
    "distributed_backend": ("gloo", {}),
    "seed": (1, {}),
    "tokenizer_type": ("HFTokenizer", {}),
    "save": ("out", {"checkpoint_factor": 5}),
    "load": ("in", {}),
    "checkpoint_factor": (5, {"save": "out"}),
    "extra_save_iters": ([1, 2], {"save": "out"}),
    "finetune": (True, {"load": "in"}),
    "train_iters": (7, {}),
    "keep_last_n_checkpoints": (2, {"save": "out", "checkpoint_factor": 5}),
    "eval_interval": (10, {}),
    "eval_iters": (5, {"data_path": "a"}),
    "data_path": ("a", {}),
    "split": ("9/1", {"data_path": "a"}),
    "train_data_paths": (["a", "b"], {}),
    "train_data_weights": ([0.3, "7e-1"], {"train_data_paths": ["a", "b"]}),
    "valid_data_paths": (["c"], {"train_data_paths": ["a", "b"]}),
    "weight_by_num_documents": (True, {"train_data_paths": ["a", "b"]}),
    "weighted_sampler_alpha": (0.3, {"train_data_paths": ["a"], "weight_by_num_documents": True}),
    "eod_mask_loss": (True, {}),
    "vocab_file": ("other.model", {}),
    "exit_interval": (5, {}),
    "weight_decay": (0.2, {}),
    "checkpoint_activations": (True, {}),
    "pipe_parallel_size": (2, {}),
    "model_parallel_size": (2, {}),
    "sequence_parallel": (True, {"model_parallel_size": 2}),
    "zero_optimization": ({"stage": 2}, {}),
    "temperature": (0.7, {}),
    "top_p": (0.9, {}),
    "top_k": (5, {}),
    "maximum_tokens": (16, {}),
    "sample_input_file": ("prompts.txt", {}),
    "sample_output_file": ("out.jsonl", {}),
    "num_samples": (2, {}),
    "eval_tasks": (("sib200",), {}),
}


@pytest.mark.parametrize("key", of(Status.USED))
def test_used_keys_reach_their_section(key, minimal):
    value, needs = REACHES[key.name]
    section = SECTION_OF_KEY[key.name]
    before = config_from(minimal)
    after = config_from({**minimal, **needs, key.name: value})
    found = getattr(getattr(after, section), key.name)
    if key.name == "launcher":
        assert found == "ssh"
    else:
        assert found != getattr(getattr(before, section), key.name)
    if isinstance(value, (int, float, str)) and key.name != "launcher":
        assert found == value


@pytest.mark.parametrize(
    ("theirs", "ours"), [("pdsh", "ssh"), ("OpenMPI", "mpi"), ("mvapich", "mpi"), ("mpich", "mpi"), ("slurm", "slurm")]
)
def test_launchers_of_gpt_neox(theirs, ours, minimal):
    assert config_from({**minimal, "launcher": theirs, "num_nodes": -1}).launch.launcher == ours


def test_launcher_args_are_a_list_or_a_line(minimal, problems_with):
    line = config_from({**minimal, "launcher_args": "--cpu-bind=cores -p '2 2'"}).launch
    assert line == config_from({**minimal, "launcher_args": ["--cpu-bind=cores", "-p", "2 2"]}).launch
    assert line.launcher_args == ("--cpu-bind=cores", "-p", "2 2")
    [problem] = problems_with(slurm={"time": 86400})  # what YAML makes of 24:00:00
    assert "quotes" in problem.fix


@pytest.mark.parametrize("key", of(Status.REJECTED, Status.IGNORED, Status.FIXED))
def test_accepted_values_pass_in_silence(key, minimal, caplog):
    for value in key.accepts:
        config_from({**minimal, key.name: value})
    assert not caplog.records


@pytest.mark.parametrize("key", of(Status.REJECTED))
def test_rejected_keys_pass_at_gpt_neox_default_and_else_give_their_reason(key, minimal, problems_with):
    assert not problems_with(**{key.name: key.default})
    [problem] = problems_with(**{key.name: "something else"})
    assert problem.key == key.name
    assert key.note in problem.rule


@pytest.mark.parametrize("key", of(Status.FIXED))
def test_fixed_keys_refuse_other_values_and_name_the_right_one(key, problems_with):
    [problem] = problems_with(**{key.name: "something else"})
    assert key.note in problem.rule
    assert str(key.accepts[0]) in problem.fix


@pytest.mark.parametrize("key", of(Status.IGNORED))
def test_ignored_keys_warn_once_with_their_reason(key, minimal, caplog):
    config_from({**minimal, key.name: "something else"})
    [record] = caplog.records
    assert key.name in record.getMessage() and key.note in record.getMessage()


@pytest.mark.parametrize(("key", "value"), REJECTED_VALUES)
def test_values_that_gpt_neox_has_and_we_have_not(key, value, problems_with):
    reason = REJECTED_VALUES[key, value]
    setting = {"optimizer": {"type": value}} if key == "optimizer.type" else {key: value.upper()}
    [problem] = problems_with(**setting)
    text = f"{problem.rule}. {problem.fix}".lower().replace(". ", ": ")
    assert reason.partition(": ")[2].lower() in text
    assert problem.key == key


def test_late_features_say_not_supported_yet(problems_with):
    late = {
        "train_label_data_paths": ["a"],
        "log_param_norm": True,
    }
    problems = problems_with(**late)
    assert {problem.key for problem in problems} == set(late)
    assert all(problem.rule.startswith("not supported yet") for problem in problems)


@pytest.mark.parametrize(
    "text",
    [
        "pipe_parallel_size: 0",
        "pipe-parallel-size: 1",
        "zero_optimization: {stage: 0, allgather_partitions: true}",
        "attention_config: [[[flash], 2]]",
        "attention_config: [global, flash]",
        "norm: RMSNorm",
        "activation: silu",
        "activation: swiglu",
        "use_bias_in_mlp: false",
        "rotary_pct: 1",
        "hidden_dropout: 0",
        "wandb: {enabled: false}",
        "fp16: {enabled: false}",
        "scalenorm_epsilon: 1e-8",
        "layernorm_epsilon: 1e-5",
        "data_impl: mmap",
    ],
)
def test_neutral_settings_of_gpt_neox_files(text, minimal, caplog):
    key, value = next(iter(yaml.safe_load(text).items()))
    config_from({**minimal, key.replace("-", "_"): value})
    assert not caplog.records


@pytest.mark.parametrize(
    "setting",
    [
        {"attention_config": [[["local"], 2]]},
        {"attention_config": []},
        {"attention_config": [[["flash", "sparse_fixed"], 1]]},
        {"norm": "layernorm"},
        {"use_bias_in_mlp": True},
        {"rotary_pct": 0.25},
        {"hidden_dropout": 0.1},
        {"rotary_pct": True},
    ],
)
def test_other_architectures_are_refused(setting, problems_with):
    assert [problem.key for problem in problems_with(**setting)] == list(setting)


def test_config_error_is_a_value_error():
    with pytest.raises(ValueError, match="problems"):
        config_from({})
    assert issubclass(ConfigError, ValueError)


@pytest.mark.parametrize("key", LATER_KEYS.values(), ids=LATER_KEYS)
def test_keys_to_come_are_not_unknown(key, minimal, caplog, problems_with):
    for value in key.accepts:
        config_from({**minimal, key.name: value})
    assert not caplog.records
    [problem] = problems_with(**{key.name: "something else"})
    assert problem.key == key.name
    assert problem.rule.startswith("not supported yet: ") and "Did you mean" not in problem.fix


def test_keys_to_come_are_nobody_else_s():
    assert not LATER_KEYS.keys() & (set(SECTION_OF_KEY) | set(NEOX_KEYS))


def test_weights_that_the_number_of_documents_overrides(minimal, caplog):
    paths = {"train_data_paths": ["a", "b"], "train_data_weights": [1, 2]}
    config = config_from({**minimal, **paths, "weight_by_num_documents": True})
    assert config.data.weight_by_num_documents and config.data.train_data_weights == ()
    assert "train_data_weights = [1, 2] is overridden by weight_by_num_documents" in caplog.text


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("split", "900, 100", "has no effect without data_path"),
        ("weighted_sampler_alpha", 0.3, "has no effect without weight_by_num_documents"),
        ("eval_iters", 100, "what a manifest holds out is scored whole"),
    ],
)
def test_what_says_something_about_other_ways_to_name_shards(key, value, says, minimal, caplog):
    config = config_from({**minimal, "data_manifest": "m", key: value})
    assert says in caplog.text and config == config_from({**minimal, "data_manifest": "m"})
    assert key not in dump(config)


def test_data_keys_of_gpt_neox_files_at_their_defaults(minimal, caplog):
    idle = {"split": "969, 30, 1", "weighted_sampler_alpha": 1.0, "weight_by_num_documents": False}
    config_from({**minimal, **idle, "train_data_paths": ["a"], "test_data_paths": None})
    assert not caplog.records
    config_from({**minimal, "train_data_paths": ["a"], "test_data_paths": ["b"], "valid_data_weights": [1.0]})
    assert "there is no test split" in caplog.text and "reported by itself" in caplog.text
