"""Shards without a sidecar, as GPT-NeoX and Megatron leave them: what their two files and the tokenizer tell.

Nothing says which language they are in, how many words they have, or which tokenizer made them. How their documents
begin and end is seen by looking at a few of them; the bytes of held-out text are counted by decoding it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import xxhash

from megatron.data.indexed import ShardError, ShardReader, bin_path, idx_path
from megatron.data.manifest import ShardInfo, Split
from megatron.tokenizer.base import Tokenizer
from megatron.utils.log import progress

UNKNOWN_LANGUAGE, UNKNOWN_SCRIPT = "und", "Zyyy"
"""ISO 639-3's undetermined language and ISO 15924's undetermined script."""

PARTIAL = "partial:"
"""Begins the ``content_hash`` of a shard that was not read as a whole."""

_DOCUMENTS_LOOKED_AT = 8
_TOKENS_LOOKED_AT = 1024
_HASHED_BYTES = 1 << 16
_WORTH_A_BAR_TOKENS = 1 << 18


def describe_bare(reader: ShardReader, *, name: str, path: str, split: Split) -> ShardInfo:
    """Return the entry of a shard that has no sidecar; its words and bytes are 0, which means unknown.

    Raises:
        ShardError: it cannot be read.
    """
    return ShardInfo(
        name=name,
        path=path,
        split=split,
        source="monolingual",
        language=UNKNOWN_LANGUAGE,
        script=UNKNOWN_SCRIPT,
        documents=reader.num_documents,
        words=0,
        tokens=reader.num_tokens,
        bytes=0,
        unk_tokens=0,
        dtype=reader.dtype.name,
        content_hash=partial_hash(reader.prefix),
    )


def partial_hash(prefix: Path | str) -> str:
    """Return a hash of the sizes of a shard's files and of their first and last 64 KiB.

    It costs four reads, and tells a shard from another that was put in its place.
    """
    digest = xxhash.xxh3_128()
    for path in (bin_path(prefix), idx_path(prefix)):
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                digest.update(size.to_bytes(8, "little"))
                for start in (0, max(0, size - _HASHED_BYTES)):
                    file.seek(start)
                    digest.update(file.read(_HASHED_BYTES))
        except OSError as error:
            raise ShardError(f"{path}: cannot be read ({error.strerror})") from error
    return PARTIAL + digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class DocumentEnds:
    """How the documents of a shard begin and end, as far as was looked.

    Attributes:
        begin_with_bos: whether all begin with the tokenizer's beginning-of-text id.
        other_ends: the ids besides the tokenizer's end-of-document id that documents end with, in ascending order.
    """

    begin_with_bos: bool
    other_ends: tuple[int, ...]


def look_at_ends(reader: ShardReader, tokenizer: Tokenizer) -> DocumentEnds:
    """Look at the first and last token of a few documents, evenly spread over the shard.

    Raises:
        ShardError: the shard cannot be read, or holds an id that the tokenizer does not have.
    """
    firsts, lasts = set(), set()
    for number in np.unique(np.linspace(0, reader.num_documents - 1, _DOCUMENTS_LOOKED_AT).astype(int)):
        start, stop = reader.document_span(int(number))
        if start < stop:
            firsts.add(int(reader.tokens(start, start + 1)[0]))
            lasts.add(int(reader.tokens(stop - 1, stop)[0]))
    seen = {*firsts, *lasts, *map(int, reader.tokens(0, min(_TOKENS_LOOKED_AT, reader.num_tokens)))}
    _check_ids(min(seen), max(seen), reader.prefix, tokenizer)
    return DocumentEnds(
        begin_with_bos=tokenizer.bos_id is not None and firsts == {tokenizer.bos_id},
        other_ends=tuple(sorted(lasts - {tokenizer.eod_id})),
    )


def leading_documents(reader: ShardReader, shard: ShardInfo, *, max_tokens: int) -> ShardInfo:
    """Return the part of a shard that has at most so many tokens: whole documents from the front, at least one."""
    if shard.tokens <= max_tokens:
        return shard
    documents, stop = 0, shard.first_token
    while documents < shard.documents:
        end = reader.document_span(shard.first_document + documents)[1]
        if documents and end - shard.first_token > max_tokens:
            break
        documents, stop = documents + 1, end
    if documents == shard.documents:
        return shard
    tokens = stop - shard.first_token
    return dataclasses.replace(shard, documents=documents, tokens=tokens, words=0, bytes=0, unk_tokens=0)


def count_bytes(
    reader: ShardReader, shard: ShardInfo, tokenizer: Tokenizer, *, prepend_bos: bool, show_progress: bool = False
) -> int:
    """Return the UTF-8 bytes of the text of a shard, without what begins and ends its documents.

    Args:
        reader: the shard's file.
        shard: the shard, or a part of it.
        tokenizer: the one that made it.
        prepend_bos: whether the first token of a document is not text; the last one never is.
        show_progress: show a bar when there is much to decode.

    Raises:
        ShardError: the shard cannot be read, or holds an id that the tokenizer does not have.
    """
    numbers = range(shard.first_document, shard.first_document + shard.documents)
    hidden = not show_progress or shard.tokens < _WORTH_A_BAR_TOKENS
    total = 0
    for number in progress(numbers, description=f"bytes of {shard.name}", unit="document", disable=hidden):
        text = reader.document(number)[int(prepend_bos) : -1]
        if len(text):
            _check_ids(int(text.min()), int(text.max()), reader.prefix, tokenizer)
            total += len(tokenizer.decode(text.tolist()).encode("utf-8", errors="replace"))
    return total


def _check_ids(smallest: int, largest: int, prefix: Path, tokenizer: Tokenizer) -> None:
    if smallest < 0 or largest >= tokenizer.vocab_size:
        raise ShardError(
            f"{prefix}: holds the id {smallest if smallest < 0 else largest}, but the tokenizer has only "
            f"{tokenizer.vocab_size}; another one made it: give that as vocab_file, or tokenise the corpus again"
        )
