#!/usr/bin/env python3
"""Convert a model between formats, some rows of a tensor at a time, and compare the result with what it was."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron.checkpoint.convert.run import DTYPES, SOURCES, TARGETS, Conversion, convert, mapping_lines
from megatron.config.layout import Layout
from megatron.utils.tool import print_lines


def arguments() -> argparse.Namespace:
    """Return what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="source_format", choices=SOURCES, required=True, help="format of --input")
    parser.add_argument("--to", dest="target_format", choices=TARGETS, required=True, help="format of --output")
    native = "a global_step<N> folder, or a run's save folder; also s3://..."
    parser.add_argument("--input", required=True, help=f"native: {native}; others: a folder")
    parser.add_argument("--output", required=True, help="folder to write, which must not exist")
    parser.add_argument("--dtype", choices=list(DTYPES), default="keep", help="of the stored weights; default keep")
    config = "Hugging Face folder whose config.json and tokenizer belong to the model; for formats that have none"
    parser.add_argument("--config", type=Path, metavar="FOLDER", help=config)
    parser.add_argument("--model-parallel-size", type=int, default=1, help="to native: a file for each such part")
    parser.add_argument("--pipe-parallel-size", type=int, default=1, help="to native: and for each stage of a pipeline")
    parser.add_argument("--dry-run", action="store_true", help="print what would become of what, and write nothing")
    return parser.parse_args()


def main() -> int:
    """Convert, or print the mapping."""
    args = arguments()
    wanted = Conversion(
        source_format=args.source_format,
        source=args.input,
        target_format=args.target_format,
        target=args.output,
        dtype=args.dtype,
        layout=Layout(tensor=args.model_parallel_size, pipeline=args.pipe_parallel_size),
        config=args.config,
    )
    return print_lines(lambda: mapping_lines(wanted) if args.dry_run else convert(wanted))


if __name__ == "__main__":
    sys.exit(main())
