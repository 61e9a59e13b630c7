from __future__ import annotations

from pathlib import Path

import pytest

from megatron.config.schema import LaunchConfig, ParallelConfig
from megatron.launch.hosts import read_hosts
from megatron.launch.mpi import plan_mpi, slots_per_host
from megatron.launch.plan import Machine, Program
from megatron.launch.ssh import plan_ssh

PROGRAM = Program(Path("/a/train.py"), Path("/runs/x y/resolved.yml"))


@pytest.fixture
def hostfile(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    path.write_text("# the cluster\nn1 slots=4\nn2   slots = 4  # the new one\n\nn3 slots=2\n")
    return path


def test_lines(hostfile: Path) -> None:
    assert read_hosts(hostfile) == {"n1": [0, 1, 2, 3], "n2": [0, 1, 2, 3], "n3": [0, 1]}


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ("n2", None, {"n2": [0, 1, 2, 3]}),
        ("n3@n1:0,2", None, {"n1": [0, 2], "n3": [0, 1]}),
        (None, "n3", {"n1": [0, 1, 2, 3], "n2": [0, 1, 2, 3]}),
        (None, "n3:1@n1:0,1,2,3", {"n2": [0, 1, 2, 3], "n3": [0]}),
    ],
)
def test_include_and_exclude(
    hostfile: Path, include: str | None, exclude: str | None, expected: dict[str, list[int]]
) -> None:
    assert read_hosts(hostfile, include=include, exclude=exclude) == expected


@pytest.mark.parametrize(
    ("text", "include", "exclude", "problem"),
    [
        ("n1\nn2 slots=x\n", None, None, r"hosts:1: 'n1' is no `name slots=8`\n.*hosts:2: 'n2 slots=x'"),
        ("n1 slots=1\nn1 slots=2", None, None, "hosts:2: n1 is named twice"),
        ("-oProxyCommand=x slots=1", None, None, "is no `name slots=8`"),
        ("# nothing", None, None, "names no machine"),
        ("n1 slots=1", "n2", None, "include names 'n2', which is not in the hostfile"),
        ("n1 slots=1", "n1:1", None, "n1 has no slot 1"),
        ("n1 slots=1", "n1:a", None, "n1 has no slot 'a'"),
        ("n1 slots=1", None, "n1", "leave no machine"),
        ("n1 slots=1", "n1", "n1", "include and exclude are given together"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, include: str | None, exclude: str | None, problem: str) -> None:
    (tmp_path / "hosts").write_text(text)
    with pytest.raises(ValueError, match=problem):
        read_hosts(tmp_path / "hosts", include=include, exclude=exclude)


def test_an_absent_hostfile(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        read_hosts(tmp_path / "absent")


def test_every_machine_runs_as_many_processes(hostfile: Path) -> None:
    hosts = read_hosts(hostfile)
    with pytest.raises(ValueError, match="n3 has 2 slots and n1 has 4, but every machine"):
        slots_per_host(hosts, LaunchConfig())
    assert slots_per_host(hosts, LaunchConfig(num_gpus=2)) == 2
    with pytest.raises(ValueError, match="num_gpus = 3 exceeds the 2 slots of n3"):
        slots_per_host(hosts, LaunchConfig(num_gpus=3))


def test_ssh_starts_an_agent_on_each_machine(hostfile: Path) -> None:
    hosts = read_hosts(hostfile, include="n1@n2:2,3", exclude=None)
    plans = plan_ssh(
        LaunchConfig(num_gpus=2, launcher_args=("-p", "22"), max_restarts=1, environment={"OURS": "x"}),
        ParallelConfig(), PROGRAM, hosts=hosts,
        working_directory=Path("/a dir"),
        environment={"PATH": "/bin:/x y", "SECRET": "no", "NCCL_DEBUG": "INFO", "OURS": "by the user"},
    )  # fmt: skip
    assert list(plans) == ["n1", "n2"] and plans["n1"].world_size == 4
    first, second = (plan.command for plan in plans.values())
    assert first[:7] == ["ssh", "-tt", "-o", "BatchMode=yes", "-p", "22", "n1"]
    assert first[7].startswith("cd '/a dir' && exec env 'PATH=/bin:/x y' NCCL_DEBUG=INFO")
    assert "SECRET" not in first[7] and "'OURS=by the user'" in first[7]
    assert "--nnodes 2 --nproc-per-node 2 --local-addr n1" in first[7] and "is_host=1 --max-restarts 1" in first[7]
    assert "is_host=0" in second[7] and "CUDA_VISIBLE_DEVICES=2,3" in second[7]
    assert first[7].endswith("/a/train.py --config '/runs/x y/resolved.yml'")


@pytest.mark.parametrize("flavour", ["Open MPI", "MPICH"])
def test_mpirun(hostfile: Path, flavour: str) -> None:
    def planned(hosts: dict[str, list[int]] | None, **launch: object) -> list[str]:
        return plan_mpi(
            LaunchConfig(**launch), ParallelConfig(), PROGRAM, flavour=flavour, hosts=hosts,  # type: ignore[arg-type]
            machine=Machine(num_gpus=0, num_cores=8), environment={},
        ).command  # fmt: skip

    here = planned(None, num_gpus=4)
    assert here[:3] == ["mpirun", "-n", "4"]
    open_mpi = flavour == "Open MPI"
    assert " ".join(here).count("OMP_NUM_THREADS=2" if open_mpi else "OMP_NUM_THREADS 2") == 1
    there = " ".join(planned(read_hosts(hostfile, exclude="n3"), launcher_args=("--verbose",)))
    assert "mpirun -n 8" in there and "--verbose" in there
    assert ("--host n1:4,n2:4 --map-by ppr:4:node" if open_mpi else "-hosts n1,n2 -ppn 4") in there
    assert ("-x MASTER_ADDR=n1" if open_mpi else "-genv MASTER_ADDR n1") in there
    with pytest.raises(ValueError, match="max_restarts is torchrun's"):
        planned(None, max_restarts=1)
    with pytest.raises(ValueError, match="leave other slots of n2 than its first ones"):
        planned(read_hosts(hostfile, include="n1@n2:2,3"), num_gpus=2)
