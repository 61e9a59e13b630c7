#!/usr/bin/env python
"""Make a benchmark as PolyWrite was made: prompts are translated, translated back, and kept where they came back well.

build_benchmark.py letters --prompts prompts.jsonl --languages swh_Latn yor_Latn --output data --table done.jsonl
build_benchmark.py letters --prompts prompts.jsonl --languages swh_Latn --output data --seq2seq nllb-200
build_benchmark.py letters --prompts prompts.jsonl --languages swh_Latn --output data --model run --examples pairs.jsonl
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron.evaluation.benchmarks.build import MINIMUM_BLEU, build, read_prompt_set
from megatron.evaluation.benchmarks.opening import open_translator
from megatron.evaluation.benchmarks.prepare.report import manifest_lines
from megatron.utils.log import setup_logging
from megatron.utils.tool import print_lines


def main() -> int:
    """Make the benchmark, and print what there is and what was left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the folder of data")
    parser.add_argument("--prompts", type=Path, required=True, metavar="FILE", help="JSON lines: id, category, prompt")
    parser.add_argument("--languages", nargs="+", required=True, metavar="CODE", help="corpus codes, such as swh_Latn")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="data of all benchmarks")
    parser.add_argument("--source", default="eng_Latn", metavar="CODE", help="language of the prompts (eng_Latn)")
    parser.add_argument("--minimum-bleu", type=float, default=MINIMUM_BLEU, help=f"least BLEU ({MINIMUM_BLEU:g})")
    table = "JSON lines: source, target, text, translation"
    for prefix, what in (("", "translates"), ("back-", "translates back, if not the same")):
        parser.add_argument(f"--{prefix}table", type=Path, metavar="FILE", help=f"{what}: {table}")
        parser.add_argument(f"--{prefix}seq2seq", type=Path, metavar="FOLDER", help=f"{what}: Hugging Face, seq2seq")
        parser.add_argument(f"--{prefix}model", type=Path, metavar="FOLDER", help=f"{what}: a language model")
    parser.add_argument("--examples", type=Path, metavar="FILE", help=f"shown to a language model; {table}")
    parser.add_argument("--codes", nargs="*", default=[], metavar="CODE=OWN", help="codes of the seq2seq model")
    parser.add_argument("--device", default="cpu", help="of the seq2seq model (cpu)")
    arguments = parser.parse_args()
    setup_logging()

    def answer() -> Iterator[str]:
        options = {"examples": arguments.examples, "codes": arguments.codes, "device": arguments.device}
        forward = (arguments.table, arguments.seq2seq, arguments.model)
        backward = (arguments.back_table, arguments.back_seq2seq, arguments.back_model)
        there = open_translator(*forward, **options)
        back = open_translator(*backward, **options) if any(backward) else there
        yield from manifest_lines(
            build(
                read_prompt_set(arguments.prompts), arguments.languages, arguments.output / arguments.name,
                forward=there, backward=back, source=arguments.source, minimum_bleu=arguments.minimum_bleu,
            )
        )  # fmt: skip

    return print_lines(answer)


if __name__ == "__main__":
    sys.exit(main())
