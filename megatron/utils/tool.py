"""What command-line tools share: answers go to standard output, mistakes to standard error."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path


def counts_by_name(arguments: Iterable[str], *, option: str) -> dict[str, int]:
    """Read ``NAME=COUNT`` arguments.

    Raises:
        ValueError: listing every argument that is none.
    """
    counts, wrong = {}, []
    for argument in arguments:
        name, _, count = argument.partition("=")
        if name and count.isdecimal():
            counts[name] = int(count)
        else:
            wrong.append(argument)
    if wrong:
        raise ValueError(f"{option} {' '.join(wrong)}: give NAME=COUNT, such as eng_Latn=262144")
    return counts


def factors_by_name(arguments: Iterable[str], *, option: str) -> dict[str, float]:
    """Read ``NAME=FACTOR`` arguments.

    Raises:
        ValueError: listing every argument that is none.
    """
    factors, wrong = {}, []
    for argument in arguments:
        name, _, factor = argument.partition("=")
        try:
            factors[name] = float(factor)
        except ValueError:
            wrong.append(argument)
    wrong += [name for name, factor in factors.items() if not (name and math.isfinite(factor))]
    if wrong:
        raise ValueError(f"{option} {' '.join(wrong)}: give NAME=FACTOR, such as amh_Ethi=2")
    return factors


def paths_of(arguments: Iterable[str]) -> list[Path]:
    """Read paths with commas or blanks between; a path that is there may have a comma of its own."""
    return [
        Path(path)
        for argument in arguments
        for path in ([argument] if Path(argument).exists() else argument.split(","))
        if path
    ]


def print_lines(answer: Callable[[], Iterable[str]]) -> int:
    """Print the lines of an answer, and return the exit status.

    Mistakes of the user's and a full disk are told in one line, with status 1; all else is ours and shows its trace.
    """
    try:
        for line in answer():
            print(line)  # noqa: T201 - that is what a tool is for
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        return 130
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0
