from __future__ import annotations

import os
import signal

import pytest

from megatron.config.schema import SurvivalConfig
from megatron.train.stop import StopRequests


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def why(requests: StopRequests) -> str:
    code = requests.code()
    return requests.reason(code) if code else ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT])
def test_a_signal_is_a_reason_and_handlers_are_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopRequests(SurvivalConfig(), ends_at=None) as requests:
        assert why(requests) == ""
        os.kill(os.getpid(), number)
        assert why(requests) == number.name
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_is_not_waited_for() -> None:
    with StopRequests(SurvivalConfig(), ends_at=None):
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_end_of_the_time() -> None:
    clock = Clock()
    requests = StopRequests(SurvivalConfig(exit_duration_minutes=90), ends_at=1000.0 + 24 * 3600, clock=clock)
    clock.now += 90 * 60 - 1
    assert why(requests) == ""
    clock.now += 1
    assert why(requests) == "exit_duration_minutes = 90"
    requests = StopRequests(SurvivalConfig(), ends_at=clock.now + 24 * 3600, clock=clock)
    clock.now += 24 * 3600 - 301
    assert why(requests) == ""
    clock.now += 1
    assert why(requests) == "5 minutes are left of the job's time"


def test_a_short_job_gets_something_done() -> None:
    clock = Clock()
    requests = StopRequests(SurvivalConfig(), ends_at=clock.now + 240, clock=clock)
    clock.now += 179
    assert why(requests) == ""
    clock.now += 1
    assert why(requests) == "1 minutes are left of the job's time"
