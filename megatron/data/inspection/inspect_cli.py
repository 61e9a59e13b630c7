"""The command line of ``tools/inspect_data.py``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from megatron.config.cli import add_config_arguments


def parse_arguments(argv: Sequence[str], *, description: str) -> argparse.Namespace:
    """Read the command line; the help of the whole tool shows the usage of every command.

    Args:
        argv: the arguments, without the program's name.
        description: first line of ``--help``.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_step(commands.add_parser("step", help="every sample and document that an optimizer step trains on"))
    _add_doc(commands.add_parser("doc", help="one document: place, ids, text"))
    _add_verify(commands.add_parser("verify", help="find everything that is wrong with shards"))
    _add_merge(commands.add_parser("merge", help="put the shards of manifests into a few large files"))
    _add_split(commands.add_parser("split", help="give every corpus files of its own again"))
    _add_stats(commands.add_parser("stats", help="sizes, tokens per word, unknown tokens, lengths of documents"))
    parser.epilog = "\n".join(command.format_usage() for command in commands.choices.values())
    # Settings may also follow options, which argparse cannot do in a command of its own.
    options, rest = parser.parse_known_args(argv)
    if rest and (options.command != "step" or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if options.command == "step":
        options.arguments += rest
    return options


def _add_step(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("number", type=int, metavar="N", help="number of the step, from 1 on, as in metrics.jsonl")
    add_config_arguments(parser)
    add("--run", type=Path, metavar="FOLDER", help="a run's save folder: its own configuration and recorded samples")
    add("--processes", type=int, help="data-parallel processes, where train_batch_size is not given")
    add("--samples", type=int, metavar="K", help="list only the first K samples")
    add("--documents", action="store_true", help="which documents, without their text; needs no tokenizer")
    add("--width", type=int, default=60, help="characters to show of the beginning and of the end (default 60)")
    add("--full", action="store_const", const=None, dest="width", help="show all the text")
    add("--json", action="store_const", const="json", dest="style", default="text", help="a JSON object per document")
    add("--tsv", action="store_const", const="tsv", dest="style", help="tab-separated values, a line per document")


def _add_doc(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("corpus", help="name of the corpus")
    add("number", type=int, help="number of the document, from 0 on")
    add("manifest", type=Path)
    add("--split", choices=["train", "valid"], default="train")
    add("--vocab-file", type=Path, help="the tokenizer's file, to show the text too")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("paths", nargs="+", type=Path, metavar="MANIFEST|PREFIX")
    add("--workers", type=int, default=4, help="files that are read at the same time (default 4)")


def _add_merge(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("manifests", nargs="+", type=Path, metavar="MANIFEST")
    add("--output", type=Path, required=True, metavar="FOLDER")
    add("--max-file-gb", type=float, help="begin another file before a .bin exceeds this, in 10^9 bytes")


def _add_split(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("manifest", type=Path)
    add("--output", type=Path, required=True, metavar="FOLDER")
    add("--corpora", nargs="+", default=[], metavar="NAME", help="only these; * stands for any text")


def _add_stats(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("manifest", type=Path)
    add("--corpora", type=int, default=20, metavar="N", help="corpora to list, 0 for all (default 20)")
    add("--tsv", type=Path, metavar="FILE", help="write all of it there too")
