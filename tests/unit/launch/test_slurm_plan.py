from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from megatron.config.schema import LaunchConfig, ParallelConfig, SlurmConfig
from megatron.launch.plan import Program
from megatron.launch.slurm import Allocation, job_script, plan_srun

PROGRAM = Program(Path("/a/train.py"), Path("/runs/x y/configs/resolved.yml"))
INSIDE = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "n[3-4]", "SLURM_CPUS_ON_NODE": "8"}


def planned(given: dict[str, str], backend: str | None = None, /, **launch: Any) -> Any:
    allocation = Allocation.of({**INSIDE, **given})
    assert allocation is not None
    return plan_srun(
        LaunchConfig(**launch), ParallelConfig(distributed_backend=backend), PROGRAM,  # type: ignore[arg-type]
        allocation=allocation, environment=given,
    )  # fmt: skip


def script(**launch: Any) -> str:
    return job_script(
        LaunchConfig(**launch), ParallelConfig(), PROGRAM, folder=Path("/runs/x y"), name="x y",
        working_directory=Path("/work dir"), environment={},
    )  # fmt: skip


def options(text: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")]


def test_outside_of_a_job_there_is_no_allocation() -> None:
    assert Allocation.of({}) is None
    assert Allocation.of({"SLURM_JOB_ID": "1"}) is None


@pytest.mark.parametrize(
    ("environment", "launch", "expected"),
    [
        ({"SLURM_GPUS_ON_NODE": "4"}, {}, (2, 4)),
        ({"SLURM_JOB_GPUS": "0,1,2"}, {}, (2, 3)),
        ({"SLURM_GPUS_ON_NODE": "4"}, {"num_gpus": 2, "num_nodes": 1}, (1, 2)),
        ({"SLURM_TASKS_PER_NODE": "4(x2)"}, {}, (2, 4)),
        ({"SLURM_NTASKS_PER_NODE": "3", "SLURM_TASKS_PER_NODE": "3(x2)"}, {}, (2, 3)),
        ({}, {}, (2, 1)),
    ],
)
def test_machines_and_processes(environment: dict[str, str], launch: dict[str, Any], expected: tuple[int, int]) -> None:
    plan = planned(environment, **launch)
    assert (plan.nodes, plan.per_node) == expected
    assert plan.world_size == expected[0] * expected[1]
    assert plan.command[:4] == [
        "srun", f"--nodes={expected[0]}", f"--ntasks={plan.world_size}", f"--ntasks-per-node={expected[1]}"
    ]  # fmt: skip
    assert plan.command[-5:] == [sys.executable, "-u", "/a/train.py", "--config", "/runs/x y/configs/resolved.yml"]


def test_more_than_there_is() -> None:
    with pytest.raises(ValueError, match="num_nodes = 3 exceeds the 2 machines of job 7"):
        planned({}, num_nodes=3)
    with pytest.raises(ValueError, match="num_gpus = 5 exceeds the 4 GPUs that job 7 has"):
        planned({"SLURM_GPUS_ON_NODE": "4"}, num_gpus=5)
    assert planned({"SLURM_GPUS_ON_NODE": "4"}, "gloo", num_gpus=5).world_size == 10


def test_cores_threads_variables_and_arguments() -> None:
    plan = planned(
        {"SLURM_CPUS_PER_TASK": "3", "SET": "by the user"}, num_gpus=2, launcher_args=("--cpu-bind=cores",),
        environment={"NCCL_DEBUG": "INFO", "SET": "here"}, master_addr="n9",
    )  # fmt: skip
    assert "--cpus-per-task=3" in plan.command and "--cpu-bind=cores" in plan.command
    assert plan.environment == {"NCCL_DEBUG": "INFO", "OMP_NUM_THREADS": "3", "MASTER_ADDR": "n9"}
    assert planned({}, num_gpus=2).environment == {"OMP_NUM_THREADS": "4"}
    assert planned({"SLURM_GPUS_ON_NODE": "2"}).environment == {}


def test_with_restarts_a_task_is_a_machines_agent() -> None:
    command = planned({"SLURM_CPUS_PER_TASK": "2"}, num_gpus=4, max_restarts=2).command
    assert command[:5] == ["srun", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--cpus-per-task=8"]
    text = " ".join(command)
    assert "-m megatron.launch.agent --nnodes 2 --nproc-per-node 4 --max-restarts 2 --rdzv-backend c10d" in text
    assert re.search(rf"--rdzv-id 7 --rdzv-endpoint {socket.gethostname()}:[12]\d{{4}} ", text), "n3 is not known here"
    assert "--rdzv-endpoint n9:7" in " ".join(planned({}, max_restarts=1, master_addr="n9", master_port=7).command)


def test_job_script_has_what_was_asked_for() -> None:
    text = script(
        num_nodes=2, num_gpus=4, account="project_1", comment="a b",
        slurm=SlurmConfig(
            partition="gpu", time="24:00:00", qos="long", constraint="a100", cpus_per_task=7, signal_seconds=120,
            modules=("cuda/12.4", "x; rm -rf /"), sbatch_args=("--gpus-per-node=4", "--exclusive"),
        ),
        environment={"NCCL_SOCKET_IFNAME": "hsn0,hsn1", "ODD": "$(date) ' \""},
    )  # fmt: skip
    assert options(text) == [
        "'--job-name=x y'", "--nodes=2", "--ntasks-per-node=4", "--account=project_1", "'--comment=a b'",
        "--partition=gpu", "--qos=long", "--constraint=a100", "--time=24:00:00", "--cpus-per-task=7",
        "'--chdir=/work dir'", "'--output=/runs/x y/slurm/%j.log'", "--open-mode=append", "--signal=USR1@120",
        "--requeue", "--gpus-per-node=4", "--exclusive",
    ]  # fmt: skip
    assert "module load 'x; rm -rf /' || exit 2\n" in text
    assert "export NCCL_SOCKET_IFNAME=hsn0,hsn1\n" in text
    assert "srun --nodes=2 --ntasks=8 --ntasks-per-node=4 --cpus-per-task=7 " in text


@pytest.mark.parametrize(
    "launch",
    [
        {"num_gpus": 1},
        {"num_gpus": 4, "num_nodes": 3, "max_restarts": 2},
        {"num_gpus": 2, "slurm": SlurmConfig(container="a b.sif", container_args=("--nv",), requeue=False)},
        {"num_gpus": 2, "environment": {"ODD": "$(touch {marker}) `touch {marker}` ' \"\n;"}},
    ],
)
def test_job_scripts_are_right_for_the_shell_and_run_nothing_else(launch: dict[str, Any], tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    if "environment" in launch:
        launch = {**launch, "environment": {"ODD": launch["environment"]["ODD"].replace("{marker}", str(marker))}}
    text = script(**launch)
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0
    before_the_run = text.partition("run=")[0]
    assert subprocess.run(["bash"], input=before_the_run, text=True).returncode == 0
    assert not marker.exists()
    slurm = launch.get("slurm", SlurmConfig())
    assert ("scontrol requeue" in text) == slurm.requeue
    assert ("come_back() {" in text) == ("trap at_the_end TERM" in text) == slurm.requeue
    if slurm.container:
        assert "apptainer exec --nv 'a b.sif' python3 -u /a/train.py" in text
    if "max_restarts" in launch:
        endpoint = '"$(hostname):$((10000 + SLURM_JOB_ID % 20000))"'
        assert f'--rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint {endpoint}' in text


def test_a_container_is_used_in_an_allocation_too() -> None:
    command = planned({}, slurm=SlurmConfig(container="a.sif", container_command="singularity")).command
    assert command[-7:] == [
        "singularity", "exec", "a.sif", "python3", "-u", "/a/train.py", "--config", "/runs/x y/configs/resolved.yml"
    ][-7:]  # fmt: skip


def test_what_a_job_needs() -> None:
    with pytest.raises(ValueError, match="num_gpus, the processes on each machine, is needed"):
        script()
    with pytest.raises(ValueError, match="cannot be a line of a job script"):
        script(num_gpus=1, comment="a\nrm -rf /")


def test_environment_is_checked_for_names() -> None:
    with pytest.raises(ValueError, match="environment"):
        LaunchConfig(environment={"A;rm": "x"})
