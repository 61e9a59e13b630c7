"""Pipeline parallelism: stages of a model in different processes, which micro-batches pass through in turn.

The order of the work is PyTorch's (``torch.distributed.pipelining``): one forward, one backward (Narayanan et al.,
arXiv 2006.09503), interleaved (arXiv 2104.04473) and zero bubble (Qi et al., arXiv 2401.10241).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.pipelining.schedules import (
    PipelineScheduleMulti,
    PipelineScheduleSingle,
    Schedule1F1B,
    ScheduleInterleaved1F1B,
    ScheduleInterleavedZeroBubble,
)

from megatron.config.architecture import Architecture
from megatron.model.attention import Pattern
from megatron.model.llama import Llama
from megatron.model.micro_batch import MicroBatch
from megatron.parallel.mesh import Mesh
from megatron.parallel.pipeline_stage import LeanStage
from megatron.parallel.precision import call_in
from megatron.parallel.row_sums import RowSums

_SCHEDULES: Mapping[str, Any] = MappingProxyType(
    {
        "1f1b": Schedule1F1B,
        "interleaved": ScheduleInterleaved1F1B,
        "zero_bubble": ScheduleInterleavedZeroBubble,
    }
)


def own_stages(mesh: Mesh) -> list[int]:
    """Return the numbers of this process's stages: every so many-th one, from its place in the pipeline on."""
    return list(range(mesh.pipeline.rank, mesh.layout.stages, mesh.pipeline.size))


def take_stage(model: Llama, layers: range, *, first: bool, last: bool) -> None:
    """Take everything away from a model that does not belong to a stage.

    Args:
        model: changed in place, while it is still on the meta device.
        layers: blocks that stay.
        first: whether the embedding stays. With tied embeddings the last stage keeps it as well, as output matrix.
        last: whether the last norm and the output matrix stay.
    """
    for layer in list(model.model.layers):
        if int(layer) not in layers:
            del model.model.layers[layer]
    if not first and not (last and model.lm_head is None):
        model.model.embed_tokens = None
    if not last:
        model.model.norm, model.lm_head = None, None


def joined(stages: Sequence[Llama]) -> Llama:
    """Return a model that holds the parameters of several stages under their names; it is not to be called."""
    if len(stages) == 1:
        return stages[0]
    with torch.device("meta"):
        whole = Llama(stages[0].architecture)
    layers = {name: block for stage in stages for name, block in stage.model.layers.items()}
    whole.model.layers = nn.ModuleDict(layers)
    whole.model.embed_tokens = next((stage.model.embed_tokens for stage in stages if stage.model.embed_tokens), None)
    whole.model.norm, whole.lm_head = stages[-1].model.norm, stages[-1].lm_head
    return whole


