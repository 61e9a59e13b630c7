"""From the two configuration keys ``tokenizer_type`` and ``vocab_file`` to a tokenizer."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from megatron.tokenizer.base import NoEndTokenError, Tokenizer, TokenizerError

#: The values of ``tokenizer_type``.
TOKENIZER_TYPES = ("SPMTokenizer", "HFTokenizer", "TiktokenTokenizer")

#: What the files are called that hold a tokenizer, in a model's folder; of both, Hugging Face loads the first.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model")

_RANKS_LINE = re.compile(rb"[A-Za-z0-9+/]+=* [0-9]+\r?\n")


def load_tokenizer(
    tokenizer_type: str, vocab_file: Path | str, *, eod_token: str | None = None, eod_id: int | None = None
) -> Tokenizer:
    """Load a tokenizer.

    Args:
        tokenizer_type: ``SPMTokenizer`` (SentencePiece model), ``HFTokenizer`` (``tokenizer.json``) or
            ``TiktokenTokenizer`` (Llama 3's ranks).
        vocab_file: the file.
        eod_token: the token that ends documents, instead of the file's own end-of-text token.
        eod_id: the same by its id, as shards and checkpoints name it; not beside ``eod_token``.

    Raises:
        TokenizerError: an unknown type, a file that is not of that type, or no such token.
    """
    if eod_token is not None and eod_id is not None:
        raise TokenizerError(f"eod_token {eod_token!r} and eod_id {eod_id} are given; one of them is enough")
    # Each library is imported only by those who use it; the three together take half a second.
    path = Path(vocab_file)
    if tokenizer_type == "SPMTokenizer":
        from megatron.tokenizer.sentencepiece_tokenizer import SentencePieceTokenizer

        return SentencePieceTokenizer(path, eod_token=eod_token, eod_id=eod_id)
    if tokenizer_type == "HFTokenizer":
        from megatron.tokenizer.hf_tokenizer import HFTokenizer

        return HFTokenizer(path, eod_token=eod_token, eod_id=eod_id)
    if tokenizer_type == "TiktokenTokenizer":
        from megatron.tokenizer.tiktoken_tokenizer import TiktokenTokenizer

        return TiktokenTokenizer(path, eod_token=eod_token, eod_id=eod_id)
    raise TokenizerError(f"tokenizer_type {tokenizer_type!r} is not known; use one of {', '.join(TOKENIZER_TYPES)}")


def load_model_file(path: Path) -> Tokenizer:
    """Load a file of the name ``tokenizer.model``: SentencePiece's for Llama 2, tiktoken's text for Llama 3.

    Raises:
        TokenizerError: it is neither.
    """
    return load_tokenizer(*tokenizer_type_of(path))


def tokenizer_type_of(path: Path) -> tuple[str, Path]:
    """Return which ``tokenizer_type`` a file is of, by its content, and the file; of a folder, the one to load.

    Args:
        path: a SentencePiece model, tiktoken ranks or a ``tokenizer.json``; or a folder that holds ``tokenizer.json``
            or ``tokenizer.model``, the former being what Hugging Face loads.

    Raises:
        TokenizerError: there is no such file, or the folder holds neither.
    """
    if path.is_dir():
        found = [path / name for name in TOKENIZER_FILES if (path / name).is_file()]
        if not found:
            raise TokenizerError(f"{path}: holds neither tokenizer.json nor tokenizer.model; name the file itself")
        path = found[0]
    try:
        with path.open("rb") as file:
            first = file.readline(1000)
    except OSError as error:
        raise TokenizerError(f"{path}: cannot be read ({error.strerror}); give a tokenizer's file or folder") from error
    if path.suffix == ".json" or first.startswith(b"{"):
        return "HFTokenizer", path
    return "TiktokenTokenizer" if _RANKS_LINE.fullmatch(first) else "SPMTokenizer", path


def load_for_text(tokenizer_type: str, vocab_file: Path) -> Tokenizer:
    """Load a tokenizer that ends no documents: where its file names no token for that, any stands in.

    Args:
        tokenizer_type: see :func:`load_tokenizer`.
        vocab_file: see :func:`load_tokenizer`.

    Raises:
        TokenizerError: the file is not of that type.
    """
    for eod_id in (None, 0):
        with suppress(NoEndTokenError):
            return load_tokenizer(tokenizer_type, vocab_file, eod_id=eod_id)
    # Every vocabulary has tokens 0 and 1, and one of them is not the unknown token.
    return load_tokenizer(tokenizer_type, vocab_file, eod_id=1)


@dataclass(frozen=True)
class TokenizerFile:
    """Which tokenizer to load, in every worker process.

    Attributes:
        tokenizer_type: see :func:`load_tokenizer`.
        vocab_file: see :func:`load_tokenizer`.
        eod_token: see :func:`load_tokenizer`.
        fast: encode batches with gigatoken (see :mod:`megatron.tokenizer.fast`).
    """

    tokenizer_type: str
    vocab_file: Path
    eod_token: str | None = None
    fast: bool = False

    def plain(self) -> Tokenizer:
        """Load the tokenizer itself, to ask it what it is."""
        return load_tokenizer(self.tokenizer_type, self.vocab_file, eod_token=self.eod_token)

    def load(self) -> Tokenizer:
        """Load what encodes."""
        tokenizer = self.plain()
        if not self.fast:
            return tokenizer
        from megatron.tokenizer.fast import FastTokenizer

        return FastTokenizer(tokenizer)
