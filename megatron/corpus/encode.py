"""Texts to the tokens of a shard: batches, ends of documents, and counts of what was encoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from megatron.data.indexed import ShardWriter, dtype_for
from megatron.tokenizer.base import Ids, Tokenizer, TokenizerError

# Bytes, not characters: a text has hardly more tokens than bytes, but several for each character of some scripts.
_BATCH_BYTES = 4_000_000


@dataclass
class EncodeCounts:
    """What a shard holds.

    Attributes:
        documents: documents.
        bytes: UTF-8 bytes of their texts.
        characters: code points.
        words: whitespace-separated words.
        tokens: tokens, with those that begin and end documents.
        unk_tokens: tokens that are the unknown id.
        byte_tokens: tokens that stand for a part of a character.
    """

    documents: int = 0
    bytes: int = 0
    characters: int = 0
    words: int = 0
    tokens: int = 0
    unk_tokens: int = 0
    byte_tokens: int = 0

    def add(self, other: EncodeCounts) -> None:
        """Add the counts of another shard."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    def to_json(self) -> dict[str, int]:
        """Return plain values."""
        return asdict(self)


@dataclass
class _Batch:
    texts: list[str] = field(default_factory=list)
    characters: int = 0
    bytes: int = 0


class TextShardWriter:
    """Writes texts into a shard: collects them into batches, encodes and counts them. A context manager.

    Args:
        prefix: path of the shard without ``.bin``.
        tokenizer: encodes.
        prepend_bos: begin every document with the beginning-of-text id.
        is_byte_token: the tokenizer's :meth:`~megatron.tokenizer.base.Tokenizer.byte_token_mask`, which takes a while.

    Attributes:
        counts: of the documents added so far, complete when the context ends.
    """

    def __init__(
        self, prefix: Path, tokenizer: Tokenizer, *, prepend_bos: bool, is_byte_token: npt.NDArray[np.bool_]
    ) -> None:
        self.counts = EncodeCounts()
        self._name = prefix.name
        self._tokenizer, self._prepend_bos = tokenizer, prepend_bos
        self._is_byte_token = is_byte_token
        self._writer = ShardWriter(prefix, dtype=dtype_for(tokenizer.vocab_size))
        self._batch = _Batch()

    def __enter__(self) -> TextShardWriter:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            try:
                self._flush()
            except BaseException as failed:
                self._writer.__exit__(type(failed), failed, failed.__traceback__)
                raise
        self._writer.__exit__(kind, error, traceback)

    def add(self, text: str, *, size_bytes: int) -> None:
        """Take one document; ``size_bytes`` are its UTF-8 bytes."""
        self._batch.texts.append(text)
        self._batch.characters += len(text)
        self._batch.bytes += size_bytes
        if self._batch.bytes >= _BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        batch, self._batch = self._batch, _Batch()
        if not batch.texts:
            return
        tokenizer = self._tokenizer
        flat, lengths = build_documents(batch.texts, tokenizer, prepend_bos=self._prepend_bos)
        if int(flat.max()) >= tokenizer.vocab_size or int(flat.min()) < 0:
            raise TokenizerError(
                f"{self._name}: the tokenizer gave ids {int(flat.min())} to {int(flat.max())}, "
                f"its vocabulary has {tokenizer.vocab_size}"
            )
        self._writer.add_documents(flat, lengths)
        unk_id = tokenizer.unk_id
        counted = EncodeCounts(
            documents=len(lengths),
            bytes=batch.bytes,
            characters=batch.characters,
            words=sum(len(text.split()) for text in batch.texts),
            tokens=len(flat),
            unk_tokens=int(np.count_nonzero(flat == unk_id)) if unk_id is not None else 0,
            byte_tokens=int(np.count_nonzero(self._is_byte_token.take(flat))),
        )
        self.counts.add(counted)


def build_documents(texts: Sequence[str], tokenizer: Tokenizer, *, prepend_bos: bool) -> tuple[Ids, Ids]:
    """Encode texts into documents that end with the end-of-document id.

    Returns:
        The tokens of all documents back to back, int32 of shape ``[tokens]``, and the length of each, ``[documents]``.
    """
    if prepend_bos and tokenizer.bos_id is None:
        raise TokenizerError("prepend_bos needs a beginning-of-text token, and this tokenizer has none")
    first = np.array([tokenizer.bos_id] if prepend_bos else [], dtype=np.int32)
    last = np.array([tokenizer.eod_id], dtype=np.int32)
    arrays = tokenizer.encode_batch(texts)
    flat = np.concatenate([part for array in arrays for part in (first, array, last)])
    lengths = np.array([len(array) for array in arrays], dtype=np.int32) + np.int32(1 + len(first))
    return flat, lengths
