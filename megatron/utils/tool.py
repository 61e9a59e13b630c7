"""What command-line tools share: answers go to standard output, mistakes to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable


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
