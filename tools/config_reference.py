#!/usr/bin/env python
"""Write docs/configuration.md, the page of all keys."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from megatron.config.reference import reference
from megatron.utils.files import write_text


def main() -> None:
    """Parse the command line and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "configuration.md", help="file to write")
    write_text(parser.parse_args().output, reference())


if __name__ == "__main__":
    main()
