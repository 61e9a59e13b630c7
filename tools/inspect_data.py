#!/usr/bin/env python3
"""Look into tokenised data: what a training step holds, single documents, damage, sizes; merge and split shards."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron.config.cli import load_arguments
from megatron.data.inspection import inspect, inspect_text, merge, split, stats, verify
from megatron.data.inspection.inspect_cli import parse_arguments
from megatron.data.manifest import load_manifest
from megatron.monitor.run_steps import open_steps
from megatron.utils.log import setup_logging
from megatron.utils.tool import print_lines


def run(args: argparse.Namespace) -> Iterable[str]:
    """Do what is asked for and return the lines to print."""
    if args.command == "step":
        config = load_arguments(args.arguments, conf_dir=args.conf_dir) if args.arguments else None
        steps = open_steps(args.run, config, processes=args.processes)
        inspector = inspect.Inspector.of(
            steps.config, batch_size=steps.batch_size, recorded=steps.planned, with_text=not args.documents
        )
        step = steps.step(args.number)
        return inspect_text.step_lines(
            inspector, step.number, step.samples, origin=step.origin,
            style=args.style, shown=args.samples, width=args.width,
        )
    if args.command == "doc":
        return inspect_text.document_lines(
            load_manifest(args.manifest), args.corpus, args.number, split=args.split, vocab_file=args.vocab_file
        )
    if args.command == "verify":
        return verify.verdict_lines(verify.verify(args.paths, workers=args.workers))
    if args.command == "stats":
        return stats.report(load_manifest(args.manifest), corpora=args.corpora, tsv=args.tsv)
    if args.command == "split":
        return merge.summary(split.split(args.manifest, args.output, corpora=args.corpora))
    return merge.summary(merge.merge(args.manifests, args.output, max_file_gb=args.max_file_gb))


def main() -> int:
    """Print the answer; 1 where something is wrong."""
    args = parse_arguments(sys.argv[1:], description=str(__doc__))
    setup_logging()
    return print_lines(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
