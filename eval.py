#!/usr/bin/env python3
"""Evaluate a model on benchmarks: a Hugging Face folder, a checkpoint, or a run's save folder."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import Any

from megatron.config.cli import parse_with_run
from megatron.config.layout import Layout
from megatron.config.schema import Config, ParallelConfig
from megatron.evaluation.command import defaults_of, evaluation_parser, run_of, scored_table
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.precision import compute_dtype
from megatron.parallel.process import Peers, World, joined_world
from megatron.utils.log import setup_logging
from megatron.utils.status import EXIT_MISTAKE


def defaults_from(config: Config) -> dict[str, Any]:
    """Return the options that a run's configuration stands for."""
    of_run = {"precision": config.train.precision, "tensor": config.parallel.model_parallel_size}
    return {"model": config.checkpoint.save or config.checkpoint.load, **of_run, **defaults_of(config.benchmarks)}


def main(argv: list[str]) -> int:
    """Evaluate, show and keep; return the exit status."""
    arguments = parse_with_run(evaluation_parser(__doc__ or ""), argv, defaults_from)
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
    asked, execution = run_of(arguments), Execution(compute_dtype(arguments.precision))
    table, is_whole = scored_table(asked, mesh=Mesh(layout, world), peers=Peers(world), execution=execution)
    if world.is_main:
        sys.stdout.write(f"{table}\n")
    return 0 if is_whole else EXIT_MISTAKE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
