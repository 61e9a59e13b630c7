#!/usr/bin/env python3
"""One training process. `deepy.py train.py a.yml b.yml` starts as many as are wanted; alone, it is a run of one."""

from __future__ import annotations

import logging
import sys

from megatron.config.check import check_run
from megatron.config.cli import config_from_argv
from megatron.config.schema import Config
from megatron.parallel.process import World, joined_world, leave
from megatron.train.faults import FaultError
from megatron.train.nodes import NodeError
from megatron.train.run import may_pass, train
from megatron.train.trainer import STOPPED
from megatron.utils.log import get_logger, setup_logging
from megatron.utils.status import EXIT_MISTAKE, EXIT_UNFINISHED


def main(argv: list[str]) -> int:
    """Run one process of a training run and return its exit status."""
    config = config_from_argv(argv, __doc__ or "")
    setup_logging(level=logging.WARNING)
    parallel, hang_minutes = config.parallel, config.survival.hang_minutes or 0.0
    # Our watchdog, which says where everybody stands, comes before that of the collectives.
    minutes = max(30.0, hang_minutes + 10)
    try:
        with joined_world(
            backend=parallel.distributed_backend, num_threads=parallel.num_threads, timeout_minutes=minutes
        ) as world:
            return run(config, world)
    except ValueError as error:  # there is no world to join
        get_logger("megatron.train").error("error: %s", error)
        return leave(EXIT_MISTAKE)


def run(config: Config, world: World) -> int:
    """Train, and return the exit status; a mistake of the user's or of the data is told without a traceback."""
    setup_logging(
        level=logging.INFO if world.is_main else logging.WARNING,
        prefix="" if world.is_main else f"[rank {world.rank}] ",
    )
    try:
        if problems := check_run(config, processes=world.size):
            raise ValueError("\n".join(problems))
        reason = train(config, world)
    except (ValueError, OSError, FaultError, NodeError) as error:
        get_logger("megatron.train").error("error: %s", error)
        return 1 if may_pass(error) else leave(EXIT_MISTAKE)
    return leave(EXIT_UNFINISHED) if reason.startswith(STOPPED) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
