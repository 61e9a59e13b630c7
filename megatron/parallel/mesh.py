"""Which processes do what together: the axes of a layout as process groups. Nothing else makes groups or meshes."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from megatron.config.layout import Layout
from megatron.parallel.process import World

_ORDER = ("pipeline", "replicas", "shards", "context", "tensor")
"""Axes of a layout, that which counts slowest first."""


@dataclasses.dataclass(frozen=True, eq=False)
class Axis:
    """The processes that share something with this one.

    Attributes:
        ranks: their numbers in the world.
        rank: place of this process among them.
        group: what they talk through; None where nobody needs to.
    """

    ranks: tuple[int, ...]
    rank: int
    group: dist.ProcessGroup | None = None

    @property
    def size(self) -> int:
        """How many they are."""
        return len(self.ranks)

    def sum(self, tensor: Tensor) -> Tensor:
        """Add a tensor up over the processes, in place, and return it."""
        if self.size > 1:
            dist.all_reduce(tensor, group=self.group)
        return tensor

    def max(self, tensor: Tensor) -> Tensor:
        """Take the maximum of every element over the processes, in place, and return it."""
        if self.size > 1:
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self.group)
        return tensor

    def gather(self, tensor: Tensor, dim: int) -> Tensor:
        """Return the tensors of all processes, joined along a dimension."""
        parts = tensor.new_empty((self.size, *tensor.shape))
        dist.all_gather_into_tensor(parts.flatten(0, 1), tensor.contiguous(), group=self.group)
        return parts.movedim(0, dim).flatten(dim, dim + 1)

    def scatter_sum(self, tensor: Tensor, dim: int) -> Tensor:
        """Add a tensor up over the processes and return this one's part of it along a dimension."""
        parts = tensor.unflatten(dim, (self.size, -1)).movedim(dim, 0).contiguous()
        mine = torch.empty_like(parts[0])
        dist.reduce_scatter_tensor(mine, parts.flatten(0, 1), group=self.group)
        return mine


class Mesh:
    """The axes of a layout, as seen from one process. Every process must make it, at the same time.

    Args:
        layout: its product is the number of processes.
        world: all processes.

    Attributes:
        layout: as given.
        world: as given.
        data: those that train on other sequences.
        context: those that hold other parts of the same sequences.
        tensor: those that hold other parts of the same matrices.
        pipeline: those that hold other blocks.
        ends: first and last process of the pipeline, which share tied embeddings; only this one in between.
        copies: in stage 0, those that hold the same weights and other text.
        scorers: those that can score other text without each other's help, ``data`` and ``context`` together.
        shard_mesh: over which ``fully_shard`` divides the model; None in stage 0.
        tensor_mesh: over which matrices are divided; None where they are not.
    """

    def __init__(self, layout: Layout, world: World) -> None:
        if layout.processes != world.size:
            raise ValueError(f"the layout is for {layout.processes} processes, but there are {world.size}")
        self.layout, self.world = layout, world
        self._ranks = torch.arange(world.size).view([getattr(layout, name) for name in _ORDER])
        self.data = self._axis("replicas", "shards", talks=False)
        self.scorers = self._axis("replicas", "shards", "context", talks=False)
        self.context = self._axis("context")
        self.tensor = self._axis("tensor")
        self.pipeline = self._axis("pipeline")
        self.copies = self._axis("replicas", "shards", "context", talks=layout.stage == 0)
        self.ends = self._ends()
        self.shard_mesh, self.tensor_mesh = self._meshes()

    def _axis(self, *names: str, talks: bool = True) -> Axis:
        """Return the processes that differ from this one in nothing but their places on some axes."""
        dims = [_ORDER.index(name) for name in names]
        rows = self._ranks.movedim(dims, list(range(-len(dims), 0))).flatten(-len(dims)).flatten(0, -2)
        return self._member_of(rows.tolist(), talks=talks)

    def _ends(self) -> Axis:
        pairs = self._ranks[[0, -1] if self.layout.pipeline > 1 else [0]].flatten(1).t().tolist()
        inner = [[rank] for rank in self._ranks[1:-1].flatten().tolist()]
        return self._member_of([*pairs, *inner])

    def _member_of(self, rows: Sequence[Sequence[int]], *, talks: bool = True) -> Axis:
        """Make a group of each row, in every process, and return that of the row which this process is in."""
        mine = next(row for row in rows if self.world.rank in row)
        group = None
        if talks and len(rows[0]) == self.world.size > 1:
            group = dist.group.WORLD
        elif talks and len(rows[0]) > 1:
            # PyTorch's own default would wait for as long as it likes, and not as long as the run's.
            timeout = datetime.timedelta(minutes=self.world.timeout_minutes)
            groups = [dist.new_group(list(row), timeout=timeout) if len(row) > 1 else None for row in rows]
            group = groups[list(rows).index(mine)]
        return Axis(tuple(mine), list(mine).index(self.world.rank), group)

    def _meshes(self) -> tuple[DeviceMesh | None, DeviceMesh | None]:
        layout = self.layout
        # Processes with other places in the pipeline hold other parameters and belong to other meshes.
        ranks = self._ranks[self.pipeline.rank].flatten(1, 2)
        axes = {"replica": self._axis("replicas"), "shard": self._axis("shards", "context")} if layout.stage else {}
        if layout.replicas == 1:
            axes.pop("replica", None)
        if layout.tensor > 1:
            axes["tensor"] = self.tensor
        if not axes:
            return None, None
        if not layout.stage:
            ranks = torch.tensor(self.tensor.ranks)
        groups = [axis.group for axis in axes.values() if axis.group is not None]
        mesh = DeviceMesh.from_group(
            groups if len(groups) > 1 else groups[0],
            self.world.device.type,
            mesh=ranks.view([axis.size for axis in axes.values()]),
            mesh_dim_names=tuple(axes),
        )
        shard = tuple(name for name in axes if name != "tensor")
        return mesh[shard] if shard else None, mesh["tensor"] if layout.tensor > 1 else None
