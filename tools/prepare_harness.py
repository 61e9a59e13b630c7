#!/usr/bin/env python3
"""Prepare the data of a benchmark that lm-evaluation-harness does: one folder for each language, and a manifest.

prepare_harness.py xcopa --input xcopa --output benchmarks-data
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron.evaluation.harness.prepare import data_names, manifest_lines, prepare_harness
from megatron.utils.tool import print_lines


def main() -> int:
    """Prepare, and print what there is and what was left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=data_names())
    parser.add_argument("--input", type=Path, required=True, metavar="FOLDER", help="upstream files")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="data of all benchmarks")
    arguments = parser.parse_args()
    return print_lines(lambda: manifest_lines(prepare_harness(arguments.benchmark, arguments.input, arguments.output)))


if __name__ == "__main__":
    sys.exit(main())
