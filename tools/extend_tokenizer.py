#!/usr/bin/env python3
"""Extend a tokenizer with tokens for more languages; the ids of pivot texts (English, code) stay as they are."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron.corpus.extension_sources import extension_sources
from megatron.tokenizer.extend.extend import GUARDS, ExtendSettings, extend_tokenizer
from megatron.tokenizer.extend.gates import gate_table
from megatron.utils.log import setup_logging
from megatron.utils.tool import factors_by_name, paths_of, print_lines


def arguments() -> argparse.Namespace:
    """Return what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add, default = parser.add_argument, ExtendSettings()
    add("--tokenizer", required=True, type=Path, help="tokenizer.model, tokenizer.json of Llama 3's kind, or a folder")
    add("--input", required=True, nargs="+", help="files or folders of corpora, with blanks or commas between")
    add("--output", required=True, type=Path, help="the folder to write; must not be there")
    add("--pivots", "--pivot", nargs="+", default=[], metavar="CODE", help="corpora of the input that keep their ids")
    add("--pivot-text", nargs="+", default=[], metavar="FILE", help="more texts that keep their ids")
    add("--guard", choices=GUARDS, default=default.guard, help="script: learn nothing in the pivots' scripts at all")
    add("--new-tokens", type=int, default=default.new_tokens, help="so many, and on to the next --size-multiple")
    add("--size-multiple", type=int, default=default.size_multiple, help="the whole vocabulary is one of it")
    add("--alpha", type=float, default=default.alpha, help="a language's share is its bytes to this power")
    add("--weights", nargs="+", default=[], metavar="CODE=FACTOR", help="factors of those shares")
    add("--character-coverage", type=float, default=default.character_coverage, help="rarer characters stay bytes")
    add("--longest", type=int, default=default.longest,
        help="characters of the longest new token; byte-level vocabularies: three bytes for each")  # fmt: skip
    add("--max-bytes-per-corpus", type=int, default=1_000_000, help="learn from at most this much text of each")
    add("--max-pivot-bytes", type=int, default=16_000_000, help="guard this much of each pivot")
    add("--max-words", type=int, default=default.max_words, help="distinct words of each corpus")
    add("--hold-out", type=int, default=default.hold_out, help="every so-manieth document is not learnt from")
    add("--max-held-out-changed", type=float, default=default.max_held_out_changed,
        help="share of pivot lines that the guard has not seen; 1 is told only")  # fmt: skip
    add("--max-unused", type=float, default=default.max_unused,
        help="share of the new tokens that held-out text leaves unused; 1 is told only")  # fmt: skip
    add("--parallel", metavar="CORPUS", help="the corpus that the documents of the others translate, for the premium")
    add("--no-prepend-bos", dest="prepend_bos", action="store_false", help="texts begin without the first special id")
    add("--jsonl-key", default="text", help="the JSON field that holds the text")
    return parser.parse_args()


def run(args: argparse.Namespace) -> Iterator[str]:
    """Extend; yield the report."""
    weights = factors_by_name(args.weights, option="--weights")
    sources = extension_sources(
        paths_of(args.input), pivots=args.pivots, pivot_texts=paths_of(args.pivot_text), weighted=weights,
        text_key=args.jsonl_key, max_bytes_per_corpus=args.max_bytes_per_corpus, max_pivot_bytes=args.max_pivot_bytes,
    )  # fmt: skip
    same = {name: value for name, value in vars(args).items() if name in ExtendSettings.__dataclass_fields__}
    settings = ExtendSettings(**{**same, "weights": weights})
    report = extend_tokenizer(args.tokenizer, sources, args.output, settings)
    yield from [*report.lines(), "", *gate_table(report.gates), ""]
    yield f"{args.output}: {report.facts['new_size']:,} tokens, {report.facts['new_tokens']:,} of them new"


def main() -> int:
    """Extend; 1 where something is wrong or would do harm."""
    args = arguments()
    setup_logging()
    return print_lines(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
