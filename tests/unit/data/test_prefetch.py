from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Iterator

import pytest

from megatron.data.prefetch import Prefetcher

SECONDS = 10.0


def prefetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def wait_until_none_runs() -> None:
    for thread in prefetch_threads():
        thread.join(SECONDS)
    assert not prefetch_threads()


class Counted:
    """Counts up, and remembers how far it was asked."""

    def __init__(self, stop: int = 1 << 60) -> None:
        self.made, self.stop = 0, stop
        self.closed = threading.Event()

    def items(self) -> Iterator[int]:
        try:
            while self.made < self.stop:
                self.made += 1
                yield self.made - 1
        finally:
            self.closed.set()


@pytest.mark.parametrize("depth", [1, 3, 100])
def test_items_come_in_order_and_end(depth: int) -> None:
    ahead = Prefetcher(Counted(50).items(), depth)
    assert list(ahead) == list(range(50))
    assert list(ahead) == []
    with pytest.raises(StopIteration):
        next(ahead)
    wait_until_none_runs()
    assert list(Prefetcher([], depth)) == []
    assert list(Prefetcher([None, StopIteration], depth)) == [None, StopIteration]


def test_no_more_than_depth_items_are_made_ahead() -> None:
    source = Counted()
    with Prefetcher(source.items(), 3) as ahead:
        for taken in range(1, 5):
            next(ahead)
            deadline = time.monotonic() + SECONDS
            while source.made < taken + 3 and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(0.01)
            assert source.made == taken + 3


def test_depth_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="depth is 0"):
        Prefetcher([1], 0)


def test_an_error_comes_after_the_items_before_it_with_its_traceback() -> None:
    def broken() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the disk is gone")

    ahead = Prefetcher(broken(), 8)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(OSError, match="the disk is gone") as error:
        next(ahead)
    assert "broken" in [frame.name for frame in traceback.extract_tb(error.value.__traceback__)]
    with pytest.raises(StopIteration):
        next(ahead)
    wait_until_none_runs()


def test_an_iterable_that_cannot_be_started_is_an_error_of_the_first_item() -> None:
    with pytest.raises(TypeError, match="not iterable"):
        next(Prefetcher(3, 1))  # type: ignore[arg-type]


def test_even_an_exit_of_the_thread_reaches_the_consumer() -> None:
    def leaving() -> Iterator[int]:
        yield 1
        sys.exit(7)

    ahead = Prefetcher(leaving(), 1)
    assert next(ahead) == 1
    with pytest.raises(SystemExit):
        next(ahead)


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_closing_ends_the_thread_and_the_iterable(taken: int) -> None:
    source = Counted()
    ahead = Prefetcher(source.items(), 2)
    for _ in range(taken):
        next(ahead)
    ahead.close()
    assert source.closed.is_set()
    assert not prefetch_threads()
    ahead.close()
    with pytest.raises(StopIteration):
        next(ahead)


def test_closing_waits_for_the_item_in_the_making_and_forgets_its_error() -> None:
    started = threading.Event()

    def slow() -> Iterator[int]:
        started.set()
        time.sleep(0.1)
        raise OSError("nobody wants to know")
        yield 1

    with Prefetcher(slow(), 1) as ahead:
        started.wait(SECONDS)
    assert not prefetch_threads()
    assert list(ahead) == []


def test_closing_from_another_thread_wakes_the_consumer() -> None:
    release = threading.Event()

    def stuck() -> Iterator[int]:
        release.wait(SECONDS)
        yield 1

    ahead = Prefetcher(stuck(), 1)
    seen: list[list[int]] = []
    consumer = threading.Thread(target=lambda: seen.append(list(ahead)))
    consumer.start()
    time.sleep(0.02)
    threading.Timer(0.05, release.set).start()
    ahead.close()
    consumer.join(SECONDS)
    assert not consumer.is_alive()
    assert seen in ([[]], [[1]])


@pytest.mark.parametrize("taken", [0, 3])
def test_the_thread_ends_when_the_consumer_forgets_it(taken: int) -> None:
    source = Counted()
    ahead = Prefetcher(source.items(), 2)
    for _ in range(taken):
        next(ahead)
    gone = weakref.ref(ahead)
    del ahead
    gc.collect()
    assert gone() is None
    wait_until_none_runs()
    assert source.closed.wait(SECONDS)


def test_a_consumed_item_is_not_kept() -> None:
    class Item:
        pass

    with Prefetcher((Item() for _ in range(2)), 1) as ahead:
        item = weakref.ref(next(ahead))
        next(ahead)
        gc.collect()
        assert item() is None


def test_it_sleeps_while_nothing_is_to_be_done() -> None:
    with Prefetcher(Counted().items(), 2) as ahead:
        next(ahead)
        time.sleep(0.05)
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.1


SCRIPT = """
import itertools, signal, sys, time
from megatron.data.prefetch import Prefetcher

# Processes in the background of a script inherit that it is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

def items():
    yield 1
    {wait}

ahead = Prefetcher(items(), 2)
next(ahead)
print("ready", flush=True)
{then}
"""


@pytest.mark.parametrize(("then", "code"), [("next(ahead)", -signal.SIGINT), ("sys.exit(3)", 3)])
def test_neither_an_interrupt_nor_the_end_of_the_process_waits_for_the_thread(then: str, code: int) -> None:
    script = SCRIPT.format(wait="time.sleep(600)", then=then)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == "ready\n"
    if code < 0:
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
    assert process.wait(SECONDS) == code
