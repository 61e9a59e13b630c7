#!/usr/bin/env python
"""Write the report of a run: ``tools/report.py SAVE_FOLDER [--samples FILE] [--output report.html] [--table]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron.evaluation.report import before_after_table, write_report
from megatron.utils.log import setup_logging


def main() -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(description="Write one self-contained HTML page about a training run.")
    parser.add_argument("save_folder", type=Path, help="the run's `save` folder, with metrics.jsonl")
    parser.add_argument("--samples", type=Path, help="texts by generate.py (default: SAVE_FOLDER/samples.jsonl if any)")
    parser.add_argument("--output", type=Path, help="the page to write (default: SAVE_FOLDER/report.html)")
    parser.add_argument("--table", action="store_true", help="print bits per byte per tier, before and after")
    arguments = parser.parse_args()
    setup_logging()
    output = arguments.output or arguments.save_folder / "report.html"
    try:
        write_report(arguments.save_folder, samples=arguments.samples, output=output)
        print(before_after_table(arguments.save_folder) if arguments.table else output)
    except (ValueError, OSError) as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
