"""Which process does which task, fixed before any begins: the same on every process that asks."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from megatron.corpus.engine.task import Task


def largest_first(tasks: Sequence[Task]) -> list[Task]:
    """Return tasks by falling size, so that no process is left alone with the largest; by name where sizes agree."""
    return sorted(tasks, key=lambda task: (-task.size_bytes, task.name))


def shares(tasks: Sequence[Task], count: int) -> list[list[Task]]:
    """Deal tasks out to ``count`` processes: each, the largest first, to the one that has the least so far.

    The largest load is at most 4/3 of the best possible one (Graham, 1969).
    """
    dealt: list[list[Task]] = [[] for _ in range(count)]
    loads = [(0, number) for number in range(count)]
    for task in largest_first(tasks):
        load, number = heapq.heappop(loads)
        dealt[number].append(task)
        heapq.heappush(loads, (load + max(1, task.size_bytes), number))
    return dealt
