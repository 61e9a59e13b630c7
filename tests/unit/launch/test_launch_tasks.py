from __future__ import annotations

import pytest

from megatron.launch.tasks import launched_tasks


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
