#!/usr/bin/env python3
"""Show what a configuration will train on, or what a run was trained on: tokens, share and epochs of every part.

plan_mixture.py run.yml                  from the shards that the configuration names
plan_mixture.py mix.yml --counts T.tsv   before anything is tokenised: of a configuration, the mixture is enough, with
                                         seq_length=4096 train_batch_size=4096 train_iters=12000 or the like
plan_mixture.py --run FOLDER             what a run really used, from its record
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron.config.cli import add_config_arguments, load_arguments, load_section_arguments
from megatron.config.layout import Layout
from megatron.data.planning.plan import Plan, plan_configured, plan_counts, run_size
from megatron.data.planning.plan_table import BY, plan_tables, plan_tsv
from megatron.evaluation.used_mixture import used_plan
from megatron.launch.local import this_machine
from megatron.launch.plan import num_processes
from megatron.monitor.mixture_plot import draw_mixture
from megatron.utils.files import write_text


def main() -> int:
    """Print the tables, and write the picture and the rows where asked to."""
    arguments = (parser := _parser()).parse_intermixed_args()
    if bool(arguments.run) == bool(arguments.arguments):
        parser.error("give YAML files, or --run FOLDER")
    try:
        plan = used_plan(arguments.run) if arguments.run else _plan(arguments)
        sizes = {"batch_size": plan.batch_size, "samples": plan.samples, "phases": plan.phases}
        if arguments.picture:
            draw_mixture(arguments.picture, plan.rows, **sizes)
    except ValueError as error:
        parser.exit(1, f"error: {error}\n")
    print(plan_tables(plan.rows, corpora=arguments.corpora, by=arguments.by, **sizes))
    if plan.bound is not None:
        print(f"\nin every prefix of the run, each count is within {plan.bound:.2f} samples of its share")
    if arguments.tsv:
        write_text(arguments.tsv, plan_tsv(plan.rows))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(parser)
    parser.add_argument("--counts", nargs="+", type=Path, default=[], metavar="FILE", help="tables of counts")
    words = "of --counts: a number, or a table by code and script (default 3, the median of 294 texts)"
    parser.add_argument("--tokens-per-word", default="3", metavar="X|FILE", help=words)
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="save folder of a run")
    parser.add_argument("--corpora", type=int, default=20, help="corpora to list, 0 for all (default 20)")
    parser.add_argument("--by", nargs="+", choices=sorted(BY), default=[], help="further tables")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw it: .png, .svg or .pdf")
    parser.add_argument("--tsv", type=Path, metavar="FILE", help="write the row of every corpus")
    parser.add_argument("--processes", type=int, help="data-parallel processes (default: as deepy.py would start)")
    return parser


def _plan(arguments: argparse.Namespace) -> Plan:
    names = ("data", "batch", "train", "parallel", "launch")
    given = {"conf_dir": arguments.conf_dir}
    if arguments.counts:
        config = SimpleNamespace(**load_section_arguments(arguments.arguments, names=names, **given))
    else:
        config = load_arguments(arguments.arguments, **given)
    processes = arguments.processes
    if processes is None and config.batch.train_batch_size is None:
        started = num_processes(config.launch, this_machine(os.environ))
        processes = Layout.of(config.parallel, processes=started).data
    size = run_size(config.data, config.batch, config.train, processes=processes)
    if not arguments.counts:
        return plan_configured(config.data, config.tokenizer, run=size, seed=config.train.seed)
    words, section = arguments.tokens_per_word, config.data.mixture
    return plan_counts(arguments.counts, section, tokens_per_word=words, run=size, seed=config.train.seed)


if __name__ == "__main__":
    sys.exit(main())
