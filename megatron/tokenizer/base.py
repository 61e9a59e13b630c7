"""What every tokenizer offers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]


class TokenizerError(ValueError):
    """A tokenizer file cannot be used as asked: says which file, which rule, and what to change."""


class NoEndTokenError(TokenizerError):
    """The file is fine, but has no token to end documents with, or none that it tells."""


class Tokenizer(Protocol):
    """Turns text into token ids and back.

    Text is only ever text: the spelling of a special token inside it (``</s>`` in HTML, say) never becomes the special
    id. Neither the beginning-of-text nor the end-of-document id is added; whoever builds documents does that.

    Attributes:
        kind: the YAML name, e.g. ``SPMTokenizer``.
        fingerprint: XXH3 128-bit hash of the model file's bytes.
        vocab_size: one more than the largest id.
        eod_id: the id that ends a document; never the unknown id.
        bos_id: the id that begins a text, if there is one.
        unk_id: the id of what cannot be encoded, if there is one.
    """

    kind: str
    fingerprint: str
    vocab_size: int
    eod_id: int
    bos_id: int | None
    unk_id: int | None

    def encode(self, text: str) -> list[int]:
        """Return the ids of one text."""

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Return the ids of several texts as int32 arrays of shape ``[tokens]``, on one thread."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``; special ids give no text, and broken UTF-8 gives U+FFFD."""

    def byte_token_mask(self) -> npt.NDArray[np.bool_]:
        """Return which ids stand for a part of a character: bytes of what the vocabulary has no token for.

        Of byte-level vocabularies these are the tokens whose bytes are not valid UTF-8 by themselves.

        Returns:
            A read-only array of shape ``[vocab_size]``.
        """

    def tokenizer_json(self) -> str:
        """Return the content of a ``tokenizer.json`` that gives the same ids.

        Raises:
            TokenizerError: this tokenizer cannot be expressed there exactly.
        """

    def save(self, folder: Path, *, prepend_bos: bool) -> None:
        """Write the files from which ``transformers.AutoTokenizer`` gives the same ids.

        Args:
            folder: made if it is not there.
            prepend_bos: whether that tokenizer begins every text with the beginning-of-text id, as in training.

        Raises:
            TokenizerError: this tokenizer cannot be expressed there exactly.
        """


def read_model_file(path: Path) -> bytes:
    """Return the bytes of a tokenizer file, or raise :class:`TokenizerError`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"{path}: cannot be read ({error.strerror}); vocab_file must name the file") from error


def byte_mask(vocab_size: int, tokens: Iterable[tuple[int, bytes]]) -> npt.NDArray[np.bool_]:
    """Return which ids have bytes that are not valid UTF-8 by themselves.

    Args:
        vocab_size: length of the mask.
        tokens: id and bytes of each token that stands for text.
    """
    mask = np.zeros(vocab_size, dtype=np.bool_)
    for token, data in tokens:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            mask[token] = True
    mask.flags.writeable = False
    return mask


def check_eod(eod_id: int | None, *, unk_id: int | None, wanted: str, path: Path) -> int:
    """Return ``eod_id`` if it is a token that can end documents.

    Args:
        eod_id: the id found, None when there is none.
        unk_id: the unknown id, which libraries return for pieces that they do not have.
        wanted: the token asked for, for the message.
        path: the tokenizer file, for the message.
    """
    if eod_id is None or eod_id < 0:
        raise NoEndTokenError(
            f"{path}: has no token {wanted} to end documents with; name one of its tokens: --eod-token"
        )
    if eod_id == unk_id:
        raise NoEndTokenError(
            f"{path}: {wanted} is the unknown token, which cannot end documents; name another: --eod-token"
        )
    return eod_id


def token_of_eod(eod_id: int, token: str | None, *, unk_id: int | None, path: Path) -> str:
    """Return the token of an id that is to end documents.

    Args:
        eod_id: the id, from shards or a checkpoint.
        token: what the file has under it; None for nothing.
        unk_id: the unknown id.
        path: the tokenizer file, for the message.
    """
    if token is None:
        raise NoEndTokenError(f"{path}: has no token {eod_id} to end documents with; give the file that made the data")
    check_eod(eod_id, unk_id=unk_id, wanted=f"{token!r}, id {eod_id},", path=path)
    return token
