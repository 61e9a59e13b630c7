#!/usr/bin/env python3
"""Raw text in hundreds of languages to clean, labelled, deduplicated, split text and token shards."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron.config.corpus_load import load_corpus
from megatron.config.problems import ConfigError
from megatron.corpus.engine.backend import Backend, Here, Pool
from megatron.corpus.engine.mpi import Mpi
from megatron.corpus.engine.run import Runner, Share
from megatron.corpus.pipeline import STAGES, Pipeline
from megatron.corpus.report import Report
from megatron.launch.tasks import launched_tasks
from megatron.utils.log import setup_logging
from megatron.utils.status import EXIT_MISTAKE


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("stage", choices=list(STAGES), help="run everything up to this stage that is not finished")
    add("--config", nargs="+", default=[], metavar="FILE", help="YAML files that merge; see docs/corpus.md")
    add("settings", nargs="*", metavar="key=value", help="settings that replace those of the files")
    add("--workers", type=int, help="processes on this machine, instead of the setting `workers`")
    add("--mpi", action="store_true", help="use the processes that srun or mpirun has started")
    add("--shard-range", default="0/1", metavar="I/N", help="do the I-th of N parts of a pass, as in a Slurm array")
    add("--wait", type=float, default=0.0, metavar="MINUTES", help="wait so long in each pass for the other parts")
    add("--explain", action="store_true", help="show examples of what each rule dropped and changed")
    add("--table", default="short", choices=["short", "all"], help="corpora to list: the 20 largest, or all")
    add("--quiet", action="store_true", help="no progress bar")
    # Settings may stand before and after the options.
    return parser.parse_intermixed_args()


def backend_of(args: argparse.Namespace, workers: int) -> Backend:
    """Return where the tasks run."""
    if args.mpi:
        return Mpi(launched_tasks(os.environ))
    if (launched := launched_tasks(os.environ) or 1) > 1 and args.shard_range == "0/1":
        raise ValueError(f"{launched} processes were started, and each would do everything: give --mpi")
    return Here() if workers == 1 else Pool(workers)


def main() -> int:
    """Run the pipeline, and print what it kept and dropped."""
    args = parse()
    setup_logging()
    try:
        share = Share.parse(args.shard_range)
        config = load_corpus(args.config, args.settings)
        backend = backend_of(args, args.workers or config.workers)
        if isinstance(backend, Mpi) and backend.rank:
            backend.serve()
            return 0
        with backend:
            pipeline = Pipeline(config, Runner(backend, share, not args.quiet, 60 * args.wait))
            pipeline.run(args.stage)
        report = Report(pipeline)
        if STAGES[args.stage] in ("shards", "stats"):
            report.write()
        for line in report.lines(shown=0 if args.table == "all" else 20, explain=args.explain, stage=args.stage):
            print(line)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_MISTAKE
    except (ValueError, OSError) as error:  # mistakes of the user's, a full disk; the rest is ours and shows its trace
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
