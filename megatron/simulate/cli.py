"""``deepy.py --simulate`` and ``deepy.py --suggest``: options, answers and exit codes."""

from __future__ import annotations

import argparse
import sys

from megatron.config.derive import derive_batch
from megatron.config.layout import Layout
from megatron.config.schema import Config
from megatron.simulate.budget import planned_run
from megatron.simulate.hardware import GPUS, gpu_named
from megatron.simulate.report import simulation_report
from megatron.simulate.run import Run
from megatron.simulate.suggest import suggestion_report
from megatron.utils.status import EXIT_MISTAKE

EXIT_DOES_NOT_FIT = 1


def add_simulation_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    names = ", ".join(gpu.name for gpu in GPUS)
    parser.add_argument("--simulate", action="store_true", help="start nothing: print memory, messages and time of it")
    parser.add_argument("--suggest", action="store_true", help="start nothing: print the fastest layouts that fit")
    parser.add_argument("--processes", type=_positive, metavar="N", help="of the run to simulate; default: num_gpus")
    parser.add_argument("--gpu", metavar="NAME", help=f"type to simulate: {names}; default: all of them")
    parser.add_argument("--gpus-per-node", type=_positive, metavar="N", help="to simulate; default: by type")


def simulate(config: Config, options: argparse.Namespace, *, processes: int) -> int:
    """Answer what the options ask for, on standard output, and return the exit code.

    Args:
        config: the run.
        options: parsed by a parser with :func:`add_simulation_arguments`.
        processes: of the run, where the options do not say.
    """
    processes = options.processes or processes
    try:
        gpus = GPUS if options.gpu is None else (gpu_named(options.gpu),)
        if not options.suggest:
            run = planned_run(config, processes=processes)
            text, fits = simulation_report(run, gpus, per_node=options.gpus_per_node)
        elif options.gpu is None:
            raise ValueError(f"--suggest needs a type: add --gpu with one of {', '.join(gpu.name for gpu in GPUS)}.")
        else:
            run = Run.undivided(config, processes=processes)
            batch = _train_batch_size(config, processes=processes)
            text, fits = suggestion_report(run, gpus[0], train_batch_size=batch, per_node=options.gpus_per_node)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_MISTAKE
    sys.stdout.write(text)
    return 0 if fits else EXIT_DOES_NOT_FIT


def _train_batch_size(config: Config, *, processes: int) -> int:
    """Return the sequences of a step: as written, or what the configured layout makes of the other batch keys."""
    if config.batch.train_batch_size is not None:
        return config.batch.train_batch_size
    layout = Layout.of(config.parallel, processes=processes)
    return derive_batch(config.batch, data_parallel_size=layout.data).global_size


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number
