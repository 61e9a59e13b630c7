"""Raw text to token shards and their manifest: many corpora at a time, in parallel, restartable."""

from __future__ import annotations

import functools
import multiprocessing
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from megatron.corpus.encode import CorpusJob, TokeniseOptions, finished, tokenise_corpus
from megatron.corpus.read import CorpusError, CorpusFiles, find_corpora
from megatron.data.indexed import ShardError
from megatron.data.manifest import (
    MANIFEST_NAME,
    Manifest,
    ManifestError,
    ShardInfo,
    Sidecar,
    TokenizerInfo,
    collect_manifest,
    load_sidecar,
    save_manifest,
)
from megatron.tokenizer.base import Tokenizer, TokenizerError
from megatron.tokenizer.load import load_tokenizer
from megatron.utils.log import get_logger
from megatron.utils.table import text_table

__all__ = ["TokeniseError", "TokeniseOptions", "TokenizerFile", "summary_table", "tokenise_corpora"]

_POLL_SECONDS = 0.2
_PROBLEMS = (CorpusError, TokenizerError, ShardError, OSError)  # of one corpus; the others go on

_logger = get_logger(__name__)


class TokeniseError(ValueError):
    """Some corpora could not be tokenised; the message lists every one of them."""


@dataclass(frozen=True)
class TokenizerFile:
    """Which tokenizer to load, in every worker process (see :func:`megatron.tokenizer.load.load_tokenizer`)."""

    tokenizer_type: str
    vocab_file: Path
    eod_token: str | None = None

    def load(self) -> Tokenizer:
        """Load it."""
        return load_tokenizer(self.tokenizer_type, self.vocab_file, eod_token=self.eod_token)


