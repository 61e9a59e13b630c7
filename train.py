#!/usr/bin/env python3
"""One training process. `deepy.py train.py a.yml b.yml` starts as many as are wanted; alone, it is a run of one."""

from __future__ import annotations

import logging
import sys

from megatron.config.check import check_run
from megatron.config.cli import config_from_argv
from megatron.parallel.process import joined_world, leave
from megatron.train.faults import FaultError
from megatron.train.nodes import NodeError
from megatron.train.run import train
from megatron.train.trainer import STOPPED
from megatron.utils.files import InUseError
from megatron.utils.log import get_logger, setup_logging
from megatron.utils.status import EXIT_MISTAKE, EXIT_UNFINISHED


def main(argv: list[str]) -> int:
    """Run one process of a training run and return its exit status."""
    config = config_from_argv(argv, __doc__ or "")
    setup_logging(level=logging.WARNING)
    try:
        with joined_world(
            backend=config.parallel.distributed_backend, num_threads=config.parallel.num_threads
        ) as world:
            setup_logging(
                level=logging.INFO if world.is_main else logging.WARNING,
                prefix="" if world.is_main else f"[rank {world.rank}] ",
            )
            problems = check_run(config, processes=world.size)
            if problems:
                raise ValueError("\n".join(problems))
            reason = train(config, world)
    except (ValueError, OSError, FaultError, NodeError) as error:
        # A mistake of the user's or of the data, not of the program: no traceback.
        get_logger("megatron.train").error("error: %s", error)
        passes = isinstance(error, OSError | InUseError | NodeError)
        return 1 if passes else leave(EXIT_MISTAKE)
    return leave(EXIT_UNFINISHED) if reason.startswith(STOPPED) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
