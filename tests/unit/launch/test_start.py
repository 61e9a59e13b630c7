from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from megatron.config.schema import LaunchConfig, ParallelConfig
from megatron.launch import start
from megatron.launch.plan import Machine, Program
from megatron.launch.start import plan_launch

JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "n[1-2]"}


def planned(environment: dict[str, str], **launch: Any) -> Any:
    return plan_launch(
        LaunchConfig(**launch), ParallelConfig(), Program(Path("train.py"), Path("a.yml")),
        machine=Machine(num_gpus=0, num_cores=2), environment=environment, working_directory=Path("/a"),
    )  # fmt: skip


@pytest.fixture
def srun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start.shutil, "which", lambda name: f"/usr/bin/{name}")


def test_auto_finds_out(srun: None, tmp_path: Path) -> None:
    assert planned({})[""].launcher == "local"
    assert planned(JOB)[""].launcher == "srun"
    assert planned(JOB, launcher="local")[""].launcher == "local"
    (tmp_path / "hosts").write_text("a slots=1\nb slots=1\n")
    assert set(planned(JOB, hostfile=str(tmp_path / "hosts"))) == {"a", "b"}


@pytest.mark.parametrize(
    ("environment", "launch", "problem"),
    [
        ({}, {"launcher": "slurm"}, "this is no job of Slurm"),
        ({}, {"launcher": "ssh"}, "hostfile, .*, is not set"),
        ({}, {"num_nodes": 2}, "num_nodes = 2, but this command starts processes on this machine only"),
        ({}, {"exclude": "a"}, "include and exclude choose among the machines of hostfile"),
        (JOB, {"include": "n1"}, r"sbatch_args with --exclude"),
        ({**JOB, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8"}, {}, "one of 8 processes that were started"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, {}, "one of 4 processes"),
    ],
)
def test_what_cannot_be_started(
    srun: None, environment: dict[str, str], launch: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        planned(environment, **launch)


def test_a_job_of_several_machines_without_srun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="a job of Slurm on 2 machines, but srun is not on the PATH"):
        planned(JOB)
