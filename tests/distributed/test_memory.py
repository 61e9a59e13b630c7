"""The simulator against processes that train: parameters, gradients, optimizer state, peaks, numbers of messages."""

from __future__ import annotations

from collections.abc import Callable

import memory
import pytest
from memory import CASES, FOUR, TWO, Measured

from megatron.simulate.traffic import traffic_of

pytestmark = pytest.mark.timeout(900)  # the first test waits until all cases with as many processes have been trained


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Measured]]:
    """Return what the processes of a case hold; all cases with as many processes share them."""
    folder = tmp_path_factory.mktemp("memory")
    found: dict[str, list[Measured]] = {}

    def result(name: str) -> list[Measured]:
        if name not in found:
            found.update(memory.measured_in_processes(TWO if name in TWO else FOUR, folder))
        return found[name]

    return result


@pytest.mark.parametrize("name", CASES)
def test_state_is_told_exactly(name: str, measured: Callable[[str], list[Measured]]) -> None:
    for process in measured(name):
        told = process.told(CASES[name])
        assert process.parameters == process.gradients == told.parameters
        assert process.optimizer == told.optimizer


@pytest.mark.parametrize("name", CASES)
def test_the_peak_of_activations_is_told_within_15_percent(
    name: str, measured: Callable[[str], list[Measured]]
) -> None:
    for process in measured(name):
        told = process.told(CASES[name]).peak - process.state
        assert told == pytest.approx(process.activations, rel=0.15)


def test_a_longer_pipeline_step_holds_as_much_as_a_short_one(measured: Callable[[str], list[Measured]]) -> None:
    run, more = CASES["long pipeline, fp32, none"].run, 32 - 4  # micro-batches
    message = run.tokens * run.shape.hidden_size * run.element_bytes
    text = more * 3 * 8 * run.tokens  # ids, targets and positions are there for all of the step
    for long, short in zip(measured("long pipeline, fp32, none"), measured("pipeline, fp32, none"), strict=True):
        assert long.activations < short.activations + text + message / 2


@pytest.mark.parametrize("name", CASES)
def test_nothing_but_tables_stays_between_steps(name: str, measured: Callable[[str], list[Measured]]) -> None:
    layout, run = CASES[name].layout, CASES[name].run
    for process in measured(name):
        tables = 8 * run.shape.max_position_embeddings * run.shape.head_dim * layout.chunks
        numbers = 64 + 4 * run.accumulation_steps  # losses, and what is logged
        assert process.between_steps - process.state == pytest.approx(tables, abs=numbers)


@pytest.mark.parametrize("name", CASES)
def test_the_number_of_messages_is_told_exactly(name: str, measured: Callable[[str], list[Measured]]) -> None:
    for process in measured(name):
        told = vars(traffic_of(CASES[name].run, position=process.position)).values()
        for_logs = 2  # the loss with the number of targets; the gradient's norm
        assert process.messages == sum(axis.count for axis in told) + for_logs
