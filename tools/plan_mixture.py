#!/usr/bin/env python3
"""Show what a configuration will train on: tokens, share and epochs by source, tier and corpus."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from megatron.config.cli import add_config_arguments, load_arguments
from megatron.config.derive import derive_batch
from megatron.data.manifest import load_manifest
from megatron.data.mixture import plan_mixture
from megatron.data.plan_table import plan_tables


def main() -> int:
    """Print the plan of the whole run."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument("--corpora", type=int, default=20, help="corpora to list, 0 for all (default 20)")
    parser.add_argument("--processes", type=int, default=1, help="data-parallel processes (default 1)")
    arguments = parser.parse_intermixed_args()
    config = load_arguments(arguments.arguments, conf_dir=arguments.conf_dir)
    if config.data.data_manifest is None:
        parser.error("data_manifest is not set in these files")
    try:
        mixture = plan_mixture(load_manifest(Path(config.data.data_manifest)), config.data.mixture)
        batch = derive_batch(config.batch, data_parallel_size=arguments.processes)
    except ValueError as error:
        parser.exit(1, f"error: {error}\n")
    order = mixture.order(seed=config.train.seed, seq_length=config.data.seq_length)
    rows = mixture.rows(order, samples=config.train.train_iters * batch.global_size)
    print(plan_tables(rows, corpora=arguments.corpora))
    print(f"\nin every prefix of the run, each count is within {order.interleaving.bound():.2f} samples of its share")
    return 0


if __name__ == "__main__":
    sys.exit(main())
