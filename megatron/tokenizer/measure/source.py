"""Which tokenizers to measure: names and files, of any kind."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from megatron.tokenizer.base import Tokenizer, TokenizerError
from megatron.tokenizer.load import load_for_text, tokenizer_type_of

_NAME = re.compile(r"[^\s=\x00-\x1f\x7f]+")
_MAX_NAME_CHARACTERS = 60


@dataclass(frozen=True)
class TokenizerSource:
    """One tokenizer to measure.

    Attributes:
        name: what it is called in the report.
        path: a SentencePiece model, tiktoken ranks, a ``tokenizer.json``, or a folder with one of them.
        fast: encode batches with gigatoken (see :mod:`megatron.tokenizer.fast`).
    """

    name: str
    path: Path
    fast: bool = False

    @classmethod
    def parse(cls, arguments: Sequence[str], *, fast: bool = False) -> list[TokenizerSource]:
        """Read ``NAME=PATH`` arguments.

        Raises:
            TokenizerError: lists every argument that is none, every name that comes twice, and every missing file.
        """
        sources: dict[str, TokenizerSource] = {}
        problems: list[str] = []
        for argument in arguments:
            name, _, path = argument.partition("=")
            if not _NAME.fullmatch(name) or len(name) > _MAX_NAME_CHARACTERS or not path:
                problems.append(f"--tokenizer {argument}: give NAME=PATH, such as llama2=Llama-2-7b/tokenizer.model")
            elif name in sources:
                problems.append(f"--tokenizer {argument}: {name} is already {sources[name].path}; name it otherwise")
            elif not Path(path).exists():
                problems.append(f"--tokenizer {argument}: there is no {path}; give the tokenizer's file or folder")
            else:
                sources[name] = cls(name, Path(path), fast)
        if not arguments:
            problems.append("no tokenizer is given: --tokenizer NAME=PATH, once for each")
        if problems:
            raise TokenizerError("\n".join(problems))
        return list(sources.values())

    def load(self) -> Tokenizer:
        """Load what encodes. Which token ends documents does not matter, so that a file that tells none will do.

        Raises:
            TokenizerError: the file is of no kind that is known.
        """
        tokenizer = load_for_text(*tokenizer_type_of(self.path))
        if not self.fast:
            return tokenizer
        from megatron.tokenizer.fast import FastTokenizer

        return FastTokenizer(tokenizer)


@dataclass(frozen=True)
class Loaded:
    """A tokenizer with what takes a while to find out about it.

    Attributes:
        tokenizer: encodes.
        byte_mask: which of its tokens stand for a part of a character.
        token_texts: what single tokens decode to, without a blank before it.
    """

    tokenizer: Tokenizer
    byte_mask: npt.NDArray[np.bool_]
    token_texts: frozenset[str]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Loaded:
        """Find it out."""
        texts = (tokenizer.decode([token]).removeprefix(" ") for token in range(tokenizer.vocab_size))
        return cls(tokenizer, tokenizer.byte_token_mask(), frozenset(texts))


@functools.cache
def loaded(source: TokenizerSource) -> Loaded:
    """Load a tokenizer, once in each process."""
    return Loaded.of(source.load())
