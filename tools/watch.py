#!/usr/bin/env python
"""Watch a run in the terminal: ``tools/watch.py SAVE_FOLDER [--once] [--interval SECONDS]``."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console

from megatron.monitor.watch import Watcher
from megatron.utils.log import setup_logging
from megatron.utils.tool import print_lines


def arguments() -> argparse.Namespace:
    """Return what is asked for."""
    parser = argparse.ArgumentParser(description="Show how a run stands, until it has finished or you press Ctrl-C.")
    parser.add_argument("save_folder", type=Path, help="the run's `save` folder, with metrics.jsonl")
    parser.add_argument("--once", action="store_true", help="print one frame and end, as without a terminal")
    parser.add_argument("--interval", type=float, default=2.0, metavar="SECONDS", help="between frames (default: 2)")
    return parser.parse_args()


def run(args: argparse.Namespace) -> Iterable[str]:
    """Show the run, and return the lines that are to stay in the terminal."""
    console = Console()
    watcher = Watcher(args.save_folder, console)
    if sys.stdout.isatty() and not console.is_dumb_terminal and not args.once:
        watcher.follow(interval_seconds=args.interval)
    return watcher.lines()


def main() -> int:
    """Watch; 1 where something is wrong."""
    args = arguments()
    setup_logging()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that knows nothing but ASCII is no reason to fail
    return print_lines(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
