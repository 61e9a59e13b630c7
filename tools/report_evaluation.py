#!/usr/bin/env python
"""Write the report of scores: ``tools/report_evaluation.py BASE OURS [MORE ...] --output report.html``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron.evaluation.report.scores.write import PIVOTS, write_scores_report
from megatron.utils.log import setup_logging
from megatron.utils.tool import print_lines


def arguments() -> argparse.Namespace:
    """Return what is asked for."""
    parser = argparse.ArgumentParser(description="Compare models on benchmarks by language, on one HTML page.")
    parser.add_argument(
        "inputs", type=Path, nargs="+", metavar="input",
        help="folders of results, the base first; or tables of published results (.csv, .tsv)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, help="the page to write")
    parser.add_argument("--csv", type=Path, help="also write every value of every language as CSV")
    parser.add_argument("--json", type=Path, help="also write every number of the page as JSON")
    parser.add_argument("--markdown", type=Path, help="also write the report in short as Markdown")
    parser.add_argument(
        "--tiers", type=Path, help="a table with the columns code and tier, or a run's `save` folder or mixture.json"
    )
    parser.add_argument(
        "--pivots", default=",".join(PIVOTS), metavar="CODES",
        help="languages that must not get worse, with commas between (default: %(default)s); "
        "those of the first tier are added",
    )  # fmt: skip
    parser.add_argument("--names", nargs="+", default=(), metavar="NAME", help="names of the folders' models, in order")
    parser.add_argument("--models", nargs="+", default=(), metavar="NAME", help="show only these, the base first")
    parser.add_argument(
        "--table-metric", type=metric, metavar="NAME=lower|higher",
        help="metric of tables whose name does not begin with one, and which values of it are better",
    )  # fmt: skip
    return parser.parse_args()


def metric(text: str) -> tuple[str, bool]:
    """Return the name of a metric and whether larger values are better."""
    name, _, better = text.rpartition("=")
    if not name or better not in ("lower", "higher"):
        raise argparse.ArgumentTypeError(f"{text!r} is not like NAME=lower or NAME=higher")
    return name, better == "higher"


def run(args: argparse.Namespace) -> Iterable[str]:
    """Write the report; return the names of the files."""
    written = write_scores_report(
        args.inputs, output=args.output, csv=args.csv, json=args.json, markdown=args.markdown, tiers=args.tiers,
        pivots=[code for code in args.pivots.split(",") if code], names=args.names, models=args.models,
        table_metric=args.table_metric,
    )  # fmt: skip
    return map(str, written)


def main() -> int:
    """Write; 1 where something is wrong, 2 where the command is."""
    args = arguments()
    setup_logging()
    return print_lines(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
