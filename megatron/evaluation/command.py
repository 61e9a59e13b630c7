"""The options of ``eval.py``, what they ask for, and the table that it prints."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from megatron.config.schema import BenchmarksConfig
from megatron.evaluation.evaluate import EvaluationRun, evaluate, score_table
from megatron.evaluation.metrics.registry import MetricSettings
from megatron.evaluation.results import IncompleteError
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.process import Peers
from megatron.utils.log import get_logger
from megatron.utils.tool import counts_by_name

logger = get_logger(__name__)


def evaluation_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of all options but those that name the model.

    Args:
        description: first line of ``--help``.
    """
    parser = argparse.ArgumentParser(description=description)
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
    return parser


def defaults_of(section: BenchmarksConfig) -> dict[str, Any]:
    """Return the options that a run's section stands for; options that are given win over them."""
    return {
        "tasks": list(section.eval_tasks),
        "data": Path(section.eval_data),
        "output": None if section.eval_results is None else Path(section.eval_results),
        "languages": list(section.eval_languages) or None,
        "limit": section.eval_limit,
        "seed": section.eval_seed,
        "batch_tokens": section.eval_batch_tokens,
        "batch_size": section.eval_batch_size,
    }


def run_of(arguments: argparse.Namespace) -> EvaluationRun:
    """Return what is asked for.

    Raises:
        ValueError: an option is not written as it must be.
    """
    return EvaluationRun(
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


def scored_table(run: EvaluationRun, *, mesh: Mesh, peers: Peers, execution: Execution) -> tuple[str, bool]:
    """Evaluate; every process of a layout calls this with the same arguments.

    Returns:
        the table of the scores, without lines in processes that are not the main one; and whether everything could be
        scored. What could not has been told.

    Raises:
        ValueError: as :func:`megatron.evaluation.evaluate.evaluate`.
    """
    try:
        return score_table(evaluate(run, mesh=mesh, peers=peers, execution=execution)), True
    except IncompleteError as error:
        logger.error("not everything could be scored; the messages above say what and why")
        return score_table(error.scores), False


def _named_file(argument: str) -> tuple[str, Path]:
    name, _, file = argument.partition("=")
    if not (name and file):
        raise ValueError(f"--programs {argument}: give NAME=FILE, such as humaneval=HumanEval.jsonl")
    return name, Path(file)
