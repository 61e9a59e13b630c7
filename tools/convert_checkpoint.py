#!/usr/bin/env python3
"""Convert a checkpoint of a run into a Hugging Face model folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron.checkpoint.convert import DTYPES, native_to_hf


def main() -> int:
    """Convert and say what was written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="source_format", choices=["native"], required=True, help="format of --input")
    parser.add_argument("--to", dest="target_format", choices=["hf"], required=True, help="format of --output")
    parser.add_argument("--input", required=True, help="a global_step<N> folder, or a run's save folder; also s3://...")
    parser.add_argument("--output", type=Path, required=True, help="folder to write, which must not exist")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="float32", help="of the stored weights")
    arguments = parser.parse_args()
    try:
        taken = native_to_hf(arguments.input, arguments.output, dtype=DTYPES[arguments.dtype])
    except (ValueError, OSError) as error:
        parser.exit(1, f"error: {error}\n")
    print(f"{taken} -> {arguments.output} ({arguments.dtype})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
