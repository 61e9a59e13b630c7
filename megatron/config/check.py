"""The rules that join several keys, and the check that the files named by a configuration are there.

A rule is a function whose parameters are YAML keys. It runs when each of them has a value of the right type, so that
one wrong key hides as few other mistakes as possible, and returns the key to blame, the rule and the fix.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from megatron.config.data_rules import DATA_RULES, DATA_RULES_OF_ABSENCE
from megatron.config.derive import (
    architecture_of,
    derive_batch,
    expected_architecture,
    known_vocab_size,
    vocab_size_is_known,
)
from megatron.config.float8_rules import FLOAT8_RULES, package_problems, side_problems
from megatron.config.layout import Layout, pipeline_problems, shape_problems
from megatron.config.mixture_rules import MIXTURE_RULES
from megatron.config.new_token_rules import NEW_TOKEN_RULES, NEW_TOKEN_RULES_OF_ABSENCE
from megatron.config.problems import ABSENT, Complaint, Problem
from megatron.config.read import Entry
from megatron.config.schema import REQUIRED_SHAPE_KEYS, SHAPE_KEYS, AdamConfig, Config, ZeroConfig


def broken_rules(values: Mapping[str, Any], given: Mapping[str, Entry], *, complete: bool) -> list[Problem]:
    """Return a problem for every rule that the values break.

    Args:
        values: key to its checked value or default; keys with a problem of their own are absent.
        given: what the user wrote, to say where.
        complete: whether that is all; if not, nothing is said that another key could mend.
    """
    problems = []
    for rule in _RULES:
        names = list(inspect.signature(rule).parameters)
        if not complete and rule in _RULES_OF_ABSENCE and not given.keys() >= set(names):
            continue
        known = {**values, "given": given.keys()}
        if all(name in known for name in names):
            for key, text, fix in rule(**{name: known[name] for name in names}):
                top, *path = (key,) if isinstance(key, str) else key
                entry = given.get(top)
                if entry is None and not complete:
                    continue
                where, value = (entry.place(path), entry.inside(path)) if entry is not None else ("", ABSENT)
                problems.append(Problem(where, ".".join((top, *path)), text, fix, value))
    return problems


def _model_or_shape(hf_model: str | None, given: Any) -> Iterator[Complaint]:
    """Ask for a folder or a whole shape."""
    if hf_model is not None:
        return
    if not any(key in given for key in SHAPE_KEYS):
        yield "hf_model", "is missing, and so is every shape key", "Name a Hugging Face folder, or write the shape out."
    else:
        for key in REQUIRED_SHAPE_KEYS:
            if key not in given:
                yield key, "is missing", f"Add `{key}: ...`, or name a Hugging Face folder as hf_model."


def _weights_need_a_folder(hf_model: str | None, given: Any) -> Iterator[Complaint]:
    if hf_model is None and "load_weights" in given:
        yield "load_weights", "has no effect without hf_model", "Name the folder as hf_model, or remove load_weights."


def _heads_share_keys(num_attention_heads: int | None, num_kv_heads: int | None) -> Iterator[Complaint]:
    if num_attention_heads and num_kv_heads and num_attention_heads % num_kv_heads:
        rule = f"does not divide num_attention_heads = {num_attention_heads}"
        yield "num_kv_heads", rule, "Every key/value head serves the same number of query heads: change one of the two."


def _heads_divide_width(
    hidden_size: int | None, num_attention_heads: int | None, head_dim: int | None
) -> Iterator[Complaint]:
    if not hidden_size or not num_attention_heads:
        return
    if head_dim is None and hidden_size % num_attention_heads:
        rule = f"is not a multiple of num_attention_heads = {num_attention_heads}"
        yield "hidden_size", rule, "Change one of the two, or give head_dim."
    elif (head_dim or hidden_size // num_attention_heads) % 2:
        key = "head_dim" if head_dim else "hidden_size"
        yield key, "gives heads of odd width, but rotary embeddings turn pairs", "Make the width of a head even."


def _long_enough(max_position_embeddings: int | None, seq_length: int) -> Iterator[Complaint]:
    if max_position_embeddings is not None and max_position_embeddings < seq_length:
        rule = f"exceeds max_position_embeddings = {max_position_embeddings}"
        yield "seq_length", rule, "Shorten seq_length, or lengthen max_position_embeddings."


def _one_learning_rate(lr: float | None, optimizer: AdamConfig) -> Iterator[Complaint]:
    inner = optimizer.params.lr
    if lr is None and inner is None:
        yield "lr", "is missing", "Add `lr: ...`, or lr under optimizer.params."
    elif lr is not None and inner is not None and lr != inner:
        yield "lr", f"contradicts optimizer.params.lr = {inner}", "Keep one of the two."


def _floor_below_peak(lr: float | None, optimizer: AdamConfig, min_lr: float) -> Iterator[Complaint]:
    peak = lr if lr is not None else optimizer.params.lr
    if peak is not None and min_lr > peak:
        yield "min_lr", f"exceeds the learning rate {peak}", "Lower min_lr, or raise the learning rate."


def _profiles_something(profile: bool, profile_step_start: int, profile_step_stop: int) -> Iterator[Complaint]:
    if profile and profile_step_stop < profile_step_start:
        rule = f"comes before profile_step_start = {profile_step_start}"
        yield "profile_step_stop", rule, "Name a first and a last step."


def _one_decay_length(lr_decay_iters: int | None, lr_decay_fraction: float | None) -> Iterator[Complaint]:
    if lr_decay_iters is not None and lr_decay_fraction is not None:
        yield "lr_decay_fraction", f"is given beside lr_decay_iters = {lr_decay_iters}", "Keep one of the two."


def _batch_known(
    train_batch_size: int | None, train_micro_batch_size_per_gpu: int | None, gradient_accumulation_steps: int | None
) -> Iterator[Complaint]:
    """Check what can be said of the batch before the number of processes is known."""
    micro, steps = train_micro_batch_size_per_gpu, gradient_accumulation_steps
    if train_batch_size is None and micro is None:
        fix = "Add train_batch_size or train_micro_batch_size_per_gpu."
        yield "train_batch_size", "is missing, and so is train_micro_batch_size_per_gpu", fix
    elif train_batch_size is not None and train_batch_size % ((micro or 1) * (steps or 1)):
        parts = [
            f"{key} = {value}"
            for key, value in (("train_micro_batch_size_per_gpu", micro), ("gradient_accumulation_steps", steps))
            if value is not None
        ]
        rule = f"is not a multiple of {' x '.join(parts)}"
        yield "train_batch_size", rule, "It is micro-batch x accumulation steps x processes: change one of them."


def _saved_sometimes(
    save: str | None, checkpoint_factor: int | None, extra_save_iters: tuple[int, ...]
) -> Iterator[Complaint]:
    if save is not None and checkpoint_factor is None and not extra_save_iters:
        fix = "Add `checkpoint_factor: 1000` to save every 1000 steps, or list steps in extra_save_iters."
        yield "save", "is given without saying when to save", fix


def _saving_needs_a_folder(save: str | None, given: Any) -> Iterator[Complaint]:
    if save is None:
        for key in (
            "checkpoint_factor", "checkpoint_url", "extra_save_iters", "keep_last_n_checkpoints", "keep_every",
            "async_checkpoint", "max_failed_saves", "allow_changes",
        ):  # fmt: skip
            if key in given:
                yield key, "has no effect without save", "Add `save: FOLDER`, or remove the key."


def _finetune_what(load: str | None, finetune: bool) -> Iterator[Complaint]:
    if finetune and load is None:
        fix = "Add `load: FOLDER`; hf_model needs no finetune."
        yield "finetune", "is true without load", fix


def _shards_need_a_stage(data_parallel_shard_size: int | None, zero_optimization: ZeroConfig) -> Iterator[Complaint]:
    if data_parallel_shard_size is not None and zero_optimization.stage == 0:
        fix = "Add `zero_optimization: {stage: 3}` (or 1 or 2), or remove the key."
        yield "data_parallel_shard_size", "has no effect with stage 0, which divides nothing", fix


def _sequence_needs_tensor(sequence_parallel: bool, model_parallel_size: int) -> Iterator[Complaint]:
    if sequence_parallel and model_parallel_size == 1:
        fix = "Set model_parallel_size to 2 or more, or remove the key."
        yield "sequence_parallel", "has no effect with model_parallel_size = 1", fix


def _schedule_of_a_pipeline(pipe_parallel_size: int, pipe_schedule: str, pipe_chunks: int) -> Iterator[Complaint]:
    if pipe_parallel_size < 2:
        fix = "Set pipe_parallel_size to 2 or more, or remove the key."
        if pipe_schedule != "1f1b":
            yield "pipe_schedule", "has no effect without a pipeline", fix
        if pipe_chunks != 1:
            yield "pipe_chunks", "has no effect without a pipeline", fix
    elif pipe_schedule == "1f1b" and pipe_chunks > 1:
        yield "pipe_chunks", "must be 1 with pipe_schedule: 1f1b", "Use pipe_schedule: interleaved, or remove the key."
    elif pipe_schedule == "interleaved" and pipe_chunks < 2:
        yield "pipe_schedule", "interleaves at least 2 stages in each process", "Add `pipe_chunks: 2`."


def _zero_bubble_delays_gradients(
    pipe_parallel_size: int, pipe_schedule: str, checkpoint_activations: bool, checkpoint_mode: str, compile: bool
) -> Iterator[Complaint]:
    if pipe_parallel_size < 2 or pipe_schedule != "zero_bubble":
        return
    fix = "Use pipe_schedule: 1f1b or interleaved, or remove the key."
    why = "pipe_schedule: zero_bubble, which goes backward twice through every block"
    if compile:
        yield "compile", f"does not go with {why}", fix
    if checkpoint_activations and checkpoint_mode == "selective":
        fix = "Use checkpoint_mode: full or budget, or another schedule."
        yield "checkpoint_mode", f"selective does not go with {why}", fix


def _a_mode_of_recomputation(checkpoint_activations: bool, given: Any) -> Iterator[Complaint]:
    if not checkpoint_activations:
        for key in ("checkpoint_mode", "activation_memory_gib"):
            if key in given:
                fix = "Add `checkpoint_activations: true`, or remove the key."
                yield key, "has no effect without checkpoint_activations", fix


def _a_budget_of_activations(
    checkpoint_activations: bool, checkpoint_mode: str, activation_memory_gib: float | None
) -> Iterator[Complaint]:
    if not checkpoint_activations:
        return
    if checkpoint_mode == "budget" and activation_memory_gib is None:
        fix = "Add `activation_memory_gib: ...`, how much the blocks in a process may keep; or use another mode."
        yield "checkpoint_mode", "is budget without activation_memory_gib", fix
    elif checkpoint_mode != "budget" and activation_memory_gib is not None:
        fix = "Set `checkpoint_mode: budget`, or remove the key."
        yield "activation_memory_gib", f"has no effect with checkpoint_mode: {checkpoint_mode}", fix


_RULES: tuple[Callable[..., Iterator[Complaint]], ...] = (
    _model_or_shape,
    _weights_need_a_folder,
    _heads_share_keys,
    _heads_divide_width,
    _long_enough,
    _one_learning_rate,
    _floor_below_peak,
    _one_decay_length,
    _profiles_something,
    _batch_known,
    _saved_sometimes,
    _saving_needs_a_folder,
    _finetune_what,
    _shards_need_a_stage,
    _sequence_needs_tensor,
    _schedule_of_a_pipeline,
    _zero_bubble_delays_gradients,
    _a_mode_of_recomputation,
    _a_budget_of_activations,
    *DATA_RULES,
    *MIXTURE_RULES,
    *NEW_TOKEN_RULES,
    *FLOAT8_RULES,
)
# Broken because a key is not there, although they blame another.
_RULES_OF_ABSENCE = (
    _weights_need_a_folder,
    _heads_divide_width,
    _saved_sometimes,
    _saving_needs_a_folder,
    _finetune_what,
    _shards_need_a_stage,
    _sequence_needs_tensor,
    _schedule_of_a_pipeline,
    _a_mode_of_recomputation,
    _a_budget_of_activations,
    *DATA_RULES_OF_ABSENCE,
    *NEW_TOKEN_RULES_OF_ABSENCE,
)


def check_run(config: Config, *, processes: int) -> list[str]:
    """Return what keeps a valid configuration from training here: its files, and its layout on so many processes."""
    problems, steps = check_files(config), None
    try:
        layout = Layout.of(config.parallel, processes=processes)
        steps = derive_batch(config.batch, data_parallel_size=layout.data).accumulation_steps
    except ValueError as error:
        problems.append(str(error))
    problems += pipeline_problems(config.parallel, accumulation_steps=steps)
    return problems if config.train.fp8 is None else [*problems, *package_problems()]


def check_files(config: Config) -> list[str]:
    """Return what is wrong with the files that a training run of this configuration reads; empty when all is well.

    Apart from :func:`load.load`, so that a configuration can be read on a machine that lacks the data.
    """
    files = (("vocab_file", config.tokenizer.vocab_file), ("data_manifest", config.data.data_manifest))
    problems = [
        f"{key} = {path!r}: there is no such file. Change the path."
        for key, path in files
        if path is not None and not Path(path).is_file()
    ]
    data = config.data
    if data.data_manifest is None and data.data_path is None and not data.train_data_paths:
        problems.append(
            "data_manifest is missing, and so are train_data_paths and data_path: training needs one of them. Tokenise "
            "a corpus with tools/preprocess_data.py."
        )
    load = config.checkpoint.load
    if load is not None and load != config.checkpoint.save and "://" not in load and not Path(load).is_dir():
        problems.append(f"load = {load!r}: there is no such folder. Change the path.")
    problems += _model_problems(config)
    return problems


def _model_problems(config: Config) -> Iterator[str]:
    """Check the model's shape with all that the files tell, and that there are weights to read."""
    folder, vocab_size = config.model.hf_model, known_vocab_size(config)
    if not vocab_size_is_known(config):
        vocab_size = config.parallel.model_parallel_size  # what the tokenizer's will be is asked when the run starts
    try:
        architecture_of(config.model, vocab_size=vocab_size)
    except ValueError as error:
        yield from str(error).splitlines()
    else:
        if folder is not None and config.model.load_weights and not any(Path(folder).glob("*.safetensors")):
            fix = "Save the model as safetensors, or set load_weights: false."
            yield f"hf_model = {folder!r}: holds no *.safetensors. {fix}"
    try:
        shape = expected_architecture(config.model, vocab_size=vocab_size)
    except ValueError:
        return  # said above
    if shape.max_position_embeddings < config.data.seq_length:
        longest = f"max_position_embeddings = {shape.max_position_embeddings}"
        yield f"seq_length = {config.data.seq_length} exceeds {longest} of {folder}. Shorten seq_length."
    yield from shape_problems(config.parallel, shape, seq_length=config.data.seq_length)
    if config.train.fp8 is not None:
        yield from side_problems(shape)
