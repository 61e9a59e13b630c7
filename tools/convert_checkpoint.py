#!/usr/bin/env python3
"""Convert a model between formats, some rows at a time, and run a text through the result and what it was made of."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron.checkpoint.convert.neox import QKV_LAYOUTS
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
    parser.add_argument("--model-parallel-size", type=_size, default=1, help="to native: files for each such part")
    parser.add_argument("--pipe-parallel-size", type=_size, default=1, help="to native: and for each stage")
    folder = "Hugging Face folder whose config.json and tokenizer belong to the model"
    parser.add_argument("--config", type=Path, metavar="FOLDER", help=f"from meta, neox, megatron-core: {folder}")
    parser.add_argument("--qkv-layout", choices=QKV_LAYOUTS, help="from neox: how q, k and v lie; default: tried out")
    parser.add_argument("--text", type=_text, metavar="FILE", help="text for the check; default: a few sentences")
    parser.add_argument("--no-check", action="store_true", help="do not run a text through source and result")
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
        qkv_layout=args.qkv_layout,
        checked=not args.no_check,
        text=args.text,
    )
    return print_lines(lambda: mapping_lines(wanted) if args.dry_run else convert(wanted))


def _size(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number of at least 1")
    return int(text)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be read: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
