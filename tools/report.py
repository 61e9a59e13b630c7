#!/usr/bin/env python
"""Write the report of a run, or one that compares several: ``tools/report.py SAVE_FOLDER [SAVE_FOLDER ...]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron.evaluation.report.write import before_after_table, comparison_table, write_comparison, write_report
from megatron.utils.log import setup_logging


def main() -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(description="Write one self-contained HTML page about a training run, or several.")
    parser.add_argument(
        "save_folders", type=Path, nargs="+", metavar="save_folder",
        help="a run's `save` folder, with metrics.jsonl; several are compared with the first",
    )  # fmt: skip
    parser.add_argument(
        "--samples", type=Path, help="texts by generate.py, for one run (default: SAVE_FOLDER/samples.jsonl if any)"
    )
    parser.add_argument(
        "--output", type=Path,
        help="the page to write (default: report.html in the folder of one run, comparison.html in that of the first)",
    )  # fmt: skip
    parser.add_argument(
        "--table", action="store_true",
        help="print bits per byte per tier: of one run before and after, of several a column each",
    )  # fmt: skip
    arguments = parser.parse_args()
    folders = arguments.save_folders
    if len(folders) > 1 and arguments.samples:
        parser.error("--samples belongs to the report of one run; a comparison shows no texts")
    setup_logging()
    try:
        if len(folders) == 1:
            output = arguments.output or folders[0] / "report.html"
            write_report(folders[0], samples=arguments.samples, output=output)
            print(before_after_table(folders[0]) if arguments.table else output)
        else:
            output = arguments.output or folders[0] / "comparison.html"
            write_comparison(folders, output=output)
            print(comparison_table(folders) if arguments.table else output)
    except (ValueError, OSError) as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
