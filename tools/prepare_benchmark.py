#!/usr/bin/env python
"""Prepare the data of a benchmark: one folder for each language, and a manifest.

prepare_benchmark.py sib200 --input SIB-200/annotated --output benchmarks-data
prepare_benchmark.py ./mine.yml --input raw --output benchmarks-data --language my-notes=eng_Latn
prepare_benchmark.py xcopa --input xcopa --output benchmarks-data   (for lm-evaluation-harness)
prepare_benchmark.py --list
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron.config.benchmark_load import load_benchmark, names_in
from megatron.evaluation.benchmarks.prepare.report import code_lines, manifest_lines, unused_lines
from megatron.evaluation.benchmarks.prepare.run import prepare, with_languages
from megatron.evaluation.harness.prepare import data_names, prepare_harness, shot_lines
from megatron.utils.tool import print_lines


def main() -> int:
    """Prepare, and print what there is and what was left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", nargs="?", help="name of a definition, the path of one, or xcopa and its like")
    parser.add_argument("--input", type=Path, metavar="FOLDER", help="upstream files")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="data of all benchmarks")
    parser.add_argument(
        "--language", nargs="+", default=[], metavar="CODE=xxx_Ssss", help="what names of files or rows stand for"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the definitions")
    arguments = parser.parse_args()
    if not arguments.list and None in (arguments.benchmark, arguments.input, arguments.output):
        parser.error("give a benchmark, --input and --output, or --list")
    of_harness = arguments.benchmark in data_names()
    if of_harness and arguments.language:
        parser.error(f"--language: the languages of {arguments.benchmark} are those of lm-evaluation-harness")

    def answer() -> Iterator[str]:
        if arguments.list:
            yield from (*names_in(), *data_names())
            return
        if of_harness:
            manifest = prepare_harness(arguments.benchmark, arguments.input, arguments.output)
            yield from (*manifest_lines(manifest), *shot_lines(arguments.benchmark, manifest), *code_lines(manifest))
            return
        benchmark = with_languages(load_benchmark(arguments.benchmark), arguments.language)
        manifest = prepare(benchmark, arguments.input, arguments.output)
        yield from (*manifest_lines(manifest), *unused_lines(manifest, arguments.language), *code_lines(manifest))

    return print_lines(answer)


if __name__ == "__main__":
    sys.exit(main())