class Pipeline:
    """Runs the stages of this process, together with the other processes of the pipeline.

    Args:
        stages: this process's, in the order of :func:`own_stages`.
        mesh: with more than one process on the ``pipeline`` axis.
        dtype: dtype to compute in.
        shape: rows and tokens of a micro-batch in this process.
        micro_batches: how many of them there are in a step.
    """

    def __init__(
        self, stages: Sequence[Llama], mesh: Mesh, *, dtype: torch.dtype, shape: tuple[int, int], micro_batches: int
    ) -> None:
        self._mesh, self._dtype, self._micro_batches = mesh, dtype, micro_batches
        self._patterns: list[Pattern | None] = []
        self._losses: list[Tensor] = []
        self._stages = list(zip(own_stages(mesh), stages, strict=True))
        made = [self._stage(number, model, shape) for number, model in self._stages]
        options = {"n_microbatches": micro_batches, "loss_fn": lambda output, _: output.sum(), "scale_grads": False}
        one = mesh.layout.schedule == "1f1b"
        self._schedule: PipelineScheduleSingle | PipelineScheduleMulti = _SCHEDULES[mesh.layout.schedule](
            made[0] if one else made, **options
        )

    def _stage(self, number: int, model: Llama, shape: tuple[int, int]) -> LeanStage:
        last = number == self._mesh.layout.stages - 1
        if last:
            model.loss = _RowLoss(model.loss)
            model.register_forward_hook(lambda *_: self._keep(model))
        between = _hidden(model.architecture, self._mesh, shape, dtype=self._dtype).requires_grad_()
        ids = torch.empty(shape, dtype=torch.int64, device="meta")
        loss = torch.empty(1, device="meta", requires_grad=True)
        module = model if isinstance(model, FSDPModule) else _InDtype(model, self._dtype)
        # Before fully_shard's own hook, which would move the number to the device, and the host would wait for it.
        module.register_forward_pre_hook(self._with_pattern, with_kwargs=True, prepend=True)
        return LeanStage(
            module,
            number,
            self._mesh.layout.stages,
            self._mesh.world.device,
            input_args=ids if number == 0 else between,
            output_args=loss if last else between,
            group=self._mesh.pipeline.group,
        )

    def _keep(self, model: Llama) -> None:
        if model.losses is not None and torch.is_grad_enabled():  # of training, not of an evaluation
            self._losses.append(model.taken_losses())

    def _with_pattern(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Replace the number of a micro-batch by its pattern: PyTorch hands nothing but tensors to single ones."""
        number = kwargs.pop("number", None)
        return args, kwargs if number is None else {**kwargs, "pattern": self._patterns[int(number)]}

    def train(self, micro_batches: Iterable[MicroBatch]) -> list[RowSums]:
        """Run forward and backward passes; return the sums of each micro-batch."""
        batches = list(micro_batches)
        self._patterns = [batch.pattern for batch in batches]
        device = self._mesh.world.device
        inputs: dict[str, Any] = {
            "targets": torch.cat([batch.targets for batch in batches]),
            "positions": torch.cat([_positions(batch) for batch in batches]),
            "number": torch.arange(len(batches)),
        }
        arguments = [torch.cat([batch.inputs for batch in batches])] if self._mesh.pipeline.rank == 0 else []
        if self._mesh.pipeline.rank == self._mesh.pipeline.size - 1:
            self._schedule.step(*arguments, target=torch.empty(len(batches), device=device), losses=[], **inputs)
        else:
            self._schedule.step(*arguments, **inputs)
        known: Sequence[Tensor | None] = self._losses or [None] * len(batches)
        self._losses = []
        return [RowSums.of(nats, batch) for nats, batch in zip(known, batches, strict=True)]

    @torch.no_grad()
    def score(
        self, inputs: Tensor, targets: Tensor, *, positions: Tensor | None = None, pattern: Pattern | None = None
    ) -> Tensor | None:
        """Return what :meth:`Engine.score` returns, in the last process; None in the others."""
        mesh, stages = self._mesh, self._mesh.layout.stages
        if positions is None:
            positions = torch.arange(inputs.shape[1], device=inputs.device).expand(inputs.shape)
        out: Tensor | None = None
        for number, model in self._stages:
            x = inputs
            if number > 0:
                x = torch.empty_like(
                    _hidden(model.architecture, mesh, tuple(inputs.shape), dtype=self._dtype), device=inputs.device
                )
                dist.recv(x, src=self._neighbour(-1), group=mesh.pipeline.group)
            out = call_in(
                self._dtype, model, x, targets=targets, positions=positions, pattern=pattern, each=True
            )
            if number < stages - 1:
                dist.send(out.contiguous(), dst=self._neighbour(1), group=mesh.pipeline.group)
                out = None
        return out

    def _neighbour(self, step: int) -> int:
        axis = self._mesh.pipeline
        return axis.ranks[(axis.rank + step) % axis.size]


def _positions(batch: MicroBatch) -> Tensor:
    """Return positions even where they only count: a stage in the middle does not see how long the rows are."""
    if batch.positions is not None:
        return batch.positions
    return torch.arange(batch.inputs.shape[1], device=batch.inputs.device).expand(batch.inputs.shape)


def _hidden(architecture: Architecture, mesh: Mesh, shape: tuple[int, ...], *, dtype: torch.dtype) -> Tensor:
    """Return what passes between two stages, on the meta device."""
    rows, width = shape
    width //= mesh.tensor.size if mesh.layout.sequence else 1
    return torch.empty(rows, width, architecture.hidden_size, dtype=dtype, device="meta")


class _RowLoss:
    """Returns a summed loss as a tensor of one element, which PyTorch can join with those of other micro-batches."""

    def __init__(self, loss: Any) -> None:
        self._loss = loss

    def __call__(self, *args: Any, each: bool) -> tuple[Tensor | None, Tensor]:
        loss, losses = self._loss(*args, each=each)
        # No view, which cannot be cut off from its graph: the loss would keep all activations of its micro-batch.
        return None if loss is None else torch.stack([loss]), losses


class _InDtype(nn.Module):
    """A stage that ``fully_shard`` does not handle, called with its weights cast."""

    def __init__(self, model: Llama, dtype: torch.dtype) -> None:
        super().__init__()
        self._model, self._dtype = model, dtype

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return call_in(self._dtype, self._model, *args, **kwargs)
