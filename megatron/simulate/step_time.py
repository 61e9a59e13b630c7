"""How long a step takes: the work of the slowest process, its waits, and the messages that hide behind neither.

An estimate. Arithmetic runs at a share of the peak (:mod:`megatron.simulate.hardware`), elementwise work at the speed
of memory. Messages of ZeRO overlap with the pass that they belong to; those of the tensor, context and pipeline axes,
and the sums of stage 0, do not.
"""

from __future__ import annotations

import dataclasses

from megatron.simulate.hardware import HOP_SECONDS, LINK_REACHED, MEMORY_REACHED, MESSAGE_SECONDS, Gpu
from megatron.simulate.parts import held
from megatron.simulate.pipeline import waits
from megatron.simulate.run import Run
from megatron.simulate.traffic import Messages, Traffic, traffic_of
from megatron.simulate.work import model_flops_per_token, work_of


@dataclasses.dataclass(frozen=True)
class StepTime:
    """Seconds of a step, and what follows from them.

    Attributes:
        seconds: of the whole step.
        compute: of the slowest process's own work, the optimizer's included.
        waiting: of the pipeline.
        exposed: of messages that hide behind no work.
        tokens_per_second: of all processes.
        mfu: share of the peak that the model's own operations use.
    """

    seconds: float
    compute: float
    waiting: float
    exposed: float
    tokens_per_second: float
    mfu: float


def step_time(run: Run, gpu: Gpu, *, per_node: int | None = None) -> StepTime:
    """Reckon a step on accelerators of one type.

    Args:
        run: the run.
        gpu: the type.
        per_node: accelerators in a node; those of the type's usual nodes when absent.
    """
    links = _Links(gpu, per_node or gpu.per_node)
    parts = [_position_time(run, gpu, links, position) for position in range(run.layout.pipeline)]
    busy = max(part.busy for part in parts)
    exposed = max(part.exposed for part in parts)
    update = max(part.update for part in parts)
    # A wait is a micro-batch long, with the messages within it.
    waiting = waits(run.layout) * (busy + exposed) / run.accumulation_steps
    at_end = max(part.at_end for part in parts)
    seconds = busy + waiting + exposed + at_end + update
    rate = run.step_tokens / seconds
    mfu = rate * model_flops_per_token(run) / (peak_of(run, gpu) * run.layout.processes)
    return StepTime(seconds, busy + update, waiting, exposed + at_end, rate, mfu)


def peak_of(run: Run, gpu: Gpu) -> float:
    """Return the peak in the dtype of a run, FLOP/s."""
    return gpu.peak_flops if run.element_bytes == 2 else gpu.fp32_peak_flops


@dataclasses.dataclass(frozen=True)
class _PositionTime:
    busy: float
    exposed: float
    at_end: float
    update: float


def _position_time(run: Run, gpu: Gpu, links: _Links, position: int) -> _PositionTime:
    work, traffic = work_of(run, position=position), traffic_of(run, position=position)
    memory, arithmetic = gpu.memory_bandwidth * MEMORY_REACHED, peak_of(run, gpu) * gpu.reached
    moved = work.moved_bytes / memory
    forward, backward = work.forward_flops / arithmetic + moved / 3, work.backward_flops / arithmetic + moved * 2 / 3
    layout, steps = run.layout, run.accumulation_steps
    exposed = links.seconds(traffic.tensor, stride=1, size=layout.tensor)
    exposed += links.seconds(traffic.context, stride=layout.tensor, size=layout.context)
    neighbour = layout.processes // layout.pipeline
    exposed += links.seconds(traffic.pipeline, stride=neighbour, size=layout.pipeline)
    return _PositionTime(
        busy=steps * (forward + backward),
        exposed=exposed,
        at_end=_data_exposed(run, links, traffic, position, forward, backward)
        + links.seconds(traffic.ends, stride=neighbour * (layout.pipeline - 1), size=2),
        update=work.update_bytes / memory,
    )


def _data_exposed(
    run: Run, links: _Links, traffic: Traffic, position: int, forward: float, backward: float
) -> float:
    """Return the seconds per step that messages of the data axes take beyond the passes that they overlap with."""
    layout, steps = run.layout, run.accumulation_steps
    sums = links.seconds(
        traffic.sums,
        stride=layout.tensor if layout.stage == 0 else layout.tensor * layout.context * layout.shards,
        size=layout.data * layout.context if layout.stage == 0 else layout.replicas,
    )
    if layout.stage == 0:
        return sums
    gathers = links.seconds(traffic.gathers, stride=layout.tensor, size=run.pieces)
    scatters = links.seconds(traffic.scatters, stride=layout.tensor, size=run.pieces)
    # The first gathering and the last scattering have nothing to hide behind.
    edge = 1 / held(run, position).groups

    def beyond(messages: float, work: float) -> float:
        return max(messages * edge, messages - work)

    if layout.pipeline > 1:  # PyTorch's schedules reduce after the last pass
        return beyond(gathers, forward) + scatters + sums
    if layout.stage == 1:
        return beyond(gathers, forward) + beyond(scatters + sums, backward)
    scatter, gather = scatters / steps, gathers / (2 * steps)
    if layout.stage == 2:
        return (
            beyond(gathers, forward) + (steps - 1) * beyond(scatter, backward) + beyond(scatter + sums, backward)
        )
    both = gather + scatter
    return steps * beyond(gather, forward) + (steps - 1) * beyond(both, backward) + beyond(both + sums, backward)


@dataclasses.dataclass(frozen=True)
class _Links:
    gpu: Gpu
    per_node: int

    def seconds(self, messages: Messages, *, stride: int, size: int) -> float:
        """Return how long messages take among ``size`` processes whose numbers are ``stride`` apart."""
        if not messages.count:
            return 0.0
        bandwidth = self.gpu.inside_bandwidth
        if size * stride > self.per_node:
            # A ring leaves each node once, and all network ports of the members that are there carry it.
            here = max(1, min(size, self.per_node // stride))
            bandwidth = min(bandwidth, self.gpu.between_bandwidth * here)
        delay = MESSAGE_SECONDS + HOP_SECONDS * size
        return messages.bytes / (bandwidth * LINK_REACHED) + messages.count * delay
