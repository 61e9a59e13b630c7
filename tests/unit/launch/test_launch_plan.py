from __future__ import annotations

import sys
from pathlib import Path

import pytest

from megatron.config.schema import LaunchConfig, ParallelConfig
from megatron.launch.plan import LaunchPlan, Machine, Program, machine_problems, num_processes, plan_local


def plan(*, gpus=0, cores=8, environment=None, backend=None, threads=None, asked=None):
    return plan_local(
        LaunchConfig(num_gpus=asked),
        ParallelConfig(distributed_backend=backend, num_threads=threads),
        Program(Path("train.py"), Path("a folder/resolved.yml")),
        machine=Machine(num_gpus=gpus, num_cores=cores),
        environment=environment or {},
    )


def test_one_process_is_started_plainly():
    assert plan() == LaunchPlan(
        [sys.executable, "-u", "train.py", "--config", "a folder/resolved.yml"], {"OMP_NUM_THREADS": "8"}
    )


def test_several_processes_are_started_by_torchrun():
    planned = plan(asked=2)
    assert planned.command == [
        sys.executable, "-m", "megatron.launch.agent", "--standalone", "--nproc-per-node", "2", "--max-restarts", "0",
        "train.py", "--config", "a folder/resolved.yml",
    ]  # fmt: skip
    assert planned.world_size == 2
    assert planned.environment == {"OMP_NUM_THREADS": "4"}


@pytest.mark.parametrize(("asked", "gpus", "expected"), [(None, 0, 1), (None, 4, 4), (2, 4, 2), (3, 0, 3)])
def test_number_of_processes(asked, gpus, expected):
    assert num_processes(LaunchConfig(num_gpus=asked), Machine(num_gpus=gpus, num_cores=1)) == expected
    assert plan(asked=asked, gpus=gpus).world_size == expected


def test_threads():
    assert plan(asked=3, cores=2).environment == {"OMP_NUM_THREADS": "1"}
    assert plan(threads=5).environment == {"OMP_NUM_THREADS": "5"}
    assert plan(threads=5, environment={"OMP_NUM_THREADS": "7"}).environment == {}
    assert plan(gpus=2).environment == {}
    assert plan(gpus=2, backend="gloo").environment == {"OMP_NUM_THREADS": "4"}


def test_more_processes_than_gpus():
    with pytest.raises(ValueError, match="num_gpus = 3 exceeds the 2 GPUs"):
        plan(asked=3, gpus=2)
    assert plan(asked=3, gpus=2, backend="gloo").world_size == 3


def test_nccl_needs_a_gpu():
    nccl, alone = ParallelConfig(distributed_backend="nccl"), LaunchConfig()
    [problem] = machine_problems(alone, nccl, Machine(num_gpus=0, num_cores=1))
    assert "nccl, but no GPU is visible here. Use gloo, or leave the key out" in problem
    assert machine_problems(alone, nccl, Machine(num_gpus=1, num_cores=1)) == []
    assert machine_problems(alone, ParallelConfig(), Machine(num_gpus=0, num_cores=1)) == []
    assert plan(backend="nccl", asked=2).world_size == 2, "the launcher may not see every kind of GPU"


def test_plan_as_a_line_for_a_shell():
    line = str(plan())
    assert line.startswith("OMP_NUM_THREADS=8 ") and line.endswith("train.py --config 'a folder/resolved.yml'")
