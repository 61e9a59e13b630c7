"""Axes: every process is in one row of each, neighbours are those that send each other most."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from megatron.config.layout import Layout
from megatron.parallel.mesh import Axis, Mesh
from megatron.parallel.process import World

LAYOUT = Layout(1, shards=2, replicas=2, context=2, tensor=2, pipeline=3)
NAMES = ("data", "context", "tensor", "pipeline", "scorers", "ends")


def meshes(layout: Layout) -> Iterator[Mesh]:
    """Yield the mesh of every process, made in one process after the other."""
    for rank in range(layout.processes):
        dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=layout.processes)
        try:
            yield Mesh(layout, World(rank=rank, size=layout.processes, device=torch.device("cpu")))
        finally:
            dist.destroy_process_group()


def test_axes_divide_the_processes() -> None:
    rows: dict[str, set[tuple[int, ...]]] = {name: set() for name in NAMES}
    for rank, mesh in enumerate(meshes(LAYOUT)):
        for name in NAMES:
            axis: Axis = getattr(mesh, name)
            assert axis.ranks[axis.rank] == rank
            rows[name].add(axis.ranks)
    for name, sizes in {"data": 4, "context": 2, "tensor": 2, "pipeline": 3, "scorers": 8}.items():
        assert {len(row) for row in rows[name]} == {sizes}
        assert sorted(rank for row in rows[name] for rank in row) == list(range(48))
    assert (0, 1) in rows["tensor"] and (0, 2) in rows["context"] and (0, 16, 32) in rows["pipeline"]
    assert (0, 32) in rows["ends"] and (16,) in rows["ends"]


def test_meshes_hold_what_divides_the_model() -> None:
    for rank, mesh in enumerate(meshes(LAYOUT)):
        assert mesh.shard_mesh is not None and mesh.tensor_mesh is not None
        assert mesh.shard_mesh.mesh_dim_names == ("replica", "shard") and mesh.shard_mesh.shape == (2, 4)
        # The 4 that divide a copy: both data-parallel neighbours, and both parts of each sequence.
        row = mesh.shard_mesh.mesh[mesh.shard_mesh.get_local_rank("replica")].tolist()
        assert rank in row and {member // 16 for member in row} == {rank // 16}
        assert {member % 2 for member in row} == {rank % 2}


def test_without_zero_there_is_no_shard_mesh() -> None:
    for mesh in meshes(Layout(replicas=2, tensor=2)):
        assert mesh.shard_mesh is None and mesh.tensor_mesh is not None and mesh.copies.group is not None


def test_a_layout_for_other_processes_is_refused() -> None:
    with pytest.raises(ValueError, match="for 2 processes, but there are 1"):
        Mesh(Layout(replicas=2), World(rank=0, size=1, device=torch.device("cpu")))