def tokenise_corpora(
    inputs: Sequence[Path],
    output_prefix: Path,
    *,
    tokenizer: TokenizerFile,
    options: TokeniseOptions | None = None,
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
        workers: processes; a corpus is the unit of work.
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
    info = TokenizerInfo.of(tokenizer.load(), prepend_bos=options.prepend_bos)
    folder, jobs, problems = _plan(inputs, output_prefix, options)
    _refuse_other_tokenizers(folder, jobs, info)
    # Delayed: only many finished corpora take time here, because their files are read.
    with tqdm(jobs, desc="compare", unit="corpus", delay=2, leave=False, disable=not show_progress) as compared:
        todo = [job for job in compared if finished(job, info) is None]
    if len(todo) < len(jobs):
        _logger.info("%d of %d corpora are finished already and are skipped", len(jobs) - len(todo), len(jobs))
    if todo:
        # From here to the end the folder is in between: a manifest of the old shards must not lead to the new ones.
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
    todo.sort(key=lambda job: (-job.size_bytes, job.name))  # the largest first, so that no worker is left with it alone
    total_bytes = sum(job.size_bytes for job in todo)
    with tqdm(
        total=total_bytes, desc="tokenise", unit="B", unit_scale=True, disable=not (show_progress and todo)
    ) as bar:
        run = _run_here if workers == 1 or len(todo) < 2 else partial(_run_in_pool, workers=workers)
        for job, result in run(todo, tokenizer, bar.update):
            if isinstance(result, str):
                problems.append(result)
            else:
                _log_finished(job, result)
    manifest = _write_manifest(folder)
    if manifest is None or problems:
        listed = "\n".join(sorted(problems)) or "--input names nothing"
        state = f"{folder / MANIFEST_NAME} lists the finished ones" if manifest else "none is finished"
        raise TokeniseError(f"{len(problems)} corpora or inputs could not be tokenised ({state}):\n{listed}")
    return manifest


def summary_table(manifest: Manifest, *, corpora: int = 0) -> str:
    """Return what a manifest holds as a table: a line per corpus, the largest first, and the sum of all.

    Args:
        manifest: the shards.
        corpora: how many corpora to list; 0 lists all.
    """
    shards_of: dict[str, list[ShardInfo]] = {}
    for shard in manifest.shards:
        shards_of.setdefault(shard.name, []).append(shard)
    names = sorted(shards_of, key=lambda name: (-sum(shard.bytes for shard in shards_of[name]), name))
    shown = names[:corpora] if corpora else names
    cells: list[tuple[str, ...]] = [("corpus", "documents", "words", "tokens", "bytes", "bytes/token", "held out")]
    cells += [_summary_row(name, shards_of[name]) for name in shown]
    cells.append(_summary_row(f"all {len(names)}", manifest.shards))
    lines = text_table(cells).splitlines()
    if len(shown) < len(names):
        lines.insert(-1, f"... and {len(names) - len(shown):,} more")
    return "\n".join(lines)


def _summary_row(name: str, shards: Sequence[ShardInfo]) -> tuple[str, ...]:
    documents, words, tokens, size_bytes = (
        sum(getattr(shard, key) for shard in shards) for key in ("documents", "words", "tokens", "bytes")
    )
    held_out = sum(shard.documents for shard in shards if shard.split == "valid")
    numbers = (f"{number:,}" for number in (documents, words, tokens, size_bytes))
    return (name, *numbers, f"{size_bytes / tokens:.2f}", f"{held_out:,}")


def _plan(
    inputs: Sequence[Path], output_prefix: Path, options: TokeniseOptions
) -> tuple[Path, list[CorpusJob], list[str]]:
    """Return the folder of the shards, a job per corpus, and what is wrong with inputs that cannot be used."""
    one_file = len(inputs) == 1 and inputs[0].is_file()
    folder = output_prefix.parent if one_file else output_prefix
    found: list[CorpusFiles] = []
    problems: list[str] = []
    for path in inputs:
        try:
            found += find_corpora(path, text_key=options.text_key)
        except CorpusError as error:
            problems.append(str(error))
    names = [output_prefix.name] if one_file else [corpus.name for corpus in found]
    jobs = [CorpusJob(name, corpus, folder, options) for name, corpus in zip(names, found, strict=False)]
    owners: dict[Path, CorpusJob] = {}
    for job in jobs:
        for prefix in (job.prefix("train"), job.prefix("valid")):
            if prefix in owners:
                raise TokeniseError(
                    f"two corpora would be written to {prefix}: {owners[prefix].files.paths[0]} and "
                    f"{job.files.paths[0]}; rename one, or tokenise them into different folders"
                )
            owners[prefix] = job
    return folder, jobs, problems


def _refuse_other_tokenizers(folder: Path, jobs: Sequence[CorpusJob], info: TokenizerInfo) -> None:
    """Find out before the work, not after it, that the folder's manifest could not be written."""
    replaced = {job.prefix(split).name for job in jobs for split in ("train", "valid")}
    for path in sorted(folder.glob("*_document.json")):
        if path.stem not in replaced and load_sidecar(path).tokenizer != info:
            raise ManifestError(
                f"{path}: this shard was made by another tokenizer or with another prepend_bos; one folder holds "
                "shards of one tokenizer. Choose another --output-prefix or delete the old shards"
            )


def _write_manifest(folder: Path) -> Manifest | None:
    """List the finished shards of the folder; without any, make sure that no old manifest claims some."""
    if not any(folder.glob("*_document.json")):
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
        return None
    manifest = collect_manifest(folder)
    save_manifest(manifest, folder / MANIFEST_NAME)
    return manifest


def _log_finished(job: CorpusJob, sidecar: Sidecar) -> None:
    blank = f", {sidecar.blank_documents:,} blank ones left out" if sidecar.blank_documents else ""
    documents = sidecar.shard.documents + sidecar.held_out_documents
    _logger.info("%s (%s): %s documents%s", job.name, sidecar.shard.code, f"{documents:,}", blank)


def _tokenise(job: CorpusJob, tokenizer: Tokenizer, report: Callable[[float], object]) -> Sidecar | str:
    """Do one corpus; return what went wrong with it as a message, so that the others go on.

    Args:
        job: the corpus.
        tokenizer: its tokenizer.
        report: is told of progress in bytes of the input files.
    """
    try:
        return tokenise_corpus(job, tokenizer, report=lambda part: report(part * job.size_bytes))
    except _PROBLEMS as error:
        message = str(error)
        return message if message.startswith(f"{job.name}:") else f"{job.name}: {message}"


def _run_here(
    jobs: Sequence[CorpusJob], tokenizer: TokenizerFile, report: Callable[[float], object]
) -> Iterator[tuple[CorpusJob, Sidecar | str]]:
    loaded = tokenizer.load()
    for job in jobs:
        yield job, _tokenise(job, loaded, report)


def _run_in_pool(
    jobs: Sequence[CorpusJob], tokenizer: TokenizerFile, report: Callable[[float], object], *, workers: int
) -> Iterator[tuple[CorpusJob, Sidecar | str]]:
    # Spawned, not forked: a forked child inherits the locks of threads that it does not have, and waits forever.
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
        reports = manager.Queue()
        waiting = {pool.submit(_work, job, tokenizer, reports): job for job in jobs}
        try:
            while waiting:
                done, _ = wait(waiting, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                _drain(reports, report)
                for future in done:
                    job = waiting.pop(future)
                    yield job, _result(future, job)
        finally:
            pool.shutdown(cancel_futures=True)


def _result(future: Future[Sidecar | str], job: CorpusJob) -> Sidecar | str:
    try:
        return future.result()
    except BrokenProcessPool:
        return f"{job.name}: not done, because a worker process died (out of memory?); run again with fewer --workers"


def _drain(reports: queue.Queue[float], report: Callable[[float], object]) -> None:
    """Pass on the progress that workers have sent."""
    while True:
        try:
            report(reports.get_nowait())
        except queue.Empty:
            return


def _work(job: CorpusJob, tokenizer: TokenizerFile, reports: queue.Queue[float]) -> Sidecar | str:
    return _tokenise(job, _loaded(tokenizer), reports.put)


@functools.cache
def _loaded(tokenizer: TokenizerFile) -> Tokenizer:
    """Load the tokenizer once in each worker process."""
    return tokenizer.load()
