"""A real Slurm cluster on this machine: a controller, and as many daemons of nodes as are wanted."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "munged")
_KEY = Path("/etc/munge/munge.key")


def why_not() -> str:
    """Return why there can be no cluster here, or an empty text."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if missing:
        return f"{', '.join(missing)} not installed: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "a cluster of one's own needs root"


def wait_for(what: Callable[[], object], *, seconds: float, why: str | Callable[[], str]) -> None:
    """Wait until something is true; else say why not."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"after {seconds:g} s: {why if isinstance(why, str) else why()}"
        time.sleep(0.2)


class LocalSlurm:
    """Nodes ``node1`` to ``nodeN`` on this machine, for as long as the context lasts.

    A job that is put back into the queue has to wait for as long as its credential is good (two minutes elsewhere,
    seconds here), and a node that does not answer is given up after seconds instead of five minutes.
    """

    def __init__(self, root: Path, *, nodes: int = 2, cpus: int = 4) -> None:
        self._root, self._nodes, self._cpus = root, nodes, cpus
        self.environment = {**os.environ, "SLURM_CONF": str(root / "slurm.conf")}

    def __enter__(self) -> LocalSlurm:
        _start_munge()
        (self._root / "state").mkdir(parents=True)
        (self._root / "slurm.conf").write_text(self._configuration())
        (self._root / "cgroup.conf").write_text("CgroupAutomount=no\n")
        self._start("slurmctld")
        for number in range(1, self._nodes + 1):
            self.start_node(number)
        wait_for(lambda: self.states() == {"idle"}, seconds=60, why="the nodes are not idle")
        return self

    def __exit__(self, *_: object) -> None:
        self.run("scancel", "--state=PENDING", "--state=RUNNING", check=False)
        time.sleep(0.5)
        for pid in self._root.glob("*.pid"):
            _kill(int(pid.read_text()), signal.SIGTERM)

    def start_node(self, number: int) -> None:
        """Start the daemon of a node."""
        (self._root / f"spool-node{number}").mkdir(exist_ok=True)
        self._start("slurmd", "-N", f"node{number}")

    def kill_node(self, number: int) -> None:
        """Kill the daemon of a node, and everything that it has started there, as a power cut would."""
        _kill(int((self._root / f"slurmd-node{number}.pid").read_text()), signal.SIGKILL)
        there = processes_with(f"SLURMD_NODENAME=node{number}")
        for pid in [*{parent_of(pid) for pid in there}, *there]:
            _kill(pid, signal.SIGKILL)

    def states(self) -> set[str]:
        """Return the states of all nodes."""
        return set(self.run("sinfo", "--noheader", "--Node", "--format=%T").split())

    def run(self, *command: str, check: bool = True) -> str:
        """Run one of Slurm's programs and return what it prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def state(self, job: str) -> str:
        """Return the state of a job."""
        words = dict(word.split("=", 1) for word in self.run("scontrol", "show", "job", job).split() if "=" in word)
        return words["JobState"]

    def _start(self, *command: str) -> None:
        path = f"{os.environ['PATH']}:/usr/sbin"
        subprocess.run(command, env={**self.environment, "PATH": path}, check=True, timeout=60)

    def _configuration(self) -> str:
        host, root = socket.gethostname(), self._root
        ports = _free_ports(self._nodes + 1)
        nodes = "\n".join(
            f"NodeName=node{i} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[i]} CPUs={self._cpus} State=UNKNOWN"
            for i in range(1, self._nodes + 1)
        )
        return f"""\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SlurmUser=root
SlurmdUser=root
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
SlurmdTimeout=10
ReturnToService=2
SchedulerParameters=sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobRequeue=1
KillWait=5
SlurmdParameters=config_overrides
{nodes}
PartitionName=all Nodes=node[1-{self._nodes}] Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8
"""


def processes_with(variable: str) -> list[int]:
    """Return the processes that have ``NAME=value`` in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if variable.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def command_of(pid: int) -> bytes:
    """Return the command line of a process, empty when it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def parent_of(pid: int) -> int:
    """Return the process that has started another."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _start_munge() -> None:
    """Start the daemon that Slurm's messages are signed by, unless it runs."""
    if subprocess.run(["munge", "-n"], capture_output=True).returncode == 0:
        return
    if not _KEY.exists():
        _KEY.write_bytes(os.urandom(1024))
    for folder in (_KEY.parent, Path("/run/munge"), Path("/var/log/munge"), Path("/var/lib/munge")):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.chown(folder, "munge", "munge")
    shutil.chown(_KEY, "munge", "munge")
    _KEY.chmod(0o400)
    subprocess.run(["runuser", "-u", "munge", "--", "/usr/sbin/munged"], check=True, timeout=60)
    wait_for(
        lambda: subprocess.run(["munge", "-n"], capture_output=True).returncode == 0, seconds=30, why="munged is silent"
    )
