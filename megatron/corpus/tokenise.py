"""Raw text to token shards and their manifest, in one step: many corpora at a time, in parallel, restartable."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from megatron.corpus.document import CorpusError
from megatron.corpus.engine.backend import Backend, Here, Pool
from megatron.corpus.engine.run import Runner
from megatron.corpus.engine.task import Outputs, Report, Task, fingerprint_of
from megatron.corpus.held_out import HeldOutChooser, bytes_for, names_of_nothing, text_hash
from megatron.corpus.passes.files import HashWork
from megatron.corpus.passes.tokenise import (
    SPLITS,
    ShardJob,
    finished,
    made_from,
    remove_shard,
    shard_prefix,
    tokenise_jobs,
)
from megatron.corpus.pieces import CorpusName
from megatron.corpus.read import CorpusFiles, ReadCounts, find_corpora, read_documents
from megatron.data.manifest import (
    MANIFEST_NAME,
    Manifest,
    ManifestError,
    Sidecar,
    TokenizerInfo,
    collect_manifest,
    load_sidecar,
    save_manifest,
)
from megatron.tokenizer.load import TokenizerFile
from megatron.utils.files import exclusive, fingerprint_file
from megatron.utils.log import get_logger

__all__ = ["TokeniseError", "TokeniseOptions", "TokenizerFile", "tokenise_corpora"]

_WORK = ".tokenise"  # folder of what is not finished, inside that of the shards

_logger = get_logger(__name__)


class TokeniseError(ValueError):
    """Some corpora could not be tokenised; the message lists every one of them."""


@dataclass(frozen=True)
class TokeniseOptions:
    """What decides the content of shards besides text and tokenizer.

    Attributes:
        text_key: the JSON field that holds the text.
        prepend_bos: begin every document with the beginning-of-text id.
        valid_bytes: hold out this much text of every corpus, 0 for none ...
        valid_fraction: ... but not more than this part of it (see :mod:`megatron.corpus.held_out`).
        fix_text: mend every text with ftfy, as GPT-NeoX's ``--ftfy`` does.
    """

    text_key: str = "text"
    prepend_bos: bool = False
    valid_bytes: int = 16384
    valid_fraction: float = 0.1
    fix_text: bool = False

    def __post_init__(self) -> None:
        if self.valid_bytes < 0 or not 0 < self.valid_fraction <= 0.5:
            raise TokeniseError(
                f"--valid-bytes {self.valid_bytes} must not be negative, and --valid-fraction {self.valid_fraction} "
                "must be above 0 and at most 0.5 (valid_fraction); to hold out nothing give --valid-bytes 0"
            )

    def chooser(self) -> HeldOutChooser:
        """Return what chooses the texts to hold out."""
        return HeldOutChooser(valid_bytes=self.valid_bytes, max_fraction=self.valid_fraction)


@dataclass(frozen=True)
class RawFile:
    """A file of documents as its author wrote it (see :class:`megatron.corpus.passes.tokenise.TextFile`).

    Attributes:
        path: the file.
        number: its place in its corpus.
        fingerprint: hash of its bytes, empty where it is not known yet.
        options: how to read it.
    """

    path: Path
    number: int
    options: TokeniseOptions
    fingerprint: str = ""
    split: None = None

    @property
    def name(self) -> str:
        """Unique in its corpus."""
        return f"{self.number:05d}"

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return str(self.path)

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""
        return self.path.stat().st_size if self.path.exists() else 0

    def texts(self, counts: ReadCounts | None = None) -> Iterator[str]:
        """Yield its texts; after the last, its content must still be that of the fingerprint."""
        for document in read_documents(self.path, text_key=self.options.text_key, counts=counts):
            yield _fixed(document.text) if self.options.fix_text else document.text
        if self.fingerprint and fingerprint_file(self.path) != self.fingerprint:
            raise CorpusError(f"{self.path}: the file changed while it was read; tokenise it again")


@dataclass(frozen=True)
class ScanWork:
    """Finds the documents of a file that may be held out."""

    file: RawFile

    def __call__(self, outputs: Outputs, report: Report) -> Mapping[str, Any]:
        """See :class:`megatron.corpus.engine.task.Work`."""
        chooser, counts = self.file.options.chooser(), ReadCounts()
        for text in self.file.texts(counts):
            data = text.encode("utf-8")
            chooser.add(text_hash(data), size_bytes=len(data))
        report(counts.documents, self.file.size_bytes)
        return {"total_bytes": chooser.total_bytes, "candidates": chooser.candidates()}


@dataclass(frozen=True)
class _Corpus:
    """A corpus to tokenise: what it is, and its files."""

    name: CorpusName
    files: tuple[RawFile, ...]

    def task_names(self) -> list[str]:
        return [f"{self.name.name}/{file.name}" for file in self.files]


def tokenise_corpora(
    inputs: Sequence[Path],
    output_prefix: Path,
    *,
    tokenizer: TokenizerFile,
    options: TokeniseOptions | None = None,
    valid_bytes_for: Mapping[str, int] = MappingProxyType({}),
    replace_other_tokenizer: bool = False,
    workers: int = 1,
    show_progress: bool = True,
) -> Manifest:
    """Tokenise corpora into shards with sidecars, and write the manifest of their folder.

    A corpus that was finished before, from files of the same names and contents with the same tokenizer and options, is
    not done again. The shards do not depend on ``workers``. A corpus that cannot be read stops no other.

    Args:
        inputs: document files, and folders as :func:`megatron.corpus.read.find_corpora` takes them.
        output_prefix: for one file, its shards are ``<output_prefix>_<key>_document.*``. For a folder or several inputs
            it is the folder of the shards ``<corpus>_<key>_document.*``. The manifest lies in the same folder.
        tokenizer: the tokenizer.
        options: what else decides the shards; None for the defaults.
        valid_bytes_for: other ``valid_bytes`` for corpora of these names, codes or sources (see
            :func:`megatron.corpus.held_out.bytes_for`).
        replace_other_tokenizer: write over shards of these corpora that another tokenizer has made.
        workers: processes; a file is the unit of work.
        show_progress: draw a progress bar on standard error.

    Returns:
        The manifest, which lists every finished shard of the folder.

    Raises:
        TokeniseError: lists every corpus that could not be tokenised. The others are finished and in the manifest.
        TokenizerError: the tokenizer cannot be loaded.
        ManifestError: the folder holds shards of another tokenizer.
    """
    options = TokeniseOptions() if options is None else options
    if workers < 1:
        raise TokeniseError(f"--workers {workers}: must be at least 1")
    info = TokenizerInfo.of(tokenizer.plain(), prepend_bos=options.prepend_bos)
    folder, corpora, problems = _plan(inputs, output_prefix, options, valid_bytes_for)
    _refuse_other_tokenizers(folder, corpora, options, info, may_replace=replace_other_tokenizer)
    if corpora:
        # Runs of several files, side by side, may write into one folder.
        work = folder / (f"{_WORK}-{output_prefix.name}" if folder != output_prefix else _WORK)
        with exclusive(work / "lock"), _backend(workers, sum(len(corpus.files) for corpus in corpora)) as backend:
            runner = Runner(backend, show_progress=show_progress)
            problems += _tokenise(corpora, folder, work, tokenizer, info, runner)
        shutil.rmtree(work, ignore_errors=True)
    manifest = _write_manifest(folder)
    if manifest is None or problems:
        listed = "\n".join(sorted(problems)) or "--input names nothing"
        state = f"{folder / MANIFEST_NAME} lists the finished ones" if manifest else "none is finished"
        raise TokeniseError(f"{len(problems)} corpora or inputs could not be tokenised ({state}):\n{listed}")
    return manifest


def _backend(workers: int, files: int) -> Backend:
    workers = min(workers, files)
    return Here() if workers == 1 else Pool(workers)


def _tokenise(
    corpora: Sequence[_Corpus],
    folder: Path,
    work: Path,
    tokenizer: TokenizerFile,
    info: TokenizerInfo,
    runner: Runner,
) -> list[str]:
    """Make the shards of corpora that are not finished; return what went wrong, a message for each corpus."""
    key = corpora[0].files[0].options.text_key
    hashed, problems = _hashed(corpora, runner, work)
    prints = {corpus.name.name: _made_from(corpus, info) for corpus in hashed}
    todo = [corpus for corpus in hashed if not finished(folder, corpus.name.name, key, prints[corpus.name.name])]
    if len(todo) < len(corpora):
        _logger.info("%d of %d corpora are finished already and are skipped", len(hashed) - len(todo), len(corpora))
    if todo or problems:
        # From here to the end the folder is in between: a manifest of the old shards must not lead to the new ones.
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
    jobs, failed = _scanned(todo, prints, folder, runner, work)
    problems |= failed
    problems |= tokenise_jobs(jobs, tokenizer, info, runner, work)
    for corpus in corpora:
        if corpus.name.name in problems:
            for split in reversed(SPLITS):
                remove_shard(shard_prefix(folder, corpus.name.name, key, split))
    for job in jobs:
        if job.corpus.name not in problems:
            _log_finished(job, load_sidecar(Path(f"{job.prefix('train')}.json")))
    return [message if message.startswith(f"{name}:") else f"{name}: {message}" for name, message in problems.items()]


def _hashed(corpora: Sequence[_Corpus], runner: Runner, work: Path) -> tuple[list[_Corpus], dict[str, str]]:
    """Return the corpora with the hashes of their files, and what went wrong with the others.

    Files are read whole, since size and time say too little: an edit may keep the size, and a copy changes the time.
    Reading is a hundred times faster than tokenising.
    """
    shutil.rmtree(work / "hashes", ignore_errors=True)
    tasks = [
        Task(name, "", file.size_bytes, HashWork((file.path,)))
        for corpus in corpora
        for name, file in zip(corpus.task_names(), corpus.files, strict=True)
    ]
    records, failed = runner.attempt("compare", work / "hashes", tasks)
    hashed: list[_Corpus] = []
    problems: dict[str, str] = {}
    for corpus in corpora:
        names = corpus.task_names()
        if of_files := [failed[name] for name in names if name in failed]:
            problems[corpus.name.name] = of_files[0]
        else:
            files = zip(corpus.files, names, strict=True)
            with_hash = (replace(file, fingerprint=records[name].result["hashes"][0]) for file, name in files)
            hashed.append(_Corpus(corpus.name, tuple(with_hash)))
    return hashed, problems


def _made_from(corpus: _Corpus, info: TokenizerInfo) -> str:
    options = asdict(corpus.files[0].options)
    return made_from(corpus.name, [(file.path.name, file.fingerprint) for file in corpus.files], info, options)


def _scanned(
    corpora: Sequence[_Corpus], prints: Mapping[str, str], folder: Path, runner: Runner, work: Path
) -> tuple[list[ShardJob], dict[str, str]]:
    """Choose what to hold out of each corpus; return what is to be done, and what went wrong."""
    tasks = [
        Task(name, fingerprint_of("scan", file.fingerprint, asdict(file.options)), file.size_bytes, ScanWork(file))
        for corpus in corpora
        for name, file in zip(corpus.task_names(), corpus.files, strict=True)
        if file.options.valid_bytes
    ]
    records, failed = runner.attempt("scan", work / "scanned", tasks)
    jobs: list[ShardJob] = []
    problems: dict[str, str] = {}
    for corpus in corpora:
        name, names = corpus.name.name, corpus.task_names()
        if of_files := [failed[each] for each in names if each in failed]:
            problems[name] = of_files[0]
            continue
        options = corpus.files[0].options
        chooser = options.chooser()
        for record in (records[each] for each in names if each in records):
            chooser.merge(record.result["candidates"], total_bytes=record.result["total_bytes"])
        held_out = frozenset(chooser.choose())
        jobs.append(ShardJob(corpus.name, folder, options.text_key, corpus.files, held_out, prints[name]))
    return jobs, problems


def _plan(
    inputs: Sequence[Path], output_prefix: Path, options: TokeniseOptions, valid_bytes_for: Mapping[str, int]
) -> tuple[Path, list[_Corpus], list[str]]:
    """Return the folder of the shards, the corpora, and what is wrong with inputs that cannot be used."""
    one_file = len(inputs) == 1 and inputs[0].is_file()
    folder = output_prefix.parent if one_file else output_prefix
    found: list[CorpusFiles] = []
    problems: list[str] = []
    for path in inputs:
        try:
            found += find_corpora(path, text_key=options.text_key)
        except CorpusError as error:
            problems.append(str(error))
    corpora = []
    owners: dict[Path, Path] = {}
    for files in found:
        name = output_prefix.name if one_file else files.name
        corpus = CorpusName(name, files.source, files.code)
        wanted = bytes_for(corpus, valid_bytes_for, default=options.valid_bytes)
        own = replace(options, valid_bytes=wanted)
        raw = tuple(RawFile(path, number, own) for number, path in enumerate(files.paths))
        corpora.append(_Corpus(corpus, raw))
        for split in reversed(SPLITS):
            prefix = shard_prefix(folder, name, options.text_key, split)
            if prefix in owners:
                raise TokeniseError(
                    f"two corpora would be written to {prefix}: {owners[prefix]} and {files.paths[0]}; rename one, or "
                    "tokenise them into different folders"
                )
            owners[prefix] = files.paths[0]
    if names := names_of_nothing(valid_bytes_for, (corpus.name for corpus in corpora)):
        _logger.warning("--valid-bytes-for: no corpus here is %s", ", ".join(names))
    return folder, corpora, problems


def _refuse_other_tokenizers(
    folder: Path, corpora: Sequence[_Corpus], options: TokeniseOptions, info: TokenizerInfo, *, may_replace: bool
) -> None:
    """Find out before the work, not after it, that the folder's manifest could not be written."""
    replaced = {
        shard_prefix(folder, corpus.name.name, options.text_key, split).name: corpus.name.name
        for corpus in corpora
        for split in SPLITS
    }
    for path in sorted(folder.glob("*_document.json")):
        try:
            sidecar = load_sidecar(path)
        except ManifestError:
            if path.stem in replaced:
                continue  # damaged, and about to be written anew
            raise
        if (name := replaced.get(path.stem, sidecar.shard.name)) != sidecar.shard.name:
            raise TokeniseError(
                f"{path}: is a shard of {sidecar.shard.name}, and one of {name} would have the same name; rename the "
                "corpus, or choose another --output-prefix"
            )
        is_replaced = path.stem in replaced
        if sidecar.tokenizer != info and not (is_replaced and may_replace):
            raise ManifestError(
                f"{path}: this shard was made by another tokenizer or with another prepend_bos; one folder holds "
                "shards of one tokenizer. Choose another --output-prefix or delete the old shards"
                + ("; --replace-other-tokenizer writes over them" if is_replaced else "")
            )


def _write_manifest(folder: Path) -> Manifest | None:
    """List the finished shards of the folder; without any, make sure that no old manifest claims some."""
    if not any(folder.glob("*_document.json")):
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
        return None
    manifest = collect_manifest(folder)
    save_manifest(manifest, folder / MANIFEST_NAME)
    return manifest


def _log_finished(job: ShardJob, sidecar: Sidecar) -> None:
    blank = f", {sidecar.blank_documents:,} blank ones left out" if sidecar.blank_documents else ""
    documents = sidecar.shard.documents + sidecar.held_out_documents
    _logger.info("%s (%s): %s documents%s", job.corpus.name, job.corpus.code, f"{documents:,}", blank)


def _fixed(text: str) -> str:
    import ftfy  # a tenth of a second, for those who ask for it

    return ftfy.fix_text(text)
