from __future__ import annotations

import pytest

from megatron.launch.tasks import first_node, launched_tasks, this_task


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"OMPI_COMM_WORLD_SIZE": "3"}, 3),
        ({"PMI_SIZE": "4"}, 4),
        ({"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "16", "SLURM_NTASKS": "32"}, 16),
        ({"SLURM_STEP_ID": "0", "SLURM_NTASKS": "32"}, 32),
        ({"SLURM_NTASKS": "32"}, None),  # in an allocation, but not started by srun
        ({"PMI_SIZE": "many"}, None),
    ],
)
def test_launchers(environment: dict[str, str], expected: int | None) -> None:
    assert launched_tasks(environment) == expected


STEP = {
    "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1",
}  # fmt: skip
ABSENT = "no-such-node.invalid"
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}
MPICH = {"PMI_SIZE": "4", "PMI_RANK": "1", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "4"}


@pytest.mark.parametrize(
    ("environment", "place", "host"),
    [
        ({}, (0, 1, 0), None),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, (5, 8, 1), None),
        ({**STEP, "SLURM_STEP_NODELIST": "localhost"}, (3, 4, 1), "localhost"),
        ({**STEP, "SLURM_STEP_NODELIST": ABSENT, "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1"}, (3, 4, 1), "10.0.0.1"),
        ({**STEP, "PMI_SIZE": "4", "PMI_RANK": "3", "MASTER_ADDR": "n1"}, (3, 4, 1), "n1"),  # srun --mpi=pmi2
        ({**STEP, "MASTER_ADDR": "n1"}, (3, 4, 1), "n1"),
        ({**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, (2, 4, 0), "127.0.0.1"),
        ({**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "MASTER_ADDR": "n1"}, (2, 4, 0), "n1"),
        (MPICH, (1, 4, 1), "127.0.0.1"),
        # mpirun inside an allocation: the job's own variables are those of the batch step.
        ({**STEP, **OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "4", "SLURM_STEP_NUM_TASKS": "1"}, (2, 4, 0), "127.0.0.1"),
    ],
)  # fmt: skip
def test_places(environment: dict[str, str], place: tuple[int, int, int], host: str | None) -> None:
    task = this_task(environment)
    assert (task.rank, task.size, task.local_rank) == place
    assert (None if task.address is None else task.address.rpartition(":")[0]) == host
    if task.address is not None:
        assert 10_000 <= int(task.address.rpartition(":")[2]) < 30_000


def test_two_jobs_on_a_machine_meet_elsewhere() -> None:
    ports = {this_task({**STEP, "MASTER_ADDR": "n", "SLURM_JOB_ID": str(job)}).address for job in range(50)}
    assert len(ports) >= 49
    assert this_task({**STEP, "MASTER_ADDR": "n", "MASTER_PORT": "29500"}).address == "n:29500"


def test_several_machines_without_a_first_one() -> None:
    with pytest.raises(ValueError, match="MASTER_ADDR does not say where the first one is"):
        this_task({**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "2"})


def test_a_launcher_that_tells_no_local_rank() -> None:
    with pytest.raises(ValueError, match=r"4 processes were started, but PMI_RANK, MPI_LOCALRANKID.* do not say"):
        this_task({"PMI_SIZE": "4", "PMI_RANK": "1", "MASTER_ADDR": "n"})
    assert this_task({"PMI_SIZE": "4", "PMI_RANK": "1", "PALS_LOCAL_RANKID": "3", "MASTER_ADDR": "n"}).local_rank == 3


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("lrdn[0012-0020,0031],login1", "lrdn0012"), ("node7", "node7"), ("a,b", "a"), ("n[3]", "n3"),
        ("rack[1-2]-n[3-4]", "rack1-n3"), ("nid[001,004]-hsn", "nid001-hsn"), ("", None),
    ],
)  # fmt: skip
def test_first_node(nodes: str, first: str | None) -> None:
    assert first_node(nodes) == first
