"""Log lines and progress bars, written to standard error so that standard output stays free for results."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module; the entry points decide where it writes (see :func:`setup_logging`)."""
    return logging.getLogger(name)


class _AboveTheBar(logging.Handler):
    """Writes lines to standard error without tearing a progress bar that is being drawn there."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except Exception:  # logging's own convention: a broken log line never ends a run
            self.handleError(record)


def setup_logging(*, level: int = logging.INFO, prefix: str = "") -> None:
    """Send log lines of this process to standard error.

    Args:
        level: lowest level that is shown.
        prefix: put before every line, e.g. ``"[rank 3] "``.
    """
    handler = _AboveTheBar()
    handler.setFormatter(logging.Formatter(f"{prefix}%(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("megatron").setLevel(level)


def progress(
    items: Iterable[Item],
    *,
    description: str,
    total: int | None = None,
    unit: str = "it",
    unit_scale: bool = False,
    initial: int = 0,
    disable: bool = False,
    only_on_a_terminal: bool = False,
) -> Iterator[Item]:
    """Iterate over ``items`` behind a progress bar on standard error.

    Args:
        items: what is worked on.
        description: shown before the bar.
        total: number of items, where ``items`` does not know.
        unit: name of an item.
        unit_scale: whether to write thousands and millions of items shortly.
        initial: items that were done before.
        disable: draw nothing.
        only_on_a_terminal: draw nothing in a log file either, which others write lines to.
    """
    bar = tqdm(
        items,
        desc=description,
        total=total,
        unit=unit,
        unit_scale=unit_scale,
        initial=initial,
        disable=disable or (only_on_a_terminal and not sys.stderr.isatty()),
        # A log file gets a line now and then, a terminal a moving bar.
        mininterval=0.5 if sys.stderr.isatty() else 30.0,
        dynamic_ncols=True,
    )
    yield from bar


@contextmanager
def progress_bar(
    total_bytes: int, *, description: str, disable: bool = False
) -> Iterator[Callable[[int], object]]:
    """Draw a bar of bytes on standard error; give what advances it by so many."""
    interval = 0.5 if sys.stderr.isatty() else 30.0
    with tqdm(
        desc=description, total=total_bytes, unit="B", unit_scale=True, disable=disable, mininterval=interval,
        dynamic_ncols=True,
    ) as bar:  # fmt: skip
        yield bar.update


@contextmanager
def counter(
    total: int, *, description: str, unit: str, disable: bool = False
) -> Iterator[Callable[[int, str], object]]:
    """Draw a bar of items on standard error; give what advances it by so many and puts a note beside it."""
    interval = 0.5 if sys.stderr.isatty() else 30.0
    with tqdm(
        desc=description, total=total, unit=unit, disable=disable, mininterval=interval, dynamic_ncols=True
    ) as bar:

        def advance(count: int, note: str) -> None:
            bar.set_postfix_str(note, refresh=False)
            bar.update(count)

        yield advance
