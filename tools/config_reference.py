#!/usr/bin/env python
"""Write docs/configuration.md, docs/corpus-settings.md and docs/benchmark-settings.md, the pages of all keys."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from megatron.config.reference import benchmark_reference, corpus_reference, reference
from megatron.utils.files import write_text


def main() -> None:
    """Parse the command line and write the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="folder to write to")
    folder = parser.parse_args().output
    write_text(folder / "configuration.md", reference())
    write_text(folder / "corpus-settings.md", corpus_reference())
    write_text(folder / "benchmark-settings.md", benchmark_reference())


if __name__ == "__main__":
    main()
