#!/usr/bin/env python3
"""Convert between a checkpoint of a run (native) and a Hugging Face model folder (hf), one tensor at a time."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron.checkpoint.convert import DTYPES, hf_to_native, native_to_hf
from megatron.config.layout import Layout


def arguments() -> argparse.Namespace:
    """Return what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="source_format", choices=["native", "hf"], required=True, help="of --input")
    parser.add_argument("--to", dest="target_format", choices=["native", "hf"], required=True, help="of --output")
    native = "a global_step<N> folder, or a run's save folder; also s3://..."
    parser.add_argument("--input", required=True, help=f"native: {native}; hf: a folder")
    parser.add_argument("--output", required=True, help="folder to write, which must not exist")
    parser.add_argument("--dtype", choices=list(DTYPES), default="keep", help="of the stored weights; default keep")
    parser.add_argument("--model-parallel-size", type=int, default=1, help="to native: a file for each such part")
    parser.add_argument("--pipe-parallel-size", type=int, default=1, help="to native: and for each stage of a pipeline")
    args = parser.parse_args()
    if args.source_format == args.target_format:
        parser.error("--from and --to are the same format")
    return args


def main() -> int:
    """Convert and say what was written."""
    args = arguments()
    try:
        if args.target_format == "hf":
            taken = str(native_to_hf(args.input, Path(args.output), dtype=DTYPES[args.dtype]))
        else:
            layout = Layout(tensor=args.model_parallel_size, pipeline=args.pipe_parallel_size)
            hf_to_native(Path(args.input), args.output, dtype=DTYPES[args.dtype], layout=layout)
            taken = args.input
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{taken} -> {args.output} (dtype: {args.dtype})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
