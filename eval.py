#!/usr/bin/env python3
"""Evaluate a model on benchmarks: a Hugging Face folder, a checkpoint, or a run's save folder."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from megatron.config.cli import parse_with_run
from megatron.config.layout import Layout
from megatron.config.schema import Config, ParallelConfig
from megatron.evaluation.evaluate import EvaluationRun, evaluate, score_table
from megatron.evaluation.metrics.registry import MetricSettings
from megatron.evaluation.results import IncompleteError
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.precision import compute_dtype
from megatron.parallel.process import Peers, World, joined_world
from megatron.utils.log import get_logger, setup_logging
from megatron.utils.status import EXIT_MISTAKE
from megatron.utils.tool import counts_by_name


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line; what a configuration says is the default of what the options say."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--name", help="what the model is called in reports; by default after its folder")
    add("--suite", "--tasks", dest="tasks", nargs="+", help="suites, benchmarks, their files (default emma)")
    add("--data", type=Path, default=Path("benchmarks-data"), help="prepared (default benchmarks-data)")
    add("--output", type=Path, help="folder of the results; by default `evaluation` in the model's")
    add("--languages", nargs="+", help="codes such as swh_Latn, or languages such as swh; by default all")
    add("--limit", type=int, help="only so many of the first items of each language, for a trial")
    add("--seed", type=int, default=0, help="of shots and of sampling (default 0)")
    add("--num-fewshot", nargs="+", default=[], metavar="NAME=N", help="shots of lm-evaluation-harness's benchmarks")
    add("--precision", choices=["fp32", "bfloat16"], default="bfloat16", help="default bfloat16")
    add("--batch-tokens", type=int, default=8192, help="most tokens in one forward pass (default 8192)")
    add("--batch-size", type=int, default=16, help="texts that are written at the same time (default 16)")
    add("--window-tokens", type=int, help="longest window of a text (default: the model's positions, at most 4096)")
    add("--tensor", type=int, default=1, help="processes that divide every matrix (default 1)")
    add("--spbleu-model", type=Path, help="sentencepiece model of FLORES-200, for spBLEU")
    add("--programs", nargs="+", default=[], metavar="NAME=FILE", help="HumanEval's or MultiPL-E's problems")
    add("--num-samples", type=int, default=20, help="programs for each problem (default 20)")
    add("--allow-code-execution", action="store_true", help="programs that the model writes may be run here")
    add("--bertscore-model", type=Path, help="folder of an encoder, for BERTScore")
    return parse_with_run(parser, argv, defaults_from)


def defaults_from(config: Config) -> dict[str, Any]:
    """Return the options that a run's configuration stands for."""
    section, folder = config.benchmarks, config.checkpoint.save or config.checkpoint.load
    return {
        "model": folder,
        "tasks": list(section.eval_tasks),
        "data": Path(section.eval_data),
        "output": None if section.eval_results is None else Path(section.eval_results),
        "languages": list(section.eval_languages) or None,
        "limit": section.eval_limit,
        "seed": section.eval_seed,
        "precision": config.train.precision,
        "batch_tokens": section.eval_batch_tokens,
        "batch_size": section.eval_batch_size,
        "tensor": config.parallel.model_parallel_size,
    }


def main(argv: list[str]) -> int:
    """Evaluate, show and keep; return the exit status."""
    arguments = parse(argv)
    with joined_world() as world:
        setup_logging(level=logging.INFO if world.is_main else logging.WARNING)
        try:
            return run(arguments, world)
        except KeyboardInterrupt:
            sys.stderr.write("\ninterrupted; the same command goes on after the last score that was kept\n")
            return 130
        except (ValueError, OSError) as error:
            sys.stderr.write(f"error: {error}\n" if world.is_main else f"[rank {world.rank}] error: {error}\n")
            return EXIT_MISTAKE


def run(arguments: argparse.Namespace, world: World) -> int:
    """Evaluate in one process of a layout: matrices divided as asked for, texts among the rest."""
    layout = Layout.of(ParallelConfig(model_parallel_size=arguments.tensor), processes=world.size)
    asked = EvaluationRun(
        model=arguments.model,
        name=arguments.name or "/".join(Path(arguments.model).resolve().parts[-2:]),
        tasks=arguments.tasks or ([] if arguments.programs else ["emma"]),
        data=arguments.data,
        results=arguments.output,
        languages=arguments.languages,
        limit=arguments.limit,
        seed=arguments.seed,
        batch_tokens=arguments.batch_tokens,
        batch_size=arguments.batch_size,
        window_tokens=arguments.window_tokens,
        num_fewshot=counts_by_name(arguments.num_fewshot, option="--num-fewshot"),
        programs=dict(_named_file(each) for each in arguments.programs),
        num_samples=arguments.num_samples,
        allow_code_execution=arguments.allow_code_execution,
        metrics=MetricSettings(spbleu_model=arguments.spbleu_model, bertscore_model=arguments.bertscore_model),
    )
    execution, failed = Execution(compute_dtype(arguments.precision)), False
    try:
        scores = evaluate(asked, mesh=Mesh(layout, world), peers=Peers(world), execution=execution)
    except IncompleteError as error:
        scores, failed = error.scores, True
    if world.is_main:
        sys.stdout.write(f"{score_table(scores)}\n")
    if failed:
        get_logger("megatron.evaluation").error("not everything could be scored; the messages above say what and why")
    return EXIT_MISTAKE if failed else 0


def _named_file(argument: str) -> tuple[str, Path]:
    name, _, file = argument.partition("=")
    if not (name and file):
        raise ValueError(f"--programs {argument}: give NAME=FILE, such as humaneval=HumanEval.jsonl")
    return name, Path(file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
