"""A model of ours for evaluation: from any folder, at any layout."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from megatron.checkpoint.folder import ModelFolder
from megatron.checkpoint.open import open_engine
from megatron.evaluation.language_model import Likelihood, Request
from megatron.evaluation.windows import cut, longest_first, score_windows
from megatron.generate.options import GenerationOptions, Written
from megatron.generate.writer import TextWriter
from megatron.parallel.engine import Engine
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.process import Peers
from megatron.tokenizer.base import Tokenizer

_MOST_WINDOW_TOKENS = 4096
_PIECES, _PIECE_BYTES = 64, 1 << 16
_SHAPES = ("config.json", "state.json")


class EngineModel:
    """A :class:`megatron.evaluation.language_model.LanguageModel` of any number of processes.

    Args:
        engine: with the weights.
        tokenizer: of the model.
        first_id: the id that begins a text.
        end_ids: the ids that end one.
        batch_tokens: most tokens, padding included, in one forward pass of text that is scored.
        batch_size: texts that are written at the same time.
        window_tokens: longest window; the model's positions, and at most 4,096, by default.

    Attributes:
        tokenizer: as given.
        max_tokens: longest window.
        is_main: whether this is the first process.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        *,
        first_id: int,
        end_ids: Sequence[int],
        batch_tokens: int = 8192,
        batch_size: int = 16,
        window_tokens: int | None = None,
    ) -> None:
        positions = engine.model.architecture.max_position_embeddings
        if window_tokens is not None and not 1 <= window_tokens <= positions:
            raise ValueError(
                f"window_tokens = {window_tokens} must be from 1 to {positions}, the model's max_position_embeddings"
            )
        self.engine, self.tokenizer = engine, tokenizer
        self.first_id, self.end_ids = first_id, tuple(end_ids)
        self.max_tokens = window_tokens or min(positions, _MOST_WINDOW_TOKENS)
        self.is_main = engine.mesh.world.is_main
        self._batch_tokens, self._batch_size = batch_tokens, batch_size

    def likelihoods(self, requests: Sequence[Request]) -> list[Likelihood]:
        """As :meth:`LanguageModel.likelihoods`; a continuation that is longer than a window is read in several."""
        windows = longest_first(
            window
            for number, (context, continuation) in enumerate(requests)
            for window in cut(
                np.array([*context, *continuation], dtype=np.int64),
                group=number,
                first_id=self.first_id,
                length=self.max_tokens,
                start=len(context),
            )
        )
        sums = score_windows(
            self.engine,
            windows,
            num_groups=len(requests),
            batch_tokens=self._batch_tokens,
            description="scoring",
            share=True,
        )
        if broken := int((~np.isfinite(sums[:, 0])).sum()):
            raise ValueError(
                f"{broken} of {len(requests)} likelihoods are no numbers: the weights are damaged, or the model cannot "
                "compute in this precision; try --precision fp32"
            )
        return [Likelihood(nats, likeliest == ids) for nats, ids, likeliest in sums.tolist()]

    def write(self, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> list[Written]:
        """As :meth:`LanguageModel.write`."""
        # Made when it is asked for: a layout that cannot write can score all the same.
        writer = TextWriter(
            self.engine, self.tokenizer, first_id=self.first_id, end_ids=self.end_ids, batch_size=self._batch_size
        )
        return writer.write(prompts, options)


def open_engine_model(
    folder: ModelFolder,
    *,
    mesh: Mesh,
    peers: Peers,
    execution: Execution,
    batch_tokens: int = 8192,
    batch_size: int = 16,
    window_tokens: int | None = None,
) -> EngineModel:
    """Load a model; every process of the layout calls this.

    Weights are kept in the dtype that is computed in.

    Args:
        folder: what :func:`megatron.checkpoint.folder.open_folder` has returned.
        mesh: how the processes divide it. Text is divided among those that hold the same part of the model.
        peers: the same processes.
        execution: how each of them computes its part.
        batch_tokens: see :class:`EngineModel`.
        batch_size: see there.
        window_tokens: see there.

    Raises:
        ValueError: the weights are damaged, or cannot be divided so.
    """
    engine = open_engine(folder, mesh=mesh, peers=peers, execution=execution, seq_length=_MOST_WINDOW_TOKENS)
    return EngineModel(
        engine,
        folder.tokenizer,
        first_id=folder.first_id,
        end_ids=folder.end_ids,
        batch_tokens=batch_tokens,
        batch_size=batch_size,
        window_tokens=window_tokens,
    )


def identity_of(folder: ModelFolder, *, name: str, precision: str) -> dict[str, Any]:
    """Return what tells a model from others in a folder of results, whatever the way to it.

    Args:
        folder: the model. Its weights and its shape count, no other files; of large files 64 pieces are looked at,
            which other weights do not share.
        name: what people call it.
        precision: that it computes in, which changes its answers a little.
    """
    place, found = folder.place, hashlib.sha256()
    for file, size in sorted(place.sizes().items()):
        if file not in _SHAPES and not file.endswith(".safetensors"):
            continue
        found.update(f"{file} {size}\n".encode())
        step = max(_PIECE_BYTES, -(-size // _PIECES))
        for start in range(0, size, step):
            buffer = bytearray(min(size - start, _PIECE_BYTES))
            place.read_into(file, start, memoryview(buffer))
            found.update(buffer)
    return {
        "name": name,
        "step": folder.step,
        "weights": found.hexdigest(),
        "tokenizer": folder.tokenizer.fingerprint,
        "precision": precision,
    }
