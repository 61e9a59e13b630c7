#!/usr/bin/env python
"""Write the sample corpus: over two hundred languages from CLDR, pairs with English, Python's own source code."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from megatron.corpus.sample import build_sample_corpus
from megatron.utils.log import setup_logging


def main() -> None:
    """Parse the command line and write the corpus."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="chooses what the texts say (default: 0)")
    parser.add_argument("--languages", nargs="+", metavar="xxx_Ssss", help="only these languages (default: all)")
    arguments = parser.parse_args()
    setup_logging()
    try:
        summary = build_sample_corpus(arguments.output, seed=arguments.seed, languages=arguments.languages)
    except ValueError as error:
        sys.exit(f"make_sample_corpus.py: {error}")
    print(
        f"{arguments.output}: {summary.corpora} corpora, {summary.documents:,} documents, "
        f"{summary.bytes / 1e6:.1f} MB of text; {summary.skipped} CLDR locales left out"
    )


if __name__ == "__main__":
    main()
