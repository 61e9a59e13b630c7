"""Language models for tests of the evaluation: one that is slow and plain, one that knows nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import tokenizers
import torch

from megatron.checkpoint.folder import TrainedModel, open_folder, open_model
from megatron.checkpoint.hf import save_model
from megatron.config.architecture import Architecture
from megatron.config.layout import Layout
from megatron.evaluation.engine_model import EngineModel, open_engine_model
from megatron.evaluation.language_model import Likelihood, Request
from megatron.generate.options import GenerationOptions, Written
from megatron.model.llama import Llama
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.process import Peers, World
from megatron.tokenizer.base import Tokenizer
from megatron.tokenizer.load import load_model_file, load_tokenizer
from megatron.tokenizer.train import train_sentencepiece


class PlainModel:
    """A trained model, one request after the other: what the real one must agree with.

    Attributes:
        asked: how many likelihoods and texts were asked for.
    """

    def __init__(self, trained: TrainedModel, *, max_tokens: int | None = None) -> None:
        self.tokenizer = trained.tokenizer
        self.max_tokens = max_tokens or trained.model.architecture.max_position_embeddings
        self.is_main = True
        self.asked = 0
        self._trained = trained

    @torch.inference_mode()
    def likelihoods(self, requests: Sequence[Request]) -> list[Likelihood]:
        found = []
        for context, continuation in requests:
            self.asked += 1
            room = self.max_tokens - 1 - len(continuation)
            assert len(continuation) > 0 and room >= 0
            ids = [self._trained.first_id, *list(context)[max(0, len(context) - room) :], *continuation]
            logits = self._trained.model(torch.tensor([ids[:-1]]))[0, -len(continuation) :].log_softmax(-1)
            targets = torch.tensor(list(continuation))
            nats = -logits.gather(1, targets[:, None]).double().sum().item()
            found.append(Likelihood(nats, bool((logits.argmax(-1) == targets).all())))
        return found

    def write(self, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> list[Written]:
        return [self._write(list(prompt), options) for prompt in prompts]

    @torch.inference_mode()
    def _write(self, prompt: list[int], options: GenerationOptions) -> Written:
        assert not options.sampling.is_random
        self.asked += 1
        new: list[int] = []
        reason = "length"
        while len(new) < options.maximum_tokens:
            ids = torch.tensor([[self._trained.first_id, *prompt, *new]])
            token = int(self._trained.model(ids)[0, -1].argmax())
            if token in self._trained.end_ids:
                reason = "end"
                break
            new.append(token)
        decode = self.tokenizer.decode
        text = decode([*prompt, *new])[len(decode(prompt)) :]
        ends = [text.index(stop) for stop in options.stop if stop in text]
        return Written(text[: min(ends)], len(new), "stop") if ends else Written(text, len(new), reason)


class UniformModel:
    """Every byte is as likely as any other, and so is the end of a text; what it writes is said beforehand.

    Attributes:
        prompts: what it was asked to continue, as text.
    """

    def __init__(self, *, max_tokens: int = 64, answers: Sequence[str] = ()) -> None:
        self.tokenizer = SimpleNamespace(  # type: ignore[assignment]
            bos_id=256,
            eod_id=256,
            encode=lambda text: list(text.encode()),
            decode=lambda ids: bytes(ids).decode(errors="replace"),
        )
        self.max_tokens = max_tokens
        self.is_main = True
        self.prompts: list[str] = []
        self.options: list[GenerationOptions] = []
        self.requests: list[Request] = []
        self._answers = list(answers)

    def likelihoods(self, requests: Sequence[Request]) -> list[Likelihood]:
        self.requests += requests
        return [Likelihood(len(request.continuation) * math.log(257), False) for request in requests]

    def write(self, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> list[Written]:
        self.options.append(options)
        first = len(self.prompts)
        self.prompts += [bytes(prompt).decode() for prompt in prompts]
        return [
            Written(self._answers[(first + number) % len(self._answers)], 1, "stop") for number in range(len(prompts))
        ]


def sentencepiece_tokenizer(folder: Path, texts: Sequence[str]) -> Tokenizer:
    """Train a tokenizer of Llama 2's kind."""
    train_sentencepiece(texts, folder / "trained.model", vocab_size=420)
    return load_model_file(folder / "trained.model")


def byte_level_tokenizer(folder: Path, texts: Sequence[str]) -> Tokenizer:
    """Train a tokenizer of Llama 3's kind: merges of bytes, words with the space before them."""
    special = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<pad>", *special.values()], initial_alphabet=alphabet
    )
    trained.train_from_iterator(texts, trainer)
    trained.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    return load_tokenizer("HFTokenizer", folder / "tokenizer.json")


def tiny_hf_folder(folder: Path, tokenizer: Tokenizer, *, positions: int) -> Path:
    """Write a tiny Llama with random weights as a Hugging Face folder; ids 1 and 2 begin and end a text."""
    shape = Architecture(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=positions,
        initializer_range=0.4,
    )
    model = Llama(shape)
    model.init_weights(seed=3)
    save_model(model.state_dict(), shape, folder / "hf", dtype=torch.float32, bos_id=1, eos_id=2)
    tokenizer.save(folder / "hf", prepend_bos=True)
    return folder / "hf"


def engine_model(folder: Path) -> EngineModel:
    """Open a Hugging Face folder as evaluation does."""
    mesh = Mesh(Layout(), World(rank=0, size=1, device=torch.device("cpu")))
    return open_engine_model(open_folder(folder), mesh=mesh, peers=Peers(), execution=Execution(torch.float32))


def plain_model(folder: Path, *, max_tokens: int | None = None) -> PlainModel:
    """Open a Hugging Face folder."""
    return PlainModel(open_model(folder, device=torch.device("cpu")), max_tokens=max_tokens)
