"""The corpus pipeline: which passes there are, in which order, and which stages each of them holds.

Stages that look at one document at a time run in one pass, so that text is read and written once for all of them:

    ========  ==============================  =====================================================================
    pass      stages                          unit of work, and what it writes
    ========  ==============================  =====================================================================
    read      read, languages, script         an input file: pieces of corpora, ``work/read``
    clean     clean, filters                  a piece: ``work/clean``
    dedup     dedup                           a piece, a range of keys, a piece: ``work/dedup``
    text      split, parallel                 a piece: ``text/<corpus>/{train,valid,test}-<piece>.jsonl.zst``
    shards    tokenise                        a file of ``text``: the folder of each tokenizer
    stats     stats                           ``stats.tsv``, ``stats.png``
    ========  ==============================  =====================================================================
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from megatron.config.corpus_schema import CorpusConfig, TokenizerConfig
from megatron.corpus.document import CorpusError
from megatron.corpus.engine.run import Runner, unfinished
from megatron.corpus.engine.task import TaskRecord
from megatron.corpus.held_out import names_of_nothing
from megatron.corpus.passes import clean, dedup, read, split
from megatron.corpus.passes.tokenise import SPLITS, ShardJob, finished, made_from, tokenise_jobs
from megatron.corpus.pieces import CorpusName, Piece, by_corpus, pieces_of, read_piece
from megatron.corpus.reading.find import find_inputs
from megatron.corpus.reading.problems import ReadCounts
from megatron.corpus.stats import TextSizes
from megatron.corpus.tally import Tally
from megatron.data.manifest import (
    Manifest,
    ManifestError,
    Split,
    TokenizerInfo,
    collect_manifest,
    load_manifest,
    save_manifest,
)
from megatron.tokenizer.load import TokenizerFile
from megatron.utils.files import exclusive, remove_abandoned
from megatron.utils.log import get_logger

#: The stages in their order, each with the last step that it needs.
STAGES = {
    "read": "read",
    "languages": "read",
    "script": "read",
    "clean": "clean",
    "filters": "clean",
    "dedup": "dedup",
    "split": "text",
    "parallel": "text",
    "tokenise": "shards",
    "stats": "stats",
    "all": "stats",
}

_KEY = "text"

_logger = get_logger(__name__)


@dataclass(frozen=True)
class TextPiece:
    """A file of the final text (see :class:`megatron.corpus.passes.tokenise.TextFile`)."""

    folder: Path
    piece: Piece
    split: Split

    @property
    def name(self) -> str:
        """Unique in its corpus."""
        return self.piece.stem

    @property
    def size_bytes(self) -> int:
        """Bytes of its texts."""
        return self.piece.text_bytes

    @property
    def fingerprint(self) -> str:
        """Hash of the file."""
        return self.piece.hash

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return self.piece.path

    def texts(self, counts: ReadCounts | None = None) -> Iterator[str]:
        """Yield its texts; none of them is blank."""
        for document in read_piece(self.folder, self.piece):
            yield document.text


class Pipeline:
    """Runs the pipeline of one configuration, as far as it is asked to and not done already.

    Args:
        config: what to do.
        runner: runs the tasks.

    Attributes:
        tally: what all finished passes have counted.
        codes: what each language code became: code as given, label, number of texts.
        sizes: what the text of each corpus holds.
        manifests: the shards, by the folder of the tokenizer.
    """

    def __init__(self, config: CorpusConfig, runner: Runner) -> None:
        self.config = config
        self.output = Path(config.output)
        self.tally = Tally(config.explain)
        self.codes: dict[tuple[str, str], int] = {}
        self.sizes: dict[CorpusName, TextSizes] = {}
        self.manifests: dict[str, Manifest] = {}
        self._work = self.output / "work"
        self._runner = runner

    def run(self, stage: str) -> None:
        """Run all passes up to the one that holds a stage.

        Args:
            stage: one of :data:`STAGES`.

        Raises:
            CorpusError: the input cannot be used; a pass has tasks that failed, which it lists.
        """
        steps: dict[str, Callable[[list[Piece]], list[Piece]]] = {
            "read": lambda _: self._read(),
            "clean": self._clean,
            "dedup": self._dedup,
            "text": self._split,
            "shards": self._tokenise,
        }
        last = STAGES[stage]
        share = self._runner.share
        lock = self.output / (".lock" if share.count == 1 else f".lock-{share.index}-of-{share.count}")
        with exclusive(lock):
            pieces: list[Piece] = []
            for name, step in steps.items():
                pieces = step(pieces)
                if name == last:
                    return

    def _read(self) -> list[Piece]:
        config = self.config
        files = find_inputs(config.inputs)
        hashes, problems = self._runner.attempt("compare", self._work / "hashes", read.hash_tasks(files))
        # A file that cannot be read keeps no other from being read.
        readable = [file for file in files if read.file_name(file) in hashes]
        settings = {
            "read": config.read,
            "languages": config.languages,
            "script": config.script,
            "instructions": config.instructions,
            "explain": config.explain,
        }
        digests = [hashes[read.file_name(file)].result["hashes"] for file in readable]
        tasks = read.read_tasks(readable, config.inputs, digests, settings)
        folder = self._work / "read"
        done, failed = self._runner.attempt("read", folder, tasks)
        if len(done) < len(files):
            raise unfinished("read", problems | failed, len(files) - len(done))
        self._runner.remove_others("read", folder, tasks)
        records = [done[task.name] for task in tasks]
        for record in records:
            for given, label, count in record.result["codes"]:
                self.codes[(given, label)] = self.codes.get((given, label), 0) + count
        return self._counted(records)

    def _clean(self, pieces: list[Piece]) -> list[Piece]:
        config = self.config
        settings = {
            "clean": config.clean,
            "filters": config.filters,
            "parallel": config.parallel,
            "languages": config.languages,
            "explain": config.explain,
        }
        tasks = clean.clean_tasks(self._work / "read", pieces, settings)
        return self._counted(self._runner.run("clean", self._work / "clean", tasks))

    def _dedup(self, pieces: list[Piece]) -> list[Piece]:
        settings, folder = self.config.dedup, self._work / "clean"
        if settings.paragraphs:
            pieces = self._without_doubles(folder, pieces, "paragraphs")
            folder = self._work / "paragraphs"
        if settings.exact or settings.near:
            pieces = self._without_doubles(folder, pieces, "documents")
        return pieces

    @property
    def _deduplicated(self) -> Path:
        """Folder of the pieces that go into the split."""
        settings = self.config.dedup
        if settings.exact or settings.near:
            return self._work / "dedup"
        return self._work / ("paragraphs" if settings.paragraphs else "clean")

    def _without_doubles(self, folder: Path, pieces: list[Piece], unit: dedup.Unit) -> list[Piece]:
        settings = self.config.dedup
        name = "dedup" if unit == "documents" else "paragraphs"
        keys, buckets = self._work / f"{name}-keys", self._work / f"{name}-buckets"
        records = self._runner.run(f"{name} keys", keys, dedup.keys_tasks(folder, pieces, settings, unit))
        groups = dedup.groups_of(pieces, settings)
        bucket_tasks = dedup.bucket_tasks(keys, groups, dedup.entries_of(pieces, records), settings, unit)
        self._runner.run(f"{name} buckets", buckets, bucket_tasks)
        tasks = dedup.apply_tasks(
            folder, groups, buckets, bucket_tasks, settings, unit=unit, explain=self.config.explain
        )
        return self._counted(self._runner.run(name, self._work / name, tasks))

    def _split(self, pieces: list[Piece]) -> list[Piece]:
        config, folder = self.config, self._deduplicated
        candidates, chosen = self._work / "candidates", self._work / "held-out"
        if names := names_of_nothing(config.split.valid_bytes_for, (piece.corpus for piece in pieces)):
            _logger.warning("split.valid_bytes_for: no corpus here is %s", ", ".join(names))
        tasks = split.candidates_tasks(folder, pieces, config.split)
        records = self._runner.run("candidates", candidates, tasks)
        choices = split.choose_tasks(candidates, pieces, records, config.split)
        self._runner.run("held out", chosen, choices)
        tasks = split.split_tasks(
            folder,
            pieces,
            chosen,
            choices,
            config.split,
            config.dedup,
            config.parallel,
            explain=config.explain,
        )
        records = self._runner.run("split", self.output / "text", tasks)
        for piece, record in zip(pieces, records, strict=True):
            self.sizes.setdefault(piece.corpus, TextSizes()).add(record.result["sizes"])
        return self._counted(records)

    def _tokenise(self, pieces: list[Piece]) -> list[Piece]:
        for tokenizer in self.config.tokenise:
            self.manifests[tokenizer.output] = self._shards(pieces, tokenizer)
        return pieces

    def _shards(self, pieces: Sequence[Piece], settings: TokenizerConfig) -> Manifest:
        """Make the shards of one tokenizer and their manifest."""
        folder = self.output / settings.output
        work = self._work / f"shards-{settings.output.replace('/', '--')}"
        tokenizer = TokenizerFile(
            settings.tokenizer_type, Path(settings.vocab_file), settings.eod_token, fast=settings.fast
        )
        info = TokenizerInfo.of(tokenizer.plain(), prepend_bos=settings.prepend_bos)
        jobs = list(self._jobs(pieces, folder, info))
        _refuse_one_name(jobs)
        todo = [job for job in jobs if not finished(folder, job.corpus.name, _KEY, job.made_from)]
        if todo:
            (folder / "manifest.json").unlink(missing_ok=True)
        problems = tokenise_jobs(todo, tokenizer, info, self._runner, work)
        left = [job for job in todo if not finished(folder, job.corpus.name, _KEY, job.made_from)]
        if left:
            listed = "\n".join(f"  {problems.get(job.corpus.name, job.corpus.name)}" for job in left[:20])
            raise CorpusError(f"{settings.output}: {len(left)} corpora are not tokenised:\n{listed}")
        if self._runner.share.count == 1:  # another part may still be waiting for the records in it
            shutil.rmtree(work, ignore_errors=True)
            remove_abandoned(folder)
        return _manifest(folder, jobs)

    def _jobs(self, pieces: Sequence[Piece], folder: Path, info: TokenizerInfo) -> Iterator[ShardJob]:
        for corpus, of_corpus in by_corpus(pieces).items():
            files = []
            for piece in of_corpus:
                kind = piece.stem.partition("-")[0]
                if kind in ("train", "valid"):
                    split_of: Split = "valid" if kind == "valid" else "train"
                    files.append(TextPiece(self.output / "text", piece, split_of))
            if not any(file.split == "train" for file in files):
                _logger.warning("%s: nothing is left to train on, so it has no shards", corpus.name)
                continue
            prints = [(file.name, file.fingerprint) for file in files]
            yield ShardJob(corpus, folder, _KEY, tuple(files), frozenset(), made_from(corpus, prints, info, {}))

    def _counted(self, records: Sequence[TaskRecord]) -> list[Piece]:
        """Add up what a pass has counted, and return its pieces."""
        for record in records:
            self.tally.merge(Tally.from_json(record.result["tally"], keep=self.config.explain))
        return pieces_of(records)


def _refuse_one_name(jobs: Sequence[ShardJob]) -> None:
    """Refuse corpora whose shards would have one name: ``x_valid``, and the held-out part of ``x``."""
    owners: dict[Path, str] = {}
    for job in jobs:
        for each in SPLITS:
            if (other := owners.setdefault(job.prefix(each), job.corpus.name)) != job.corpus.name:
                raise CorpusError(
                    f"two corpora would be written to {job.prefix(each)}: {other} and {job.corpus.name}; rename one"
                )


def _manifest(folder: Path, jobs: Sequence[ShardJob]) -> Manifest:
    """Write the manifest of a folder, without shards of corpora that are gone, which are left where they are."""
    found = collect_manifest(folder)
    names = {job.corpus.name for job in jobs}
    manifest = Manifest(found.tokenizer, tuple(s for s in found.shards if s.name in names), folder)
    if gone := {shard.name for shard in found.shards} - names:
        _logger.warning("%s: shards of corpora that are gone are not listed: %s", folder, ", ".join(sorted(gone)))
    try:
        if asdict(load_manifest(folder)) == asdict(manifest):
            return manifest
    except ManifestError:
        pass
    save_manifest(manifest, folder / "manifest.json")
    return manifest
