"""Runs on the machines of a hostfile: an agent on each, started over ssh, and ended together."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from megatron.config.schema import LaunchConfig, ParallelConfig
from megatron.launch.hosts import Hosts
from megatron.launch.mpi import slots_per_host
from megatron.launch.plan import LaunchPlan, Program, added_environment
from megatron.launch.slurm import master
from megatron.launch.tasks import port_of
from megatron.utils.log import get_logger

_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 660.0
_EXIT_SSH = 255
_PREFIXES = ("NCCL_", "RCCL_", "GLOO_", "TORCH_", "OMP_", "FI_", "UCX_", "HSA_", "MIOPEN_", "WANDB_")

logger = get_logger(__name__)


def plan_ssh(
    launch: LaunchConfig,
    parallel: ParallelConfig,
    program: Program,
    *,
    hosts: Hosts,
    working_directory: Path,
    environment: Mapping[str, str],
) -> dict[str, LaunchPlan]:
    """Plan the command of each machine. All of them see the same files under the same names.

    Args:
        launch: ``num_gpus`` processes on each, else as many as it has slots.
        parallel: threads per process.
        program: what they run.
        hosts: the machines; their agents meet on the first.
        working_directory: where relative paths begin, on every machine.
        environment: the launcher's variables; a machine gets ``PATH``, ``LD_LIBRARY_PATH``, ``PYTHONPATH`` and
            those of NCCL, Gloo, PyTorch and the networks, and those that ``environment`` names.

    Raises:
        ValueError: the machines have different numbers of slots.
    """
    per_node = slots_per_host(hosts, launch)
    first = launch.master_addr or next(iter(hosts))
    run = str(program.config_path)
    endpoint = f"{first}:{launch.master_port or port_of(run)}"
    added = {name: value for name, value in environment.items() if _travels(name) or name in launch.environment}
    added |= added_environment(launch, parallel, environment, None, per_node) | master(launch)
    plans = {}
    for rank, (host, slots) in enumerate(hosts.items()):
        own = added | ({} if slots == list(range(per_node)) else {"CUDA_VISIBLE_DEVICES": ",".join(map(str, slots))})
        agent = program.under_agent(
            "--nnodes", str(len(hosts)), "--nproc-per-node", str(per_node), "--local-addr", host,
            "--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--rdzv-id", f"{port_of(run)}",
            "--rdzv-conf", f"is_host={int(rank == 0)}", "--max-restarts", str(launch.max_restarts),
        )  # fmt: skip
        variables = shlex.join(["env", *(f"{name}={value}" for name, value in own.items())])
        # `exec`, and a terminal of its own (-tt): when ssh ends, so does what it has started.
        line = f"cd {shlex.quote(str(working_directory))} && exec {variables} {shlex.join(agent)}"
        command = ["ssh", "-tt", "-o", "BatchMode=yes", *launch.launcher_args, host, line]
        plans[host] = LaunchPlan(command, {}, len(hosts), per_node, "ssh")
    return plans


def _travels(name: str) -> bool:
    return name in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH") or name.startswith(_PREFIXES)


def run_everywhere(commands: Mapping[str, Sequence[str]]) -> int:
    """Run a command for each machine side by side; when one fails, end the others. Return the first failure's status.

    What they print is passed on a line at a time, with the machine's name before it. Signals are not sent through ssh:
    they end it, and what it has started is hung up on.
    """
    processes = {
        host: subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace",
        )
        for host, command in commands.items()
    }  # fmt: skip
    for host, process in processes.items():
        threading.Thread(target=_pass_on_lines, args=(host, process), daemon=True).start()

    def end(number: int = 0, frame: FrameType | None = None) -> None:
        for process in processes.values():
            process.terminate()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, end)
    status, deadline, told = 0, None, set()
    while True:
        running = [process for process in processes.values() if process.poll() is None]
        for host, process in processes.items():
            if process.returncode and host not in told:
                told.add(host)
                status = status or process.returncode
                lost = process.returncode == _EXIT_SSH
                reason = "ssh could not reach it, or lost it" if lost else f"ended with status {process.returncode}"
                logger.error("%s: %s%s", host, reason, "; the others are ended" if running and not deadline else "")
        if not running:
            return status if status >= 0 else 128 - status
        if status and deadline is None:
            deadline = time.monotonic() + _PATIENCE_SECONDS
            end()
        if deadline is not None and time.monotonic() > deadline:
            for process in running:
                process.kill()
        time.sleep(_POLL_SECONDS)


def _pass_on_lines(host: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        sys.stdout.write(f"[{host}] {line.rstrip()}\n")
        sys.stdout.flush()
