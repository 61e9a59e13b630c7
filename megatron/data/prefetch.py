"""Makes the next items of an iterable in a background thread, while the consumer works on the last one."""

from __future__ import annotations

import dataclasses
import threading
import weakref
from collections.abc import Iterable, Iterator
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")

_JOIN_SECONDS = 10.0


class Prefetcher(Iterator[T]):
    """Iterates over ``iterable``, which a background thread runs up to ``depth`` items ahead; a context manager.

    Items come in order. An exception in the iterable reaches the consumer after the items before it, with its own
    traceback. The thread sleeps while nothing is to be done, and ends when the iterable does, when this object is
    closed or garbage collected, and with the process.

    Args:
        iterable: only the thread touches it. If it refers to this object, only :meth:`close` ends the thread.
        depth: most items that exist and are not consumed yet.

    Raises:
        ValueError: ``depth`` is below 1.
    """

    def __init__(self, iterable: Iterable[T], depth: int) -> None:
        if depth < 1:
            raise ValueError(f"depth is {depth}; reading ahead needs at least 1 item")
        self._channel: _Channel[T] = _Channel(depth)
        self._finished = False
        # The thread knows the channel but not this object, or this object could never be garbage collected.
        self._thread = threading.Thread(target=_produce, args=(iterable, self._channel), name="prefetch", daemon=True)
        weakref.finalize(self, self._channel.close)
        self._thread.start()

    def __next__(self) -> T:
        """Return the next item, waiting for it when it is not ready; after :meth:`close` there is none."""
        if self._finished:
            raise StopIteration
        item = self._channel.items.get()
        if not isinstance(item, _End):
            self._channel.permits.put(None)
            return item
        self._finished = True
        if item.error is None:
            raise StopIteration
        raise item.error

    def __enter__(self) -> Prefetcher[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop what is ready and end the thread, which first finishes the item that it is making. May be repeated.

        An iterable that hangs is left behind after ten seconds; it cannot keep the process from ending.
        """
        self._finished = True
        self._channel.close()
        if self._thread is not threading.current_thread():
            self._thread.join(_JOIN_SECONDS)
        self._channel.drop()


@dataclasses.dataclass(frozen=True)
class _End:
    """Comes after the last item: the iterable has ended, or failed with ``error``."""

    error: BaseException | None = None


class _Channel(Generic[T]):
    """Items to the consumer, permits to the producer: one for each item that it may make.

    Simple queues alone: the garbage collector may call :meth:`close` at any point of any thread, even in the middle of
    a wait, where a lock would be taken twice and a notification lost.
    """

    def __init__(self, depth: int) -> None:
        self.items: SimpleQueue[T | _End] = SimpleQueue()
        self.permits: SimpleQueue[None] = SimpleQueue()
        self.closed = False
        for _ in range(depth):
            self.permits.put(None)

    def close(self) -> None:
        self.closed = True
        self.permits.put(None)  # wakes the producer

    def drop(self) -> None:
        """Let go of the items that nobody wants, and wake a consumer that waits for one."""
        try:
            while True:
                self.items.get_nowait()
        except Empty:
            self.items.put(_End())


def _produce(iterable: Iterable[T], channel: _Channel[T]) -> None:
    """Make items for as long as they are wanted; runs in the thread."""
    end = _End()
    try:
        iterator = iter(iterable)
        while True:
            channel.permits.get()
            if channel.closed:
                break
            try:
                item = next(iterator)
            except StopIteration:
                break
            channel.items.put(item)
            del item  # the consumer alone decides how long it lives
    except BaseException as error:
        end = _End(error)
    channel.items.put(end)
