"""Benchmarks in which a model writes, and metrics look at what it wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.evaluation.benchmarks.data import Items, Record
from megatron.evaluation.benchmarks.fields import check_fields
from megatron.evaluation.benchmarks.outcome import Finish, RunOptions, outcome_of, prompt_fields, prompt_flags
from megatron.evaluation.benchmarks.prompts import Prompt, PromptBuilder
from megatron.evaluation.language_model import LanguageModel
from megatron.generate.options import GenerationOptions, Written
from megatron.generate.sampling import Sampling


def new_tokens(model: LanguageModel, benchmark: BenchmarkConfig) -> int:
    """Return how many new tokens a text may have: those of the definition, but half of the model's positions at most.

    The other half is the prompt's, which would have no room in short models.
    """
    return max(1, min(benchmark.maximum_tokens, model.max_tokens // 2))


def ask_generation(
    model: LanguageModel, benchmark: BenchmarkConfig, language: str, items: Items, options: RunOptions
) -> Finish:
    """Let a model answer every record. Every process calls this alike.

    Args:
        model: writes.
        benchmark: of kind ``generation``.
        language: corpus code.
        items: the records.
        options: of the run.

    Returns:
        what makes metrics of the answers.

    Raises:
        ValueError: records lack fields that the definition names.
    """
    maximum_tokens = new_tokens(model, benchmark)
    room = model.max_tokens - 1 - maximum_tokens
    builder = PromptBuilder(benchmark, language, model.tokenizer, room=room, scripts=items.scripts)
    records = options.first(items.test)
    check_fields(benchmark, language, items, records, names=builder.names)
    prompts = builder.build_all(records, items.shots, seed=options.seed)
    sampling = Sampling(**benchmark.sampling.model_dump())
    asked = GenerationOptions(maximum_tokens, benchmark.stop, sampling, options.seed)
    written = model.write([prompt.ids for prompt in prompts], asked)
    return lambda: outcome_of(
        benchmark, language, _items(benchmark, records, prompts, written), prompt_flags(prompts), options.metrics
    )


def _items(
    benchmark: BenchmarkConfig, records: Sequence[Record], prompts: Sequence[Prompt], written: Sequence[Written]
) -> list[dict[str, Any]]:
    return [
        {
            "id": record["id"],
            **prompt_fields(prompt),
            "output": each.text,
            "stop_reason": each.stop_reason,
            "tokens": each.num_tokens,
            "references": [] if benchmark.reference is None else [str(record[benchmark.reference])],
        }
        for record, prompt, each in zip(records, prompts, written, strict=True)
    ]
