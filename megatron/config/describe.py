"""What a configuration amounts to, as text: the output of ``deepy.py --check``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from megatron.config.derive import (
    decay_steps,
    derive_batch,
    expected_architecture,
    known_vocab_size,
    vocab_size_is_known,
    warmup_steps,
)
from megatron.config.load import effective_settings
from megatron.config.schema import Config

_CURVE_POINTS = 8


def describe(
    config: Config,
    *,
    learning_rate: Callable[[int], float],
    data_parallel_size: int,
    new_tokens: Callable[[int], tuple[float, float]] | None = None,
    recomputation: str | None = None,
) -> str:
    """Return every setting, then what follows from them: parameters, batch, tokens, learning-rate curve.

    Args:
        config: the run.
        learning_rate: the rate of the optimizer step that follows so many finished ones.
        data_parallel_size: number of processes that train on different sequences.
        new_tokens: the rates of everything else and of the rows of new tokens, where these are told apart.
        recomputation: which modes were chosen for the blocks, where that is left to a budget.
    """
    curve = _curve(config, learning_rate, new_tokens)
    blocks = [_settings(config), _model(config), _budget(config, data_parallel_size, recomputation), curve]
    return "\n\n".join("\n".join(block) for block in blocks)


def _settings(config: Config) -> Iterator[str]:
    for name, rows in effective_settings(config).items():
        yield name
        yield from _aligned((key, _text(value)) for key, value in rows.items())


def _model(config: Config) -> Iterator[str]:
    yield "parameters"
    if not vocab_size_is_known(config):
        yield "  not known yet: vocab_size is taken from the tokenizer when the run starts"
        return
    try:
        shape = expected_architecture(config.model, vocab_size=known_vocab_size(config))
    except ValueError as error:
        yield from (f"  unknown: {line}" for line in str(error).splitlines())
        return
    yield from _aligned(
        [
            ("in all", f"{shape.num_parameters():,}"),
            ("vocabulary", f"{shape.vocab_size:,}"),
            ("feed-forward width", f"{shape.intermediate_size:,} in each of the two branches"),
        ]
    )


def _budget(config: Config, data_parallel_size: int, recomputation: str | None) -> Iterator[str]:
    yield "budget"
    try:
        batch = derive_batch(config.batch, data_parallel_size=data_parallel_size)
    except ValueError as error:
        yield f"  unknown: {error}"
        return
    step_tokens = batch.global_size * config.data.seq_length
    yield from _aligned(
        [
            (
                "batch",
                f"{batch.global_size:,} sequences = {batch.micro_size:,} per rank x {batch.accumulation_steps:,} "
                f"accumulation steps x {data_parallel_size:,} data-parallel ranks",
            ),
            ("tokens per step", f"{step_tokens:,}"),
            ("steps", f"{config.train.train_iters:,}"),
            ("tokens in all", f"{step_tokens * config.train.train_iters:,}"),
            *([("recomputation", recomputation)] if recomputation else []),
        ]
    )


def _curve(
    config: Config,
    learning_rate: Callable[[int], float],
    new_tokens: Callable[[int], tuple[float, float]] | None,
) -> Iterator[str]:
    iters = config.train.train_iters
    decay = decay_steps(config.schedule, train_iters=iters)
    warmup = warmup_steps(config.schedule, train_iters=iters)
    end = "" if config.schedule.lr_decay_style == "constant" else f", decay until step {decay:,}"
    yield f"learning rate ({config.schedule.lr_decay_style}, warm-up {warmup:g} steps{end})"
    # Even spacing, and the end of the warm-up, where the peak is.
    steps = {round(i * (iters - 1) / (_CURVE_POINTS - 2)) for i in range(_CURVE_POINTS - 1)}
    steps.add(min(round(warmup), iters - 1))
    alone = config.new_tokens.new_tokens_only_steps
    steps |= {step for step in (alone - 1, alone, alone + round(warmup)) if new_tokens and alone and step < iters}
    width = max(len("step"), len(f"{iters:,}"))
    yield f"  {'step':>{width}}  rate" + ("        rate of new tokens" if new_tokens else "")
    for step in sorted(steps):
        rates = (learning_rate(step),) if new_tokens is None else new_tokens(step)
        yield f"  {step + 1:>{width},}  {'  '.join(f'{rate:.4e}' for rate in rates)}"
    if new_tokens and alone >= iters:
        yield f"  new_tokens_only_steps = {alone:,}: the run ends before anything but the new tokens is trained"
    rate, highest = config.new_tokens.new_tokens_lr, config.optimizer.learning_rate
    if new_tokens and rate is not None and rate < highest:
        yield f"  new_tokens_lr = {rate:g} is below lr = {highest:g}: the new tokens learn slower than everything else"


def _aligned(rows: Iterator[tuple[str, str]] | list[tuple[str, str]]) -> Iterator[str]:
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        yield f"  {name:<{width}}  {text}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return f"{value:g}" if isinstance(value, float) and value == float(f"{value:g}") else str(value)
