#!/usr/bin/env python3
"""Look into checkpoints: what is in one, whether all of it is what was written, how two differ, the mean of several."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron.checkpoint.inspect import average, difference_lines, summary_lines, verify_lines
from megatron.checkpoint.storage import open_storage, parent_and_name
from megatron.checkpoint.store import find_checkpoint
from megatron.utils.log import setup_logging
from megatron.utils.tool import print_lines

PLACE = "a global_step<N> folder, or a run's folder, whose newest whole checkpoint is taken; also s3://..."
PLACES = "global_step<N> folders, or runs' folders, all of whose checkpoints are read; also s3://..."


def arguments() -> argparse.Namespace:
    """Return what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("show", help="progress, layout, files, settings").add_argument("checkpoint", help=PLACE)
    commands.add_parser("verify", help="read every byte").add_argument("checkpoint", nargs="+", help=PLACES)
    diff = commands.add_parser("diff", help="settings, and how much each tensor of the model has changed")
    diff.add_argument("checkpoint", nargs=2, help=PLACE)
    diff.add_argument("--all", action="store_true", help="every tensor, not the 20 that have changed most")
    mean = commands.add_parser("average", help="the mean of the weights, as a checkpoint without an optimizer")
    mean.add_argument("checkpoint", nargs="+", help=PLACE)
    mean.add_argument("--output", required=True, help="the folder to write, which must not exist")
    return parser.parse_args()


def run(args: argparse.Namespace) -> Iterator[str]:
    """Do what is asked for and yield the lines to print."""
    given = [args.checkpoint] if isinstance(args.checkpoint, str) else args.checkpoint
    if args.command == "verify":
        yield from verify_lines([open_storage(place) for place in given])
        return
    checkpoints = [find_checkpoint(open_storage(place)) for place in given]
    if args.command == "show":
        yield from summary_lines(checkpoints[0])
    elif args.command == "diff":
        yield from difference_lines(checkpoints[0], checkpoints[1], shown=None if args.all else 20)
    else:
        average(checkpoints, *parent_and_name(args.output))
        yield f"{args.output}: the mean of {', '.join(map(str, checkpoints))}"


def main() -> int:
    """Print the answer; 1 where something is wrong."""
    args = arguments()
    setup_logging()
    return print_lines(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
