"""The passes that make shards: every file of texts becomes a part, the parts of a corpus become its shards."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from megatron.corpus.document import CorpusError
from megatron.corpus.encode import EncodeCounts, TextShardWriter
from megatron.corpus.engine.run import Runner
from megatron.corpus.engine.task import Outputs, Report, Task, fingerprint_of
from megatron.corpus.held_out import text_hash
from megatron.corpus.pieces import CorpusName
from megatron.corpus.reading.problems import ReadCounts
from megatron.data.indexed import ShardError, ShardReader, bin_path, idx_path
from megatron.data.joining import Span, join_spans
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
from megatron.tokenizer.base import Tokenizer
from megatron.tokenizer.load import TokenizerFile
from megatron.utils.files import fsync_folder

#: The splits of a corpus that become shards; the one written last says that a corpus is finished.
SPLITS: tuple[Split, ...] = ("valid", "train")

_RECIPE = 2  # raise it when the same texts and tokenizer give other shards, so that old shards are made again
_REPORT_DOCUMENTS = 256


class TextFile(Protocol):
    """A file of texts to tokenise."""

    @property
    def name(self) -> str:
        """A name that is unique in its corpus."""

    @property
    def place(self) -> str:
        """Where it is, for messages."""

    @property
    def split(self) -> Split | None:
        """The split of all its texts; None where their hashes decide."""

    @property
    def size_bytes(self) -> int:
        """Its size, for progress."""

    @property
    def fingerprint(self) -> str:
        """Hash of its content."""

    def texts(self, counts: ReadCounts | None = None) -> Iterator[str]:
        """Yield its texts; raises CorpusError when the content is not that of the fingerprint.

        Args:
            counts: filled while reading.
        """


@dataclass(frozen=True)
class ShardJob:
    """One corpus to tokenise.

    Attributes:
        corpus: what it is; its name is that of the shards.
        folder: folder of the shards.
        key: the JSON field of the texts, a part of the shards' names.
        files: where its texts are.
        held_out: hashes of the texts to hold out, for files without a split.
        made_from: fingerprint of all that decides the shards.
    """

    corpus: CorpusName
    folder: Path
    key: str
    files: tuple[TextFile, ...]
    held_out: frozenset[int]
    made_from: str

    def prefix(self, split: Split) -> Path:
        """Return the path of a shard without ``.bin``."""
        return shard_prefix(self.folder, self.corpus.name, self.key, split)

    @property
    def size_bytes(self) -> int:
        """Bytes of its files."""
        return sum(file.size_bytes for file in self.files)


def shard_prefix(folder: Path, name: str, key: str, split: Split) -> Path:
    """Return the path of a shard of a corpus, without ``.bin``."""
    return folder / f"{name}{'' if split == 'train' else f'_{split}'}_{key}_document"


def made_from(
    corpus: CorpusName, fingerprints: Sequence[tuple[str, str]], info: TokenizerInfo, options: Mapping[str, Any]
) -> str:
    """Return the fingerprint of all that decides the shards of a corpus.

    Args:
        corpus: what it is.
        fingerprints: name and content hash of each of its files.
        info: the tokenizer.
        options: everything else.
    """
    return fingerprint_of("shards", _RECIPE, asdict(corpus), fingerprints, asdict(info), options)


def finished(folder: Path, name: str, key: str, made_from: str) -> Sidecar | None:
    """Return the sidecar of the train shard if the corpus was tokenised before, from the same and to the same."""
    try:
        sidecar = load_sidecar(sidecar_path(shard_prefix(folder, name, key, "train")))
        if sidecar.made_from != made_from:
            return None
        sidecars = [sidecar]
        if sidecar.held_out_documents:
            sidecars.append(load_sidecar(sidecar_path(shard_prefix(folder, name, key, "valid"))))
        for each in sidecars:
            reader = ShardReader(folder / each.shard.path)
            if reader.num_tokens != each.shard.tokens or each.made_from != sidecar.made_from:
                return None
    except (ManifestError, ShardError, OSError):
        return None  # not there, not whole: it is tokenised again
    return sidecar


@dataclass(frozen=True)
class EncodeWork:
    """Encodes one file into a part for each split: ``<corpus>/<file>.<split>.bin`` and ``.idx``."""

    corpus: str
    file: TextFile
    held_out: frozenset[int]
    tokenizer: TokenizerFile
    prepend_bos: bool

    def __call__(self, outputs: Outputs, report: Report) -> Mapping[str, Any]:
        """See :class:`megatron.corpus.engine.task.Work`."""
        tokenizer, is_byte_token = _loaded(self.tokenizer)
        writers: dict[Split, TextShardWriter] = {}
        read = ReadCounts()
        unreported = 0
        with ExitStack() as stack:
            for text in self.file.texts(read):
                data = text.encode("utf-8")
                split = self.file.split or ("valid" if self._is_held_out(data) else "train")
                writer = writers.get(split)
                if writer is None:
                    prefix = outputs.path(f"{self.corpus}/{self.file.name}.{split}")
                    writer = TextShardWriter(
                        prefix, tokenizer, prepend_bos=self.prepend_bos, is_byte_token=is_byte_token
                    )
                    writers[split] = stack.enter_context(writer)
                writer.add(text, size_bytes=len(data))
                unreported += 1
                if unreported == _REPORT_DOCUMENTS:
                    report(unreported, 0)
                    unreported = 0
        report(unreported, self.file.size_bytes)
        return {"counts": {split: writer.counts.to_json() for split, writer in writers.items()}, "blank": read.blank}

    def _is_held_out(self, data: bytes) -> bool:
        return bool(self.held_out) and text_hash(data) in self.held_out


@dataclass(frozen=True)
class JoinWork:
    """Joins the parts of a corpus into its shards, and writes their sidecars; that of the train shard is the last."""

    job: ShardJob
    info: TokenizerInfo
    parts: Path
    counts: tuple[Mapping[str, Mapping[str, int]], ...]
    blank_documents: int

    def __call__(self, outputs: Outputs, report: Report) -> Mapping[str, Any]:
        """See :class:`megatron.corpus.engine.task.Work`; the shards go into their own folder, and not into the task's.

        They are made in a hidden folder beside their places, so that a killed process leaves nothing among them: the
        next one to join the corpus empties that folder.
        """
        job = self.job
        totals = {split: EncodeCounts() for split in SPLITS}
        for counts in self.counts:
            for split in SPLITS:
                totals[split].add(EncodeCounts(**counts.get(split, {})))
        for split in reversed(SPLITS):
            remove_shard(job.prefix(split))
        if not totals["train"].documents:
            blank = f"; {self.blank_documents} documents are blank" if self.blank_documents else ""
            files = ", ".join(file.place for file in job.files)
            raise CorpusError(f"{job.corpus.name}: no documents in {files}{blank}; remove the corpus")
        staging = job.folder / f".{job.corpus.name}.joining"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            prefixes = [self._make(staging, split, totals, report) for split in SPLITS if totals[split].documents]
            for prefix in prefixes:
                for path in (bin_path(prefix), idx_path(prefix), sidecar_path(prefix)):
                    path.replace(job.folder / path.name)
            fsync_folder(job.folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return {}

    def _make(self, staging: Path, split: Split, totals: Mapping[Split, EncodeCounts], report: Report) -> Path:
        """Write one shard and its sidecar into a folder; return its prefix there."""
        prefix = staging / self.job.prefix(split).name
        shard = self._shard(prefix, split, totals[split], report)
        held_out = totals["valid"].documents
        save_sidecar(Sidecar(shard, self.info, self.job.made_from, held_out, self.blank_documents), prefix)
        return prefix

    def _shard(self, prefix: Path, split: Split, counts: EncodeCounts, report: Report) -> ShardInfo:
        """Write one shard, and describe it."""
        job, corpus = self.job, self.job.corpus
        readers = [
            ShardReader(self.parts / corpus.name / f"{file.name}.{split}")
            for file, parts in zip(job.files, self.counts, strict=True)
            if split in parts
        ]
        content_hash = join_spans([Span.whole(reader) for reader in readers], prefix, report=lambda n: report(0, n))
        return ShardInfo(
            name=corpus.name,
            path=prefix.name,
            split=split,
            source=corpus.source,
            language="-".join(label.language for label in corpus.labels),
            script="-".join(label.script for label in corpus.labels),
            dtype=readers[0].dtype.name,
            content_hash=content_hash,
            code=corpus.code,
            **counts.to_json(),
        )


def remove_shard(prefix: Path) -> None:
    """Remove a shard of an earlier run, sidecar first, so that no manifest can list half of it."""
    for path in (sidecar_path(prefix), idx_path(prefix), bin_path(prefix)):
        path.unlink(missing_ok=True)


def tokenise_jobs(
    jobs: Sequence[ShardJob], tokenizer: TokenizerFile, info: TokenizerInfo, runner: Runner, work: Path
) -> dict[str, str]:
    """Make the shards of corpora.

    Args:
        jobs: the corpora.
        tokenizer: the tokenizer, which every process loads.
        info: what it is, and how documents begin.
        runner: runs the tasks.
        work: folder of the parts; may be removed afterwards.

    Returns:
        What went wrong, by the name of the corpus; the other corpora are finished.
    """
    encode = {
        (job.corpus.name, file.name): Task(
            f"{job.corpus.name}/{file.name}",
            fingerprint_of(job.made_from, file.name, file.fingerprint, sorted(job.held_out)),
            file.size_bytes,
            EncodeWork(job.corpus.name, file, job.held_out, tokenizer, info.prepend_bos),
        )
        for job in jobs
        for file in job.files
    }
    records, failed = runner.attempt("encode", work / "parts", list(encode.values()))
    problems: dict[str, str] = {}
    joins = []
    for job in jobs:
        names = [f"{job.corpus.name}/{file.name}" for file in job.files]
        if of_files := [failed[name] for name in names if name in failed]:
            problems[job.corpus.name] = of_files[0]
        if all(name in records for name in names):
            counts = tuple(records[name].result["counts"] for name in names)
            tokens = sum(split["tokens"] for each in counts for split in each.values())
            blank = sum(records[name].result["blank"] for name in names)
            join = JoinWork(job, info, work / "parts", counts, blank)
            joins.append(Task(job.corpus.name, fingerprint_of("join", job.made_from), tokens, join))
    _, failed = runner.attempt("join", work / "joined", joins)
    return problems | failed


@functools.cache
def _loaded(file: TokenizerFile) -> tuple[Tokenizer, npt.NDArray[np.bool_]]:
    """Load a tokenizer, and which of its tokens are bytes, once in each process."""
    tokenizer = file.load()
    return tokenizer, tokenizer.byte_token_mask()
