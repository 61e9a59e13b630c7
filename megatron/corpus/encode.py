"""One corpus to its two shards, ``train`` and ``valid``, with their sidecars."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from megatron.corpus.held_out import HeldOutChooser, text_hash
from megatron.corpus.read import CorpusError, CorpusFiles, ReadCounts, read_documents
from megatron.data.indexed import ShardError, ShardReader, ShardWriter, bin_path, dtype_for, idx_path
from megatron.data.manifest import (
    ManifestError,
    ShardInfo,
    Sidecar,
    Split,
    TokenizerInfo,
    load_sidecar,
    save_sidecar,
    sidecar_path,
)
from megatron.tokenizer.base import Ids, Tokenizer, TokenizerError
from megatron.utils.files import fingerprint_bytes, fingerprint_file

_BATCH_CHARACTERS = 4_000_000
_RECIPE = 1  # raise it when the same inputs and options give other shards, so that old shards are made again


@dataclass(frozen=True)
class TokeniseOptions:
    """What decides the content of shards besides text and tokenizer.

    Attributes:
        text_key: the JSON field that holds the text.
        prepend_bos: begin every document with the beginning-of-text id.
        valid_bytes: hold out this much text of every corpus, 0 for none ...
        valid_fraction: ... but not more than this part of it (see :mod:`megatron.corpus.held_out`).
    """

    text_key: str = "text"
    prepend_bos: bool = False
    valid_bytes: int = 16384
    valid_fraction: float = 0.1

    def __post_init__(self) -> None:
        HeldOutChooser(valid_bytes=self.valid_bytes, valid_fraction=self.valid_fraction)  # checks them


@dataclass(frozen=True)
class CorpusJob:
    """One corpus to tokenise.

    Attributes:
        name: its name in the manifest.
        files: where it is and what it is.
        folder: folder of the shards.
        options: see :class:`TokeniseOptions`.
    """

    name: str
    files: CorpusFiles
    folder: Path
    options: TokeniseOptions

    def prefix(self, split: Split) -> Path:
        """Return the path of a shard without ``.bin``."""
        part = "" if split == "train" else f"_{split}"
        return self.folder / f"{self.name}{part}_{self.options.text_key}_document"

    @property
    def size_bytes(self) -> int:
        """Bytes of the input files as they lie on disk."""
        return sum(path.stat().st_size for path in self.files.paths if path.exists())


def made_from(job: CorpusJob, info: TokenizerInfo) -> str:
    """Return the fingerprint of all that decides the shards: names and contents of the files, tokenizer, options.

    The files are read whole, since size and time say too little: an edit may keep the size, and a copy changes the
    time. Reading is a hundred times faster than tokenising.
    """
    content = {
        "recipe": _RECIPE,
        "files": [(path.name, fingerprint_file(path)) for path in job.files.paths],
        "source": job.files.source,
        "code": job.files.code,
        "tokenizer": asdict(info),
        "options": asdict(job.options),
    }
    return fingerprint_bytes(json.dumps(content, sort_keys=True).encode())


def finished(job: CorpusJob, info: TokenizerInfo) -> Sidecar | None:
    """Return the sidecar of the train shard if the corpus was tokenised before, from the same and to the same."""
    try:
        sidecar = load_sidecar(sidecar_path(job.prefix("train")))
        if sidecar.made_from != made_from(job, info):
            return None
        sidecars = [sidecar]
        if sidecar.held_out_documents:
            sidecars.append(load_sidecar(sidecar_path(job.prefix("valid"))))
        for each in sidecars:
            reader = ShardReader(job.folder / each.shard.path)
            if reader.num_tokens != each.shard.tokens or each.made_from != sidecar.made_from:
                return None
    except (ManifestError, ShardError, OSError):
        return None  # not there, not whole: it is tokenised again
    return sidecar


def tokenise_corpus(
    job: CorpusJob, tokenizer: Tokenizer, *, report: Callable[[float], object] = lambda part: None
) -> Sidecar:
    """Write the shards and sidecars of one corpus, after removing those of an earlier run.

    The sidecar of the train shard is written last; until then the corpus does not count as finished.

    Args:
        job: the corpus.
        tokenizer: its tokenizer.
        report: is told after each batch which part of the corpus it was, 0 to 1.

    Returns:
        The train shard's sidecar.

    Raises:
        CorpusError: the corpus cannot be read, or holds no documents.
    """
    info = TokenizerInfo.of(tokenizer, prepend_bos=job.options.prepend_bos)
    fingerprint = made_from(job, info)
    for split in ("train", "valid"):
        _remove(job.prefix(split))
    chooser = HeldOutChooser(valid_bytes=job.options.valid_bytes, valid_fraction=job.options.valid_fraction)
    counts = ReadCounts()
    for _, data in _texts(job, counts):
        chooser.add(text_hash(data), size_bytes=len(data))
    if not counts.documents:
        blank = f"; {counts.blank} documents are blank" if counts.blank else ""
        raise CorpusError(
            f"{job.name}: no documents in {', '.join(map(str, job.files.paths))}{blank}; remove the corpus"
        )
    held_out = chooser.choose()
    with ExitStack() as stack:
        shards = {"train": _Shard(job, "train", tokenizer, stack)}
        if held_out:
            shards["valid"] = _Shard(job, "valid", tokenizer, stack)
        for text, data in _texts(job, ReadCounts()):
            shard = shards["valid" if text_hash(data) in held_out else "train"]
            if shard.add(text, size_bytes=len(data)):
                report(shard.flush() / max(1, chooser.total_bytes))
        report(sum(shard.flush() for shard in shards.values()) / max(1, chooser.total_bytes))
    documents = sum(shard.writer.num_documents for shard in shards.values())
    if documents != counts.documents or fingerprint != made_from(job, info):
        raise CorpusError(f"{job.name}: its files changed while they were read; tokenise it again")
    held = shards["valid"].writer.num_documents if held_out else 0
    for split in reversed(shards):  # train last
        sidecar = Sidecar(shards[split].info(), info, fingerprint, held, counts.blank)
        save_sidecar(sidecar, shards[split].prefix)
    return sidecar


@dataclass
class _Counts:
    words: int = 0
    bytes: int = 0
    unk_tokens: int = 0


@dataclass
class _Batch:
    texts: list[str] = field(default_factory=list)
    characters: int = 0
    bytes: int = 0


class _Shard:
    """A shard being written: collects texts into batches, encodes and counts them."""

    def __init__(self, job: CorpusJob, split: Split, tokenizer: Tokenizer, stack: ExitStack) -> None:
        self.job, self.split, self.tokenizer = job, split, tokenizer
        self.prefix = job.prefix(split)
        self.writer = stack.enter_context(ShardWriter(self.prefix, dtype=dtype_for(tokenizer.vocab_size)))
        self._counts = _Counts()
        self._batch = _Batch()

    def add(self, text: str, *, size_bytes: int) -> bool:
        """Take one document; return whether the batch is full."""
        self._batch.texts.append(text)
        self._batch.characters += len(text)
        self._batch.bytes += size_bytes
        return self._batch.characters >= _BATCH_CHARACTERS

    def flush(self) -> int:
        """Encode and write the batch; return its UTF-8 bytes."""
        batch, self._batch = self._batch, _Batch()
        if not batch.texts:
            return 0
        flat, lengths = build_documents(batch.texts, self.tokenizer, prepend_bos=self.job.options.prepend_bos)
        if int(flat.max()) >= self.tokenizer.vocab_size or int(flat.min()) < 0:
            raise TokenizerError(
                f"{self.job.name}: the tokenizer gave ids {int(flat.min())} to {int(flat.max())}, "
                f"its vocabulary has {self.tokenizer.vocab_size}"
            )
        self.writer.add_documents(flat, lengths)
        self._counts.words += sum(len(text.split()) for text in batch.texts)
        self._counts.bytes += batch.bytes
        if self.tokenizer.unk_id is not None:
            self._counts.unk_tokens += int(np.count_nonzero(flat == self.tokenizer.unk_id))
        return batch.bytes

    def info(self) -> ShardInfo:
        """Describe the finished shard."""
        files = self.job.files
        labels = [files.label] if files.label is not None else list(files.pair or ())
        return ShardInfo(
            name=self.job.name,
            path=self.prefix.name,
            split=self.split,
            source=files.source,
            language="-".join(label.language for label in labels),
            script="-".join(label.script for label in labels),
            documents=self.writer.num_documents,
            words=self._counts.words,
            tokens=self.writer.num_tokens,
            bytes=self._counts.bytes,
            unk_tokens=self._counts.unk_tokens,
            dtype=self.writer.dtype.name,
            content_hash=self.writer.content_hash,
            code=files.code,
        )


def build_documents(texts: list[str], tokenizer: Tokenizer, *, prepend_bos: bool) -> tuple[Ids, Ids]:
    """Encode texts into documents that end with the end-of-document id.

    Returns:
        The tokens of all documents back to back, int32 of shape ``[tokens]``, and the length of each, ``[documents]``.
    """
    if prepend_bos and tokenizer.bos_id is None:
        raise TokenizerError("prepend_bos needs a beginning-of-text token, and this tokenizer has none")
    arrays = tokenizer.encode_batch(texts)
    lengths = np.array([len(array) for array in arrays], dtype=np.int64) + 1 + int(prepend_bos)
    ends = np.cumsum(lengths)
    # Everything that is not written below stays the end-of-document id: one pass, and no list of tokens.
    flat = np.full(int(ends[-1]), tokenizer.eod_id, dtype=np.int32)
    is_text = np.ones(len(flat), dtype=bool)
    is_text[ends - 1] = False
    if prepend_bos and tokenizer.bos_id is not None:
        flat[ends - lengths] = tokenizer.bos_id
        is_text[ends - lengths] = False
    flat[is_text] = np.concatenate(arrays)
    return flat, lengths.astype(np.int32)


def _texts(job: CorpusJob, counts: ReadCounts) -> Iterator[tuple[str, bytes]]:
    """Yield every text of a corpus, with its UTF-8 bytes, in the order of its files."""
    for path in job.files.paths:
        for document in read_documents(path, text_key=job.options.text_key, counts=counts):
            yield document.text, document.text.encode("utf-8")


def _remove(prefix: Path) -> None:
    """Remove a shard of an earlier run, sidecar first, so that no manifest can list half of it."""
    for path in (sidecar_path(prefix), idx_path(prefix), bin_path(prefix)):
        path.unlink(missing_ok=True)
