"""torchrun's agent, which starts a machine's processes and starts them all again when one fails.

Two things are different from ``torchrun`` itself. Processes that end on purpose, with everything saved and work left to
do, are not started again, and their exit status becomes the agent's (:func:`leave`). SIGUSR1, with which Slurm
announces the end of a job's time, is passed on to the processes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from megatron.utils.status import EXIT_UNFINISHED

_STATUS_FILE = "EMMA_NEOX_STATUS_FILE"
_SHUTDOWN_SECONDS = "120"
"""How long processes may take to save when the agent is told to end; whoever kills it sooner kills them as well."""


def leave(status: int, environment: Mapping[str, str]) -> int:
    """Return the status to end with: the agent hears by a file that work is left, and sees a success.

    Args:
        status: exit status of this process.
        environment: its variables.
    """
    path = environment.get(_STATUS_FILE)
    if path is None or status != EXIT_UNFINISHED:
        return status
    Path(path).write_text(str(status), encoding="ascii")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Run torchrun with these arguments; return the exit status of its processes."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", _SHUTDOWN_SECONDS)
    # A store that outlives the processes gives those that are started again what the first ones have left in it, and
    # they wait for each other where nobody is (pytorch/pytorch#135712).
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    signal.signal(signal.SIGUSR1, _pass_on)
    with tempfile.TemporaryDirectory(prefix="emma-neox-") as folder:
        told = Path(folder) / "status"
        os.environ[_STATUS_FILE] = str(told)
        try:
            run(parse_args(arguments))
        except ChildFailedError as error:
            sys.stderr.write(f"{error}\n")
            status = error.get_first_failure()[1].exitcode
            return 128 - status if status < 0 else status
        except SignalException as error:
            return _told(told, otherwise=128 + error.sigval)
        return _told(told, otherwise=0)


def _told(path: Path, *, otherwise: int) -> int:
    """Return the status that a process has left, if one has."""
    return int(path.read_text(encoding="ascii")) if path.exists() else otherwise


def _pass_on(number: int, frame: FrameType | None) -> None:
    """Send a signal to all processes that this one has started."""
    for tasks in Path("/proc/self/task").glob("*/children"):
        for child in tasks.read_text(encoding="ascii").split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
