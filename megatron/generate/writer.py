"""Writes many texts at once with a model, whatever the layout that divides it."""

from __future__ import annotations

import dataclasses
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from megatron.generate.cache import KeyValueCache
from megatron.generate.options import GenerationOptions, Written
from megatron.generate.sampling import Sampling, choose
from megatron.generate.stops import StopWatch, added_text, before_stop
from megatron.parallel.engine import Engine
from megatron.parallel.mesh import Mesh
from megatron.tokenizer.base import Tokenizer
from megatron.utils.log import counter, get_logger

logger = get_logger(__name__)

_PASS_TOKENS = 4096
"""Most tokens of prompts in a pass, where there is more than one: the memory that it needs grows with them."""

_REASONS = ("end", "stop", "length")


class Continuation(NamedTuple):
    """What a model wrote after a prompt, as ids.

    Attributes:
        tokens: the new ids, without the one that ended the text, with those of a string that did.
        stop_reason: as in :class:`Written`.
    """

    tokens: list[int]
    stop_reason: str


@dataclasses.dataclass
class _Text:
    """A text that is being written.

    Attributes:
        index: its place among the prompts.
        prompt: ids, with the one that begins a text.
        chance: where its random numbers come from; None for greedy choices.
        watch: looks for strings that end it, if there are any.
        new: ids so far.
        reason: why it has ended; empty as long as it has not.
    """

    index: int
    prompt: list[int]
    chance: random.Random | None
    watch: StopWatch | None
    new: list[int] = dataclasses.field(default_factory=list)
    reason: str = ""

    def add(self, token: int, *, end_ids: frozenset[int], maximum_tokens: int) -> None:
        """Take the token that was chosen, and see whether it is the last."""
        if token in end_ids:
            self.reason = "end"
            return
        self.new.append(token)
        if self.watch is not None and self.watch.found(token):
            self.reason = "stop"
        elif len(self.new) == maximum_tokens:
            self.reason = "length"


