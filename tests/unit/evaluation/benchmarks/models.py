"""Models whose answers are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from megatron.evaluation.language_model import Likelihood, Request
from megatron.generate.options import GenerationOptions, Written
from megatron.model.llama import Llama
from megatron.tokenizer.base import Ids, Tokenizer


class ByteTokenizer:
    """One id for each byte of a text."""

    kind, fingerprint, vocab_size, eod_id, bos_id, unk_id = "bytes", "0", 258, 257, 256, None

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8"))

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        return [np.array(self.encode(text), dtype=np.int32) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(id for id in ids if id < 256).decode("utf-8", errors="replace")


class Uniform:
    """Finds all tokens equally likely, and writes what it is told to; keeps what it was asked."""

    def __init__(
        self,
        *,
        tokenizer: Tokenizer | None = None,
        max_tokens: int = 10_000,
        writes: Callable[[str], str] = lambda prompt: " x",
        is_main: bool = True,
    ) -> None:
        self.tokenizer = tokenizer if tokenizer is not None else ByteTokenizer()  # type: ignore[assignment]
        self.max_tokens, self.is_main, self._writes = max_tokens, is_main, writes
        self.prompts: list[str] = []
        self.requests: list[Request] = []
        self.options: list[GenerationOptions] = []

    def likelihoods(self, requests: Sequence[Request]) -> list[Likelihood]:
        assert all(request.continuation for request in requests)
        assert all(len(r.context) + len(r.continuation) + 1 <= self.max_tokens for r in requests)
        self.requests += requests
        return [Likelihood(self.nats(request), False) for request in requests]

    def nats(self, request: Request) -> float:
        return len(request.continuation) * math.log(self.tokenizer.vocab_size)

    def write(self, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> list[Written]:
        assert all(len(ids) + 1 + options.maximum_tokens <= self.max_tokens for ids in prompts)
        texts = [self.tokenizer.decode(ids) for ids in prompts]
        self.prompts += texts
        self.options.append(options)
        return [Written(self._writes(text), 1, "stop") for text in texts]


class Prefers(Uniform):
    """Finds continuations that end in a text likely."""

    def __init__(self, wanted: Callable[[str], str], **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._wanted = wanted

    def nats(self, request: Request) -> float:
        prompt, text = self.tokenizer.decode(request.context), self.tokenizer.decode(request.continuation)
        return 0.5 if text.endswith(self._wanted(prompt + text)) else super().nats(request)


class Real:
    """A small Llama with random weights, one text at a time."""

    is_main = True

    def __init__(self, model: Llama, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.max_tokens = int(model.model.rotation_cos.shape[0])

    @torch.inference_mode()
    def log_probabilities(self, ids: Sequence[int]) -> torch.Tensor:
        """Return ``[len(ids), vocabulary]``: before each id, how likely every token is."""
        given = [self.tokenizer.bos_id, *ids[:-1]]
        return self.model(torch.tensor([given])).double().log_softmax(-1)[0]

    def likelihoods(self, requests: Sequence[Request]) -> list[Likelihood]:
        found = []
        for request in requests:
            ids = [*request.context, *request.continuation]
            rows = self.log_probabilities(ids)[len(request.context) :]
            nats = -rows[torch.arange(len(rows)), torch.tensor(list(request.continuation))].sum().item()
            found.append(Likelihood(nats, bool((rows.argmax(-1) == torch.tensor(list(request.continuation))).all())))
        return found

    def write(self, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> list[Written]:
        raise NotImplementedError


