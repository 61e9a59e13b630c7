"""A model with rows for new tokens, read like any other: what ``tools/extend_model.py`` writes."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping

import torch
from torch import Tensor

from megatron.checkpoint.convert.source import Source
from megatron.checkpoint.extend.rows import NewRows
from megatron.checkpoint.shards import Place
from megatron.tokenizer.extend.extension import Extension

INPUT, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"


class ExtendedSource(Source):
    """A source whose vocabulary has grown.

    Rows of old tokens stay as they are. New tokens follow them and take the place of padding where there is some; what
    padding is left after them stays as well. Further rows of padding are the mean of the old rows: each then takes no
    more of the probability than one part in the number of old tokens.

    Args:
        source: the model before.
        extension: what is new.
        rows: of the new matrices, padding included; no fewer than before.
        tokenizer_files: of the extended tokenizer, by name, for a Hugging Face folder.
        input_method: one of :data:`megatron.checkpoint.extend.rows.METHODS`, for the embedding.
        output_method: the same for the output matrix; not looked at where it is the embedding.
        seed: of random rows.
    """

    def __init__(
        self,
        source: Source,
        extension: Extension,
        *,
        rows: int,
        tokenizer_files: Mapping[str, bytes],
        input_method: str,
        output_method: str,
        seed: int,
    ) -> None:
        self.format, self.notes = source.format, source.notes
        self.architecture = dataclasses.replace(source.architecture, vocab_size=rows)
        self._source, self._extension, self._files = source, extension, dict(tokenizer_files)
        self._old_rows = source.architecture.vocab_size
        self._identity = f"{extension.new_fingerprints} {rows} {input_method} {output_method} {seed}"
        methods = {INPUT: input_method, OUTPUT: output_method}
        self._new = {
            name: self._new_rows(name, methods[name], (seed, number))
            for number, name in enumerate(methods)
            if name in source.shapes
        }

    def _new_rows(self, name: str, method: str, seed: tuple[int, int]) -> NewRows:
        width = self._source.shapes[name][1]
        return NewRows(
            lambda first, stop: self._source.read(name, (slice(first, stop), slice(0, width))),
            width=width,
            itemsize=self._source.dtype(name).itemsize,
            spellings=self._extension.spellings,
            old_size=self._extension.old_size,
            method=method,
            seed=seed,
        )

    def __str__(self) -> str:
        return str(self._source)

    def dtype(self, name: str) -> torch.dtype:
        """Return the dtype of a tensor, which is the source's."""
        return self._source.dtype(name)

    def read(self, name: str, place: Place) -> Tensor:
        """Return a box of a tensor."""
        if name not in self._new:
            return self._source.read(name, place)
        rows, columns = place
        old_size, new_size = self._extension.old_size, self._extension.new_size
        edges = [0, old_size, new_size, max(new_size, self._old_rows), self.architecture.vocab_size]
        parts = [slice(max(rows.start, a), min(rows.stop, b)) for a, b in itertools.pairwise(edges)]
        kept, new, left, more = (part if part.start < part.stop else None for part in parts)
        found = [
            self._source.read(name, (kept, columns)) if kept else None,
            self._new[name].rows(new.start - old_size, new.stop - old_size)[:, columns] if new else None,
            self._source.read(name, (left, columns)) if left else None,
            self._new[name].average.expand(more.stop - more.start, -1)[:, columns] if more else None,
        ]
        return torch.cat([part.to(self.dtype(name)) for part in found if part is not None])

    def origin(self, name: str) -> str:
        """Return what a tensor is made of."""
        return self._source.origin(name) + (" and new rows" if name in self._new else "")

    def hf_files(self) -> dict[str, bytes]:
        """Return the configuration with the new size, and the extended tokenizer in place of the old one."""
        files = self._source.hf_files()
        config = {**json.loads(files["config.json"]), "vocab_size": self.architecture.vocab_size}
        kept = {name: files[name] for name in ("generation_config.json",) if name in files}
        return {**kept, **self._files, "config.json": (json.dumps(config, indent=2) + "\n").encode("utf-8")}

    def identity(self) -> str:
        """Return the source's identity, with what has been asked for."""
        return f"{self._source.identity()} {self._identity}"
