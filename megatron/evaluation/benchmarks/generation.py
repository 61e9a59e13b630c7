"""Benchmarks in which a model writes, and metrics look at what it wrote."""

from __future__ import annotations

import re
from collections.abc import Sequence

from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.evaluation.benchmarks.data import Items, Record
from megatron.evaluation.benchmarks.fields import check_fields
from megatron.evaluation.benchmarks.outcome import Finish, Outcome, RunOptions, prompt_fields, prompt_flags
from megatron.evaluation.benchmarks.prompts import Prompt, PromptBuilder
from megatron.evaluation.language_model import LanguageModel
from megatron.evaluation.metrics.registry import Texts, compute
from megatron.generate.options import GenerationOptions, Written
from megatron.generate.sampling import Sampling

_ONLY_DOTS = re.compile(r"\.*")


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
    return lambda: _outcome(benchmark, language, records, prompts, written, options)


def _outcome(
    benchmark: BenchmarkConfig,
    language: str,
    records: Sequence[Record],
    prompts: Sequence[Prompt],
    written: Sequence[Written],
    options: RunOptions,
) -> Outcome:
    references = [[] if benchmark.reference is None else [str(record[benchmark.reference])] for record in records]
    leave_out = benchmark.empty_outputs == "leave-out"
    counts = [not (leave_out and _ONLY_DOTS.fullmatch(each.text)) for each in written]
    texts = Texts(
        [each.text.strip() for each, counted in zip(written, counts, strict=True) if counted],
        [answers for answers, counted in zip(references, counts, strict=True) if counted],
        output_language(benchmark, language),
        options.metrics,
    )
    metrics = compute(benchmark.metrics, texts)
    if leave_out:
        metrics["left_out"] = float(counts.count(False))
    items = [
        {
            "id": record["id"],
            **prompt_fields(prompt),
            "output": each.text,
            "stop_reason": each.stop_reason,
            "tokens": each.num_tokens,
            "references": answers,
            **({} if counted else {"counted": False}),
        }
        for record, prompt, each, answers, counted in zip(records, prompts, written, references, counts, strict=True)
    ]
    return Outcome(metrics, items, prompt_flags(prompts))


def output_language(benchmark: BenchmarkConfig, language: str) -> str:
    """Return the language that outputs should be in: the pivot's where a benchmark translates into it."""
    return benchmark.pivot if benchmark.pivot is not None and benchmark.direction == "into" else language
