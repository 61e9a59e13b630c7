"""torchrun's agent, which starts a machine's processes and starts them all again when one fails.

Three things are different from ``torchrun`` itself. Processes that end on purpose, with everything saved and work left
to do, are not started again, and their exit status becomes the agent's (:func:`leave`). Where one process ends by a
mistake and the others then fail for want of it, the agent's status tells of the mistake, whichever of them ended first.
SIGUSR1, with which Slurm announces the end of a job's time, is passed on to the processes.
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

from megatron.utils.status import EXIT_MISTAKE, EXIT_UNFINISHED

_STATUS_FOLDER = "EMMA_NEOX_STATUS_FOLDER"
_SHUTDOWN_SECONDS = "120"
"""How long processes may take to save when the agent is told to end; whoever kills it sooner kills them as well."""


def leave(status: int, environment: Mapping[str, str]) -> int:
    """Return the status to end with, and tell the agent of it by an empty file of that name.

    Of work that is left it hears by the file alone, and sees a success: a failure would be started again.

    Args:
        status: exit status of this process.
        environment: its variables.
    """
    folder = environment.get(_STATUS_FOLDER)
    if folder is None:
        return status
    _file(Path(folder), status).touch()
    return 0 if status == EXIT_UNFINISHED else status


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
    with tempfile.TemporaryDirectory(prefix="emma-neox-") as name:
        folder = Path(name)
        os.environ[_STATUS_FOLDER] = name
        try:
            run(parse_args(arguments))
        except ChildFailedError as error:
            sys.stderr.write(f"{error}\n")
            status = error.get_first_failure()[1].exitcode
            return _told(folder, EXIT_MISTAKE, otherwise=128 - status if status < 0 else status)
        except SignalException as error:
            return _told(folder, EXIT_UNFINISHED, otherwise=128 + error.sigval)
        return _told(folder, EXIT_UNFINISHED, otherwise=0)


def _told(folder: Path, status: int, *, otherwise: int) -> int:
    """Return the status if a process has told of it."""
    return status if _file(folder, status).exists() else otherwise


def _file(folder: Path, status: int) -> Path:
    """Return the file that tells of a status."""
    return folder / str(status)


def _pass_on(number: int, frame: FrameType | None) -> None:
    """Send a signal to all processes that this one has started."""
    for tasks in Path("/proc/self/task").glob("*/children"):
        for child in tasks.read_text(encoding="ascii").split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
