#!/usr/bin/env python3
"""Train a SentencePiece BPE tokenizer with byte fallback on a folder of corpora, the same number of bytes of each."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron.corpus.balanced import balanced_texts
from megatron.tokenizer.sentencepiece_tokenizer import SentencePieceTokenizer
from megatron.tokenizer.train import train_sentencepiece
from megatron.utils.log import setup_logging


def main() -> int:
    """Train, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--input", required=True, help="files or folders, separated by commas")
    add("--output", required=True, type=Path, help="the tokenizer.model to write")
    add("--vocab-size", required=True, type=int)
    add("--max-bytes-per-corpus", type=int, default=1_000_000, help="learn from at most this much text of each corpus")
    add("--character-coverage", type=float, default=0.9995, help="rarer characters become bytes")
    add("--jsonl-key", default="text", help="the JSON field that holds the text")
    add("--num-threads", type=int, default=1, help="of the trainer; another number may give another model")
    args = parser.parse_args()
    setup_logging()
    try:
        texts = balanced_texts(
            [Path(path) for path in args.input.split(",") if path],
            max_bytes_per_corpus=args.max_bytes_per_corpus,
            text_key=args.jsonl_key,
        )
        train_sentencepiece(
            texts,
            args.output,
            vocab_size=args.vocab_size,
            character_coverage=args.character_coverage,
            num_threads=args.num_threads,
        )
        tokenizer = SentencePieceTokenizer(args.output)
    except ValueError as error:  # the user's mistakes; anything else is ours and shows its trace
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{args.output}: {tokenizer.vocab_size} pieces, fingerprint {tokenizer.fingerprint}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
