"""All that decides what a run takes: the model, the layout, and how a step is cut."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Mapping

from megatron.config.architecture import Architecture
from megatron.config.derive import derive_batch, expected_architecture, known_vocab_size
from megatron.config.layout import Layout, pipeline_problems, shape_problems, stage_layers
from megatron.config.recomputation import Mode, Recomputation, mode_of
from megatron.config.schema import Config


@dataclasses.dataclass(frozen=True)
class Run:
    """A run as the simulator sees it.

    Attributes:
        shape: the model.
        layout: how the processes divide it.
        seq_length: tokens of a sequence.
        micro_size: sequences that one process computes at a time.
        accumulation_steps: micro-batches per step.
        train_iters: steps.
        element_bytes: of what is computed: 2 in bfloat16, 4 in float32.
        recompute: the mode of all blocks, or of each.
        compiled: whether blocks are compiled.
        float8: how matrices are multiplied in 8 bits, or None; only which layouts go with it is known, not its speed.
    """

    shape: Architecture
    layout: Layout
    seq_length: int
    micro_size: int
    accumulation_steps: int
    train_iters: int
    element_bytes: int = 2
    recompute: Recomputation = None
    compiled: bool = False
    float8: str | None = None

    @classmethod
    def of(cls, config: Config, *, processes: int, vocab_size: int | None = None) -> Run:
        """Return what a configuration makes of so many processes; recomputation as in :meth:`undivided`.

        Args:
            config: the run.
            processes: of it.
            vocab_size: entries of the tokenizer, as far as they are known; as the manifest tells when absent.

        Raises:
            ValueError: the layout does not fit the processes, the model or the batch; each line is one problem.
        """
        run = cls.undivided(config, processes=processes, vocab_size=vocab_size)
        problems = list(shape_problems(config.parallel, run.shape, seq_length=run.seq_length))
        layout = Layout.of(config.parallel, processes=processes)
        batch = derive_batch(config.batch, data_parallel_size=layout.data)
        problems += pipeline_problems(config.parallel, accumulation_steps=batch.accumulation_steps)
        if problems:
            raise ValueError("\n".join(problems))
        return dataclasses.replace(
            run, layout=layout, micro_size=batch.micro_size, accumulation_steps=batch.accumulation_steps
        )

    @classmethod
    def undivided(cls, config: Config, *, processes: int, vocab_size: int | None = None) -> Run:
        """Return a run in which every process holds the whole model, with one sequence in each.

        What a budget lets blocks recompute depends on the layout, so it is left at None:
        :func:`megatron.simulate.budget.planned_run` chooses it. Arguments are those of :meth:`of`.

        Raises:
            ValueError: the shape of the model is not known, or not possible.
        """
        train = config.train
        mode = train.checkpoint_mode if train.checkpoint_activations else None
        return cls(
            shape=expected_architecture(config.model, vocab_size=vocab_size or known_vocab_size(config)),
            layout=Layout(replicas=processes),
            seq_length=config.data.seq_length,
            micro_size=1,
            accumulation_steps=1,
            train_iters=train.train_iters,
            element_bytes=2 if train.precision == "bfloat16" else 4,
            recompute=None if mode == "budget" else mode,
            compiled=train.compile,
            float8=train.fp8,
        )

    @property
    def tokens(self) -> int:
        """Tokens of a micro-batch in one process."""
        return self.micro_size * self.seq_length // self.layout.context

    @property
    def step_tokens(self) -> int:
        """Tokens of a step, in all processes."""
        return self.micro_size * self.accumulation_steps * self.layout.data * self.seq_length

    @property
    def pieces(self) -> int:
        """Processes that divide every parameter among them; 1 in stage 0."""
        return self.layout.shards * self.layout.context if self.layout.stage else 1

    @property
    def vocabulary_elements(self) -> int:
        """Elements of a process's part of the embedding, or of the output matrix."""
        return self.shape.vocab_size // self.layout.tensor * self.shape.hidden_size

    def blocks(self, position: int) -> tuple[int, ...]:
        """Return how many blocks each stage has that a process at this place of the pipeline holds."""
        return tuple(map(len, self.layers(position)))

    def modes(self, position: int) -> tuple[tuple[Mode, ...], ...]:
        """Return the mode of recomputation of every block of each of these stages."""
        return tuple(tuple(mode_of(self.recompute, layer) for layer in layers) for layers in self.layers(position))

    def mode_counts(self, position: int) -> Mapping[Mode, int]:
        """Return how many blocks here have which mode."""
        if not isinstance(self.recompute, tuple):
            return {self.recompute: sum(self.blocks(position))}
        return Counter(itertools.chain.from_iterable(self.modes(position)))

    def recomputed_blocks(self, position: int) -> int:
        """Return how many blocks here compute anything again."""
        return sum(count for mode, count in self.mode_counts(position).items() if mode is not None)

    def layers(self, position: int) -> tuple[range, ...]:
        """Return the numbers of the layers of each stage that a process at this place of the pipeline holds."""
        return _stage_layers(self.shape, self.layout.stages, self.seq_length)[position :: self.layout.pipeline]

    def is_first(self, position: int) -> bool:
        """Whether the embedding is here."""
        return position == 0

    def is_last(self, position: int) -> bool:
        """Whether the last norm, the output matrix and the loss are here."""
        return position == self.layout.pipeline - 1


@functools.lru_cache(maxsize=1024)
def _stage_layers(shape: Architecture, stages: int, seq_length: int) -> tuple[range, ...]:
    return tuple(stage_layers(shape, stages=stages, seq_length=seq_length))
