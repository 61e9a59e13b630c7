"""Runs under Slurm: ``srun`` inside an allocation, and a job script for ``sbatch`` outside one."""

from __future__ import annotations

import dataclasses
import re
import shlex
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from megatron.config.schema import LaunchConfig, ParallelConfig
from megatron.launch.plan import LaunchPlan, Program, added_environment
from megatron.launch.tasks import JOB_STATUS_VARIABLE, first_node, is_known, port_of
from megatron.utils.status import EXIT_MISTAKE, EXIT_UNFINISHED


@dataclasses.dataclass(frozen=True)
class Allocation:
    """What Slurm has given to a job.

    Attributes:
        nodes: number of machines.
        node_list: their names, as Slurm writes them.
        job_id: the job.
        gpus: GPUs on a machine, as far as Slurm knows.
        tasks: processes that were asked for on a machine, if they were.
        cpus_per_task: cores that were asked for each of them, if they were.
        cpus: cores on a machine.
    """

    nodes: int
    node_list: str
    job_id: str
    gpus: int
    tasks: int | None
    cpus_per_task: int | None
    cpus: int | None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Allocation | None:
        """Return the allocation that a command runs in, by Slurm's variables; None outside of one."""
        nodes = environment.get("SLURM_JOB_NUM_NODES") or environment.get("SLURM_NNODES")
        if "SLURM_JOB_ID" not in environment or nodes is None:
            return None
        gpus = _number(environment, "SLURM_GPUS_ON_NODE")
        return cls(
            nodes=int(nodes),
            node_list=environment.get("SLURM_JOB_NODELIST", ""),
            job_id=environment["SLURM_JOB_ID"],
            gpus=gpus or len(list(filter(None, environment.get("SLURM_JOB_GPUS", "").split(",")))),
            tasks=_number(environment, "SLURM_NTASKS_PER_NODE") or _number(environment, "SLURM_TASKS_PER_NODE"),
            cpus_per_task=_number(environment, "SLURM_CPUS_PER_TASK"),
            cpus=_number(environment, "SLURM_CPUS_ON_NODE"),
        )


    def first_host(self) -> str:
        """Return the name of the first machine, or of this one where that name leads nowhere."""
        first = first_node(self.node_list) or "localhost"
        return first if is_known(first) else socket.gethostname()


def _number(environment: Mapping[str, str], name: str) -> int | None:
    """Return the number that a value begins with, such as 4 for ``4(x2)``."""
    match = re.match(r"\d+", environment.get(name, ""))
    return int(match[0]) if match else None


