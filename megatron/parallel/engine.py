"""What a process does with its part of a model, together with the others: passes, sums, scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from megatron.config.layout import Layout
from megatron.model.attention import KeyValueStore, Pattern
from megatron.model.llama import Llama
from megatron.model.micro_batch import MicroBatch
from megatron.parallel.clock import Clock
from megatron.parallel.gradients import gradient_norm, sum_gradients
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.parts import local
from megatron.parallel.pipeline import Pipeline, joined
from megatron.parallel.precision import StepCalls, call_in
from megatron.parallel.process import World
from megatron.parallel.reading import cast, kept_whole, packed
from megatron.parallel.row_sums import RowSums, by_group
from megatron.parallel.sharding import begin_micro_batch, release


class StepSums(NamedTuple):
    """What the forward and backward passes of a step have given.

    Attributes:
        loss: summed over all processes, in nats.
        targets: their number, over all processes.
        micro_losses: of this process's micro-batches, float64 ``[micro-batches]``; empty where another stage of the
            pipeline knows them.
        groups: of each group of rows the summed loss of all processes in nats, and the number of targets.
    """

    loss: float
    targets: int
    micro_losses: Tensor
    groups: list[tuple[float, float]]


class Engine:
    """Runs forward and backward passes, whatever the layout.

    Args:
        stages: what this process holds: the model, or its stages of a pipeline.
        mesh: all processes.
        execution: how they are computed.
        shape: rows and tokens of a micro-batch in this process; needed for a pipeline.
        micro_batches: how many of them there are in a step.

    Attributes:
        model: all parameters of this process, under their names.
        mesh: as given.
        own_seconds: that this process's forward and backward passes have taken since somebody set it to 0.
    """

    def __init__(
        self,
        stages: Sequence[Llama],
        mesh: Mesh,
        *,
        execution: Execution,
        shape: tuple[int, int],
        micro_batches: int,
    ) -> None:
        self.model, self.mesh = joined(stages), mesh
        self._stages, self._execution, self._micro_batches = stages, execution, micro_batches
        self._clock = Clock(mesh.world.device)
        self.own_seconds = 0.0
        self._pipeline: Pipeline | None = None
        if mesh.layout.pipeline > 1:
            self._pipeline = Pipeline(
                stages, mesh, dtype=execution.dtype, shape=shape, micro_batches=micro_batches
            )

    @classmethod
    def alone(cls, model: Llama, *, dtype: torch.dtype = torch.float32) -> Engine:
        """Return the engine of a whole model in one process, with one micro-batch a step."""
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        mesh = Mesh(Layout(), World(rank=0, size=1, device=device))
        return cls([model], mesh, execution=Execution(dtype), shape=(1, 1), micro_batches=1)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those that are trained here."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def add_up_gradients(self, micro_batches: Iterable[MicroBatch], *, num_groups: int = 0) -> StepSums:
        """Run forward and backward passes on a step's micro-batches; gradients are then sums over all processes.

        Args:
            micro_batches: of this process.
            num_groups: how many groups their rows may belong to.
        """
        started = self._clock.now()
        rows = self._train(micro_batches) if self._pipeline is None else self._pipeline.train(micro_batches)
        ended = self._clock.now()
        sum_gradients(self.parameters, self.mesh)
        self._sum_tied_gradient()
        tokens = torch.stack([row.targets.sum() for row in rows]).sum()
        # The same loss is in every process that has a part of the same matrices, the same targets also in every stage.
        tensor = self.mesh.layout.tensor
        known = [row.nats.sum() for row in rows if row.nats is not None]
        micro_losses = torch.stack(known) if known else torch.zeros(0, dtype=torch.float64, device=tokens.device)
        groups = by_group(rows, num_groups, device=tokens.device) / tensor
        both = torch.stack((micro_losses.sum() / tensor, tokens.double() / (tensor * self.mesh.layout.pipeline)))
        loss_sum, num_tokens, *rest = self.mesh.world.sum(torch.cat((both, groups.flatten()))).tolist()
        # The device has done all of it: its answer is here.
        self.own_seconds += self._clock.between(started, ended)
        return StepSums(loss_sum, round(num_tokens), micro_losses, list(zip(rest[::2], rest[1::2], strict=True)))

    def _train(self, micro_batches: Iterable[MicroBatch]) -> list[RowSums]:
        rows = []
        call = StepCalls(self._execution.dtype, self.model)
        for number, batch in enumerate(micro_batches, start=1):
            last = number == self._micro_batches
            begin_micro_batch(self.model, stage=self.mesh.layout.stage, last=last)
            # The loss gets no name: its graph, which would live until the next one has come, holds copies of weights.
            call(
                batch.inputs, last=last, targets=batch.targets, positions=batch.positions, pattern=batch.pattern
            ).backward()
            rows.append(RowSums.of(self.model.taken_losses(), batch))
        return rows

    def _sum_tied_gradient(self) -> None:
        """Add up what the first stage says about tied embeddings and what the last stage says about them."""
        tied = self._tied_weight()
        if tied is not None and tied.grad is not None:
            self.mesh.ends.sum(local(tied.grad))

    def _tied_weight(self) -> nn.Parameter | None:
        """Return the embedding's weight if this process shares it with another end of the pipeline."""
        embedding = self.model.model.embed_tokens
        shared = self.model.architecture.tie_word_embeddings and self.mesh.ends.size > 1
        if not shared or embedding is None:
            return None
        assert isinstance(embedding.weight, nn.Parameter)
        return embedding.weight

    def gradient_norm(self) -> float:
        """Return the L2 norm of the whole gradient; every process must call this."""
        twice = self._tied_weight() if self.mesh.ends.rank > 0 else None
        return gradient_norm([parameter for parameter in self.parameters if parameter is not twice], self.mesh)

    def scale_gradients(self, factor: float) -> None:
        """Multiply every gradient, in place."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        if gradients:
            torch._foreach_mul_([local(gradient) for gradient in gradients], factor)

    @torch.no_grad()
    def score(
        self, inputs: Tensor, targets: Tensor, *, positions: Tensor | None = None, pattern: Pattern | None = None
    ) -> Tensor | None:
        """Return how likely the targets of whole rows are, or None where it is not known: in stages but the last.

        Args:
            inputs: int64 ``[rows, tokens]``; with sequence parallelism tokens are a multiple of ``tensor``.
            targets: as ``inputs``; ``IGNORE`` for none.
            positions: as ``inputs``, where each token counts as standing; by default a row counts from 0.
            pattern: which tokens see which; by default each sees those before it in its row.

        Returns:
            Nats of every position's target, and of the model's likeliest token there, float32 ``[rows, tokens, 2]``.
        """
        with self._eager():
            if self._pipeline is not None:
                return self._pipeline.score(inputs, targets, positions=positions, pattern=pattern)
            return call_in(
                self._execution.dtype,
                self.model,
                inputs,
                targets=targets,
                each=True,
                positions=positions,
                pattern=pattern,
            )

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keep weights ready for many passes without gradients, as long as this lasts; all processes together.

        They take more memory then: with ZeRO every process holds all of them in the dtype to compute in.
        """
        layout, device = self.mesh.layout, self.mesh.world.device
        if layout.stage:
            with kept_whole(self.model, stage=layout.stage):
                # Gathered here by all of them: from now on each may make as many passes as it likes.
                self.logits(*torch.zeros(2, 1, dtype=torch.int64, device=device))
                yield
            return
        with ExitStack() as stack:
            if layout.tensor == 1:
                stack.enter_context(torch.inference_mode())  # less is kept account of in every operation
            stack.enter_context(cast(self.model, self._execution.dtype))
            if layout.tensor == 1 and device.type == "cpu":
                stack.enter_context(packed(self.model))
            yield

    @torch.no_grad()
    def logits(
        self, tokens: Tensor, positions: Tensor, *, cache: KeyValueStore | None = None, at: Tensor | None = None
    ) -> Tensor:
        """Return the logits of one row of tokens, within :meth:`reading`; not with a pipeline.

        Args:
            tokens: int64 ``[tokens]``.
            positions: int64 ``[tokens]``, where each token counts as standing.
            cache: decides which tokens see which; by default each sees those before it.
            at: int64 ``[n]``, the places in the row whose logits are wanted; all by default.

        Returns:
            Float ``[n or tokens, vocabulary]``, the same in all processes that hold parts of the same matrices.
        """
        missing = -len(tokens) % self.mesh.tensor.size if self.mesh.layout.sequence else 0
        if missing:
            at = torch.arange(len(tokens), device=tokens.device) if at is None else at
            tokens, positions = nn.functional.pad(tokens, (0, missing)), nn.functional.pad(positions, (0, missing))
        with self._eager():
            out: Tensor = self.model(tokens.unsqueeze(0), positions=positions.unsqueeze(0), cache=cache, at=at)
        return out[0]

    def _eager(self) -> AbstractContextManager[object]:
        """Do not use compiled code: rows of all lengths come, and it would be compiled anew for each."""
        return torch.compiler.set_stance("force_eager") if self._execution.compiled else nullcontext()

    def settle(self) -> None:
        """Let ``fully_shard`` take note of all parameters before some are frozen; all processes together.

        It decides with the first pass in which dtype gradients are added up, by those that need one then, and would
        never add up the others' in float32.
        """
        if self.mesh.layout.stage:
            tokens = torch.zeros(1, self.mesh.layout.tensor, dtype=torch.int64, device=self.mesh.world.device)
            self.score(tokens, tokens)
            self.release()

    def release(self) -> None:
        """Drop the whole weights that a forward pass without a backward pass has left here."""
        for stage in self._stages:
            release(stage)
