#!/usr/bin/env python3
"""Turn raw text (.jsonl, .jsonl.gz, .jsonl.zst; files or folders) into .bin/.idx shards and their manifest."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron.corpus.manifest_table import summary_table
from megatron.corpus.tokenise import TokeniseOptions, TokenizerFile, tokenise_corpora
from megatron.tokenizer.load import TOKENIZER_TYPES
from megatron.utils.log import setup_logging
from megatron.utils.tool import counts_by_name

_SHORT = 15


def parse() -> argparse.Namespace:
    """Read the command line: GPT-NeoX's flags, and ours."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--input", required=True, help="files or folders, separated by commas")
    add("--output-prefix", required=True, type=Path, help="for one file: <prefix>_text_document.*; else a folder")
    add("--tokenizer-type", required=True, choices=TOKENIZER_TYPES)
    add("--vocab-file", required=True, type=Path, help="tokenizer.model or tokenizer.json")
    add("--merge-file", help="not used: the tokenizers here are one file")
    add("--append-eod", action="store_true", help="accepted; documents always end with the end-of-document id")
    add("--eod-token", help="the token that ends documents, instead of the tokenizer's own")
    add("--prepend-bos", action="store_true", help="begin every document with the beginning-of-text id")
    add("--valid-bytes", type=int, default=16384, help="text to hold out of each corpus for validation; 0 for none")
    add(
        "--valid-bytes-for", nargs="+", default=[], metavar="NAME=BYTES",
        help="the same for some: a corpus, a code or a source, such as eng_Latn=262144 code=262144",
    )  # fmt: skip
    add("--valid-fraction", type=float, default=0.1, help="hold out at most about this part of a corpus")
    add("--jsonl-keys", nargs="+", default=["text"], help="the JSON field that holds the text")
    add("--dataset-impl", default="mmap", choices=["mmap"])
    add("--ftfy", action="store_true", help="mend every text with ftfy")
    add("--replace-other-tokenizer", action="store_true", help="write over shards that another tokenizer has made")
    add("--workers", type=int, default=1, help="processes; a file is the unit of work")
    add("--fast", action="store_true", help="encode with gigatoken, and check samples against the tokenizer itself")
    add("--num-docs", type=int, help="accepted; progress is counted in bytes, which are known")
    add("--log-interval", type=int, default=100, help="accepted; the bar redraws by time; 0 hides it")
    add("--table", default="short", choices=["short", "all"], help=f"corpora to list: the {_SHORT} largest, or all")
    args = parser.parse_args()
    if args.merge_file is not None:
        parser.error(f"--merge-file {args.merge_file}: no tokenizer here has one; give tokenizer.json as --vocab-file")
    if len(args.jsonl_keys) > 1:
        parser.error(f"--jsonl-keys {' '.join(args.jsonl_keys)}: one field a run; run again for the others")
    return args


def main() -> int:
    """Tokenise, and print what the manifest then lists."""
    args = parse()
    setup_logging()
    try:
        manifest = tokenise_corpora(
            [Path(path) for path in args.input.split(",") if path],
            args.output_prefix,
            tokenizer=TokenizerFile(args.tokenizer_type, args.vocab_file, args.eod_token, args.fast),
            options=TokeniseOptions(
                args.jsonl_keys[0], args.prepend_bos, args.valid_bytes, args.valid_fraction, args.ftfy
            ),
            valid_bytes_for=counts_by_name(args.valid_bytes_for, option="--valid-bytes-for"),
            replace_other_tokenizer=args.replace_other_tokenizer, workers=args.workers,
            show_progress=args.log_interval > 0,
        )
    except ValueError as error:  # the user's mistakes; anything else is ours and shows its trace
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(summary_table(manifest, corpora=_SHORT if args.table == "short" else 0))
    return 0


if __name__ == "__main__":
    sys.exit(main())