def plan_srun(
    launch: LaunchConfig,
    parallel: ParallelConfig,
    program: Program,
    *,
    allocation: Allocation,
    environment: Mapping[str, str],
) -> LaunchPlan:
    """Plan a run inside an allocation.

    Every process is a task of one job step, and learns its rank from Slurm; no ssh, no list of hosts. With
    ``max_restarts`` a task is a machine's agent. When one task fails, Slurm ends all.

    Args:
        launch: ``num_nodes`` of the allocation's machines, ``num_gpus`` processes on each, all when absent.
        parallel: threads per process.
        program: what they run.
        allocation: what there is.
        environment: the launcher's variables; what the user set there is kept.

    Raises:
        ValueError: more is asked for than there is.
    """
    nodes = launch.num_nodes or allocation.nodes
    if nodes > allocation.nodes:
        raise ValueError(
            f"num_nodes = {nodes} exceeds the {allocation.nodes} machines of job {allocation.job_id}. Lower num_nodes, "
            "or ask for more when the job is submitted."
        )
    on_gpus = allocation.gpus > 0 and parallel.distributed_backend != "gloo"
    per_node = launch.num_gpus or (allocation.gpus if on_gpus else allocation.tasks) or 1
    if on_gpus and per_node > allocation.gpus:
        raise ValueError(
            f"num_gpus = {per_node} exceeds the {allocation.gpus} GPUs that job {allocation.job_id} has on a machine. "
            "Lower num_gpus, or ask for more when the job is submitted."
        )
    port = launch.master_port or port_of(f"agents of {allocation.job_id}")
    endpoint = f"{launch.master_addr or allocation.first_host()}:{port}"
    cores = allocation.cpus_per_task or (None if allocation.cpus is None else max(1, allocation.cpus // per_node))
    added = added_environment(launch, parallel, environment, None if on_gpus else cores, 1)
    added |= master(launch)
    command = srun(
        launch, _contained(launch, program), nodes=nodes, per_node=per_node, cpus_per_task=allocation.cpus_per_task,
        rendezvous=("--rdzv-id", allocation.job_id, "--rdzv-endpoint", endpoint),
    )  # fmt: skip
    return LaunchPlan(command, added, nodes, per_node, "srun")


def srun(
    launch: LaunchConfig,
    program: Program,
    *,
    nodes: int,
    per_node: int,
    cpus_per_task: int | None,
    rendezvous: Sequence[str],
) -> list[str]:
    """Return the command that starts all processes of a job.

    Args:
        launch: ``max_restarts`` and ``launcher_args``.
        program: what the processes run.
        nodes: number of machines.
        per_node: processes on each.
        cpus_per_task: cores of a process; since Slurm 22.05 ``srun`` has to be told, too.
        rendezvous: with ``max_restarts``, how the machines' agents find each other.
    """
    tasks = 1 if launch.max_restarts else per_node
    command = ["srun", f"--nodes={nodes}", f"--ntasks={nodes * tasks}", f"--ntasks-per-node={tasks}"]
    if cpus_per_task is not None:
        command.append(f"--cpus-per-task={cpus_per_task * per_node // tasks}")
    command += ["--kill-on-bad-exit=1", "--export=ALL", *launch.launcher_args]
    if not launch.max_restarts:
        return command + program.command
    return command + program.under_agent(
        "--nnodes", str(nodes), "--nproc-per-node", str(per_node), "--max-restarts", str(launch.max_restarts),
        "--rdzv-backend", "c10d", *rendezvous,
    )  # fmt: skip


def _contained(launch: LaunchConfig, program: Program) -> Program:
    """Return the program as it is run in the container, where there is one."""
    slurm = launch.slurm
    if slurm.container is None:
        return program
    start = [slurm.container_command, "exec", *slurm.container_args, slurm.container, slurm.container_python]
    return dataclasses.replace(program, python=start)


def master(launch: LaunchConfig) -> dict[str, str]:
    """Return the variables that say where the first process is met, where the user does."""
    named = {"MASTER_ADDR": launch.master_addr, "MASTER_PORT": launch.master_port}
    return {name: str(value) for name, value in named.items() if value is not None}


def job_script(
    launch: LaunchConfig,
    parallel: ParallelConfig,
    program: Program,
    *,
    folder: Path,
    name: str,
    working_directory: Path,
    environment: Mapping[str, str],
) -> str:
    """Return a script for ``sbatch`` that runs a configuration, and comes back for as long as there is work left.

    Slurm sends SIGUSR1 ``signal_seconds`` before the end of the job's time; the processes save and end with
    :data:`EXIT_UNFINISHED`. Then, and after a failure, the job is put back into the queue: always if a checkpoint was
    written since it was started, else ``max_faults`` times in a row. A mistake of the user's ends it.

    Args:
        launch: machines, processes, account, and the section ``slurm``.
        parallel: threads per process.
        program: what the processes run; paths are absolute.
        folder: the run's ``save`` folder, absolute; logs and the record of failures go there.
        name: of the job.
        working_directory: where relative paths of the configuration begin.
        environment: the submitter's variables; Slurm hands them to the job.

    Raises:
        ValueError: the number of processes is not given.
    """
    if launch.num_gpus is None:
        raise ValueError("num_gpus, the processes on each machine, is needed to submit a job: this machine is another")
    slurm, nodes = launch.slurm, launch.num_nodes or 1
    options = {
        "job-name": name,
        "nodes": nodes,
        "ntasks-per-node": launch.num_gpus,
        "account": launch.account,
        "comment": launch.comment,
        "partition": slurm.partition,
        "qos": slurm.qos,
        "constraint": slurm.constraint,
        "time": slurm.time,
        "cpus-per-task": slurm.cpus_per_task,
        "chdir": working_directory,
        "output": folder / "slurm" / "%j.log",
        "open-mode": "append",
        "signal": f"USR1@{slurm.signal_seconds}",
    }
    lines = [f"--{key}={value}" for key, value in options.items() if value is not None]
    lines += ["--requeue" if slurm.requeue else "--no-requeue", *slurm.sbatch_args]
    for line in lines:
        if not line.isprintable():
            raise ValueError(f"{line!r} cannot be a line of a job script")
    added = added_environment(launch, parallel, environment, None, launch.num_gpus) | master(launch)
    # Names are known when the job runs: ${...} is the job's own.
    command = srun(
        launch, _contained(launch, program), nodes=nodes, per_node=launch.num_gpus, cpus_per_task=slurm.cpus_per_task,
        rendezvous=("--rdzv-id", _JOB, "--rdzv-endpoint", _FIRST),
    )  # fmt: skip
    text = shlex.join(command)
    text = text.replace(shlex.quote(_JOB), '"$SLURM_JOB_ID"')
    # The script runs on the first machine.
    host, port = launch.master_addr or "$(hostname)", launch.master_port or "$((10000 + SLURM_JOB_ID % 20000))"
    text = text.replace(shlex.quote(_FIRST), f'"{host}:{port}"')
    return (_SCRIPT + _COMES_BACK if slurm.requeue else _SCRIPT + "exit $status\n").format(
        come_back=_COME_BACK if slurm.requeue else "",
        background=" &\nwait $!" if slurm.requeue else "",
        options="\n".join(f"#SBATCH {shlex.quote(line)}" for line in lines),
        modules="".join(f"module load {shlex.quote(module)} || exit {EXIT_MISTAKE}\n" for module in slurm.modules),
        exports="".join(f"export {key}={shlex.quote(value)}\n" for key, value in added.items()),
        folder=shlex.quote(str(folder)),
        command=text,
        mistake=EXIT_MISTAKE,
        unfinished=EXIT_UNFINISHED,
        max_faults=slurm.max_faults,
        variable=JOB_STATUS_VARIABLE,
    )


_JOB, _FIRST = "JOB ID", "FIRST NODE"  # two words each, so that they are quoted and stand out

_SCRIPT = """\
#!/bin/bash
{options}
# Written by deepy.py --submit. Slurm has its own copy: to change a job that was submitted, submit it again.
{modules}{exports}
set -u
run={folder}
checkpoints() {{ grep -c '"event":"checkpoint"' "$run/metrics.jsonl" 2>/dev/null; }}
before=$(checkpoints)
{come_back}export {variable}=$run/slurm/status-$SLURM_JOB_ID
rm -f "${variable}"
# Slurm 23.02 and later tells by itself when the job's time is over.
end=$(date -d "$(squeue -h -j "$SLURM_JOB_ID" -o %e)" +%s 2>/dev/null)
export SLURM_JOB_END_TIME="${{SLURM_JOB_END_TIME:-$end}}"
echo "start ${{SLURM_RESTART_COUNT:-0}} of job $SLURM_JOB_ID on $SLURM_JOB_NODELIST, $(date -Is)"

{command}{background}
status=$?
"""

_COMES_BACK = """
# srun tells of the processes that it has ended because of the first one, which has left its own status here.
[ -s "${variable}" ] && status=$(cat "${variable}")
# 0: finished. {mistake}: a mistake, which no other try would mend. {unfinished}: saved, with work left. Else: a fault.
case $status in 0 | {mistake}) exit $status ;; esac
faults=$run/slurm/faults-$SLURM_JOB_ID # one line for each in a row after which there was no new checkpoint
if [ $status -eq {unfinished} ] || [ "$(checkpoints)" != "$before" ]; then
    rm -f "$faults"
else
    echo "start ${{SLURM_RESTART_COUNT:-0}} ended with status $status, $(date -Is)" >>"$faults"
    if [ "$(wc -l <"$faults")" -gt {max_faults} ]; then
        echo "gives up: $(wc -l <"$faults") failures in a row without a new checkpoint"
        exit $status
    fi
fi
echo "ended with status $status; back into the queue"
come_back
exit $status
"""

_COME_BACK = """\
come_back() {
    for pause in 10 60 300 0; do
        scontrol requeue "$SLURM_JOB_ID" && return
        sleep $pause
    done
    echo "Slurm does not take the job back: submit it again"
}
# At the end of its time Slurm ends this script, too. Whoever cancels the job does so earlier.
at_the_end() {
    if [ -n "$SLURM_JOB_END_TIME" ] && [ "$(date +%s)" -ge $((SLURM_JOB_END_TIME - 30)) ]; then
        echo "the time is over; back into the queue"
        come_back
    fi
    exit 143
}
trap at_the_end TERM
"""
