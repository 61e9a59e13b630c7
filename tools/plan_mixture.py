#!/usr/bin/env python3
"""Show what a configuration will train on: tokens, share and epochs by source, tier and corpus."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron.config.cli import add_config_arguments, load_arguments
from megatron.config.derive import derive_batch
from megatron.data.manifest import load_manifest
from megatron.data.mixture import plan_mixture
from megatron.data.plan_table import plan_tables
from megatron.launch.local import this_machine
from megatron.launch.plan import num_processes


def main() -> int:
    """Print the plan of the whole run."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument("--corpora", type=int, default=20, help="corpora to list, 0 for all (default 20)")
    parser.add_argument("--processes", type=int, help="data-parallel processes (default: as deepy.py would start)")
    arguments = parser.parse_intermixed_args()
    config = load_arguments(arguments.arguments, conf_dir=arguments.conf_dir)
    if config.data.data_manifest is None:
        parser.error("data_manifest is not set in these files")
    try:
        mixture = plan_mixture(load_manifest(Path(config.data.data_manifest)), config.data.mixture)
        processes = arguments.processes or num_processes(config.launch, this_machine(os.environ))
        batch = derive_batch(config.batch, data_parallel_size=processes)
    except ValueError as error:
        parser.exit(1, f"error: {error}\n")
    order = mixture.order(seed=config.train.seed, seq_length=config.data.seq_length)
    rows = mixture.rows(order, samples=config.train.train_iters * batch.global_size)
    print(plan_tables(rows, corpora=arguments.corpora))
    print(f"\nin every prefix of the run, each count is within {order.interleaving.bound():.2f} samples of its share")
    return 0


if __name__ == "__main__":
    sys.exit(main())