class TextWriter:
    """Continues prompts of any lengths, many at a time, with a model in one process or in many.

    A text that has ended makes room for the next prompt at once: what is waiting is read in the same pass that writes
    one more token of every other text. Processes that hold the same weights and train on different sequences write
    different texts; all of them return all texts.

    A text depends on its prompt and its seed, and not on what is written beside it; except that sums are rounded
    otherwise in other company, which shows only where two tokens are equally likely as far as the dtype can tell.

    Args:
        engine: computes; every process of its layout has a writer and calls the same methods with the same arguments.
        tokenizer: turns ids into text.
        first_id: begins every text.
        end_ids: end a text.
        batch_size: most texts that one process writes at a time.

    Raises:
        ValueError: the layout has a pipeline or divides sequences, or the batch size is not positive.
    """

    def __init__(
        self, engine: Engine, tokenizer: Tokenizer, *, first_id: int, end_ids: Sequence[int], batch_size: int = 16
    ) -> None:
        layout, problems = engine.mesh.layout, []
        if layout.pipeline > 1:
            problems.append(
                f"pipe_parallel_size = {layout.pipeline}: a pipeline does not write text; convert the checkpoint, or "
                "divide the model by model_parallel_size or zero_optimization"
            )
        if layout.context > 1:
            problems.append(
                f"context_parallel_size = {layout.context}: text is written token by token, which is nothing to divide "
                "sequences for; use another layout"
            )
        if batch_size < 1:
            problems.append(f"batch_size = {batch_size} must be at least 1")
        if problems:
            raise ValueError("; ".join(problems))
        self._engine, self._tokenizer = engine, tokenizer
        self._first_id, self._end_ids, self._batch_size = first_id, frozenset(end_ids), batch_size

    def write(
        self, prompts: Sequence[Sequence[int]], options: GenerationOptions, *, show_progress: bool = False
    ) -> list[Written]:
        """Continue every prompt; the texts come back in the order of the prompts.

        Args:
            prompts: ids, without the one that begins a text; may be empty.
            options: how to write.
            show_progress: whether the main process shows how far it is, and how fast.

        Raises:
            ValueError: a prompt and its new tokens are more than the model has positions for.
        """
        written = []
        for prompt, (new, reason) in zip(
            prompts, self.write_ids(prompts, options, show_progress=show_progress), strict=True
        ):
            text = added_text(self._tokenizer, prompt, new)
            cut = before_stop(text, options.stop)
            written.append(Written(text, len(new), reason) if cut is None else Written(cut, len(new), "stop"))
        return written

    def write_ids(
        self, prompts: Sequence[Sequence[int]], options: GenerationOptions, *, show_progress: bool = False
    ) -> list[Continuation]:
        """Do what :meth:`write` does, and return ids."""
        self._check(prompts, options)
        mesh = self._engine.mesh
        # The longest first: texts of like lengths are written together, and memory runs out at once or never.
        order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
        mine = [self._begun(index, prompts[index], options) for index in order[mesh.data.rank :: mesh.data.size]]
        shown = show_progress and mesh.world.is_main
        started, num_tokens = time.perf_counter(), 0
        with self._engine.reading(), counter(len(mine), description="writing", unit="text", disable=not shown) as bar:
            for text in self._write_all(deque(mine), options):
                num_tokens += len(text.new)
                bar(1, f"{num_tokens / (time.perf_counter() - started):,.0f} tokens/s")
        everything = _exchanged(mine, len(prompts), mesh)
        if shown:
            seconds, total = time.perf_counter() - started, sum(len(new) for new, _ in everything)
            rate = f"{total / seconds:,.0f} tokens/s"
            logger.info("%d texts, %s tokens in %.1f s: %s", len(prompts), f"{total:,}", seconds, rate)
        return everything

    def _check(self, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> None:
        positions = self._engine.model.model.rotation_cos.shape[0]
        room = positions - 1 - options.maximum_tokens
        long = [index for index, prompt in enumerate(prompts) if len(prompt) > room]
        if long:
            worst = max(long, key=lambda index: len(prompts[index]))
            raise ValueError(
                f"{len(long)} of {len(prompts)} prompts are too long, the longest is prompt {worst}: the id that "
                f"begins a text, its {len(prompts[worst])} tokens and {options.maximum_tokens} new ones must be at "
                f"most {positions} positions, the model's max_position_embeddings; shorten the prompts or "
                "maximum_tokens"
            )

    def _begun(self, index: int, prompt: Sequence[int], options: GenerationOptions) -> _Text:
        chance = random.Random(options.seed + index) if options.sampling.is_random else None
        watch = StopWatch(self._tokenizer, prompt, options.stop) if options.stop else None
        return _Text(index, [self._first_id, *prompt], chance, watch)

    def _write_all(self, waiting: deque[_Text], options: GenerationOptions) -> Iterator[_Text]:
        """Write all texts; yield each when it has ended."""
        cache = KeyValueCache(min(self._batch_size, len(waiting)))
        active: list[_Text] = []
        while waiting or active:
            joining = self._joining(waiting, free=self._batch_size - len(active))
            logits = self._pass(cache, active, joining)
            active += joining
            # The only time in a pass that anything waits for the device.
            for text, token in zip(active, self._chosen(logits, active, options.sampling), strict=True):
                text.add(token, end_ids=self._end_ids, maximum_tokens=options.maximum_tokens)
            # From the last to the first: what takes the place of one that has ended goes on.
            for place in range(len(active) - 1, -1, -1):
                if active[place].reason:
                    yield active[place]
                    cache.drop(place)
                    active[place] = active[-1]
                    active.pop()

    def _joining(self, waiting: deque[_Text], *, free: int) -> list[_Text]:
        """Take the next prompts for so many free places, but not too many tokens at once."""
        joining: list[_Text] = []
        tokens = 0
        while waiting and len(joining) < free:
            tokens += len(waiting[0].prompt)
            if joining and tokens > _PASS_TOKENS:
                break
            joining.append(waiting.popleft())
        return joining

    def _pass(self, cache: KeyValueCache, active: list[_Text], joining: list[_Text]) -> Tensor:
        """Read a token of each active text and the joining ones' prompts; return logits ``[texts, vocabulary]``."""
        device = self._engine.mesh.world.device
        tokens = [text.new[-1] for text in active]
        wanted = [*range(len(active))]
        for text in joining:
            tokens += text.prompt
            wanted.append(len(tokens) - 1)
        positions = cache.begin([len(text.prompt) for text in joining], device=device)
        at = torch.tensor(wanted, device=device) if joining else None
        return self._engine.logits(torch.tensor(tokens, device=device), positions, cache=cache, at=at)

    @staticmethod
    def _chosen(logits: Tensor, texts: Sequence[_Text], sampling: Sampling) -> list[int]:
        """Choose the next token of each text."""
        if not sampling.is_random:
            return choose(logits, sampling).tolist()
        chances = [text.chance.random() for text in texts if text.chance is not None]
        uniform = torch.tensor(chances, dtype=torch.float64, device=logits.device)
        return choose(logits, sampling, uniform=uniform).tolist()


def _exchanged(mine: Sequence[_Text], count: int, mesh: Mesh) -> list[Continuation]:
    """Return what all processes have written, in the order of the prompts, in every process.

    Two sums of whole numbers over all processes: first the lengths, which say where each text's ids go, then the ids.
    """
    table = torch.zeros(count, 2, dtype=torch.int64)
    # Processes that divide matrices write the same texts.
    writes = mesh.tensor.rank == 0
    for text in mine if writes else ():
        table[text.index] = torch.tensor([len(text.new), _REASONS.index(text.reason)])
    lengths, reasons = mesh.world.sum(table.to(mesh.world.device)).cpu().unbind(1)
    ends = lengths.cumsum(0)
    ids = torch.zeros(int(ends[-1]) if count else 0, dtype=torch.int64)
    for text in mine if writes else ():
        end = int(ends[text.index])
        ids[end - len(text.new) : end] = torch.tensor(text.new, dtype=torch.int64)
    ids = mesh.world.sum(ids.to(mesh.world.device)).cpu()
    pieces = [piece.tolist() for piece in ids.split(lengths.tolist())] if count else []
    return [Continuation(piece, _REASONS[reason]) for piece, reason in zip(pieces, reasons.tolist(), strict=True)]
