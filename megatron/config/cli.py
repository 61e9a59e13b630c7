"""The command line that every root script shares: YAML files and ``key=value``, or one resolved file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from megatron.config.fields import Section
from megatron.config.load import load, load_sections
from megatron.config.problems import ConfigError
from megatron.config.schema import Config
from megatron.utils.status import EXIT_MISTAKE

_Read = TypeVar("_Read")


def add_config_arguments(parser: argparse.ArgumentParser, *, first: str = "") -> None:
    """Add the files, the overrides and ``-d`` to a parser; ``first`` describes what else may lead the list."""
    help_text = f"{first}YAML files (.yml may be left out), then key=value settings that win over them"
    parser.add_argument("arguments", nargs="*", metavar="file.yml|key=value", help=help_text)
    parser.add_argument("-d", "--conf_dir", type=Path, default=Path(), metavar="DIR", help="folder of the YAML files")


def load_arguments(arguments: Sequence[str], *, conf_dir: Path) -> Config:
    """Load the files among ``arguments`` under the overrides among them.

    Raises:
        SystemExit: with code 2, after every problem was written to standard error.
    """
    files = [conf_dir / argument for argument in arguments if "=" not in argument]
    return _load_or_exit(files, [argument for argument in arguments if "=" in argument])


def load_section_arguments(arguments: Sequence[str], *, conf_dir: Path, names: Collection[str]) -> dict[str, Section]:
    """Load some sections, as :func:`load_arguments` loads all; the keys of the others may be absent.

    Raises:
        SystemExit: with code 2, after every problem was written to standard error.
    """
    files = [conf_dir / argument for argument in arguments if "=" not in argument]
    return _or_exit(lambda: load_sections(files, [argument for argument in arguments if "=" in argument], names))


def config_from_argv(argv: Sequence[str], description: str) -> Config:
    """Parse the arguments of ``train.py``, ``eval.py`` or ``generate.py``: what ``deepy.py`` takes, or ``--config``.

    Args:
        argv: arguments without the program's name.
        description: first line of ``--help``.

    Raises:
        SystemExit: with code 2 for a wrong command line or configuration, with the reasons on standard error.
    """
    parser = argparse.ArgumentParser(description=description)
    add_config_arguments(parser)
    parser.add_argument("--config", metavar="RESOLVED.yml", help="the resolved file that deepy.py wrote")
    options = parser.parse_intermixed_args(argv)
    if options.config is not None:
        if options.arguments:
            parser.error("--config is the whole configuration: give no other files or settings")
        return _load_or_exit([Path(options.config)], [])
    if not options.arguments:
        parser.error("no YAML file is given")
    return load_arguments(options.arguments, conf_dir=options.conf_dir)


def parse_with_run(
    parser: argparse.ArgumentParser, argv: Sequence[str], defaults_from: Callable[[Config], Mapping[str, Any]]
) -> argparse.Namespace:
    """Parse the arguments of a script that uses a trained model: its own options, and the run that is meant.

    Args:
        parser: of the script's own options; files, ``--config`` and ``--model`` are added.
        argv: arguments without the program's name.
        defaults_from: what a run's configuration stands for, by option; options that are given win over it.

    Raises:
        SystemExit: with code 2, also where no model is named.
    """
    parser.add_argument("files", nargs="*", metavar="file.yml|key=value", help="configuration of the run to use")
    parser.add_argument("--config", help="the resolved configuration that deepy.py wrote")
    parser.add_argument("--model", help="Hugging Face folder, checkpoint or save folder")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.config is not None or arguments.files:
        config = config_from_argv(["--config", arguments.config] if arguments.config else arguments.files, "")
        parser.set_defaults(**defaults_from(config))
        arguments = parser.parse_intermixed_args(argv)
    if arguments.model is None:
        parser.error("give --model, or a configuration with `save` or `load`")
    return arguments


def _load_or_exit(files: Sequence[Path], overrides: Sequence[str]) -> Config:
    return _or_exit(lambda: load(files, overrides))


def _or_exit(read: Callable[[], _Read]) -> _Read:
    try:
        return read()
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(EXIT_MISTAKE) from None
