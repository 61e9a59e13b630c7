"""Measures corpora and parallel text with several tokenizers: the units of work on processes, and their sums."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from megatron.corpus.document import CorpusError
from megatron.corpus.engine.backend import Backend, Here, Pool
from megatron.corpus.engine.run import Runner
from megatron.corpus.engine.task import Task, TaskRecord, Work
from megatron.corpus.measure.inputs import Corpus, Inputs, Name, PairCorpus, ParallelSet, find
from megatron.corpus.measure.works import AlignedWork, How, PairWork, PivotRecords, PivotWork, TextWork
from megatron.corpus.reading.problems import REASONS
from megatron.tokenizer.measure.counts import LanguageCounts, ParallelCounts, Side
from megatron.tokenizer.measure.measured import Language, Measured, TokenizerFacts
from megatron.tokenizer.measure.measurer import MeasureSettings
from megatron.tokenizer.measure.source import TokenizerSource, loaded
from megatron.utils.log import get_logger

#: The language that others are compared with.
PIVOT = "eng_Latn"

_TOLD_PLACES = 10
_logger = get_logger(__name__)


def measure_corpora(
    tokenizers: Sequence[TokenizerSource],
    *,
    inputs: Sequence[Path] = (),
    parallel: Sequence[Path] = (),
    work: Path,
    settings: MeasureSettings | None = None,
    pivot: str = PIVOT,
    text_key: str = "text",
    workers: int = 1,
    show_progress: bool = True,
) -> Measured:
    """Measure what tokenizers make of text; the numbers do not depend on ``workers``, and memory not on the size.

    Args:
        tokenizers: the tokenizers.
        inputs: files and folders as :func:`megatron.corpus.read.find_corpora` takes them.
        parallel: folders of corpora whose records are the same text number by number, and corpora of pairs.
        work: folder for what is not needed afterwards; made if it is not there.
        settings: what is measured; None for the defaults.
        pivot: the language to compare with, by its code or the name of its corpus.
        text_key: the JSON field that holds the text.
        workers: processes; a file is the unit of work.
        show_progress: draw progress bars on standard error.

    Raises:
        CorpusError: what was given cannot be read, lists every file; or no record of all of it can be used. Other
            records that cannot be used are left out and counted.
        TokenizerError: a tokenizer cannot be loaded.
    """
    settings = MeasureSettings() if settings is None else settings
    if workers < 1:
        raise CorpusError(f"--workers {workers}: must be at least 1")
    facts = tuple(_facts(source) for source in tokenizers)
    found = find(inputs, parallel, text_key=text_key, pivot=pivot)
    # It may have been named by its corpus.
    pivot = next((each.pivot.name.code for each in found.sets), pivot)
    sums = _Sums(len(tokenizers), found)
    how = How(tuple(tokenizers), settings, text_key)
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".measure-", dir=work) as folder, _backend(workers, found) as backend:
        runner = Runner(backend, show_progress=show_progress)
        pivots = _run_pivots(found.sets, how, runner, Path(folder) / "pivots", sums)
        _run_rest(found, pivots, pivot, how, runner, Path(folder) / "rest", sums)
    languages = tuple(sums.languages[code] for code in sorted(sums.languages))
    sums.check_broken()
    left_out_of = {reason: dict(sorted(counts.items())) for reason, counts in sums.left_out_of.items()}
    return Measured(facts, languages, settings, pivot, dict(sums.left_out), left_out_of)


class _Sums:
    """Adds up what the units of work have counted."""

    def __init__(self, tokenizers: int, found: Inputs) -> None:
        self.languages: dict[str, Language] = {}
        self.left_out: Counter[str] = Counter(found.left_out)
        self.left_out_of: dict[str, Counter[str]] = defaultdict(Counter)
        self._broken: list[str] = []
        self._tokenizers = tokenizers

    def add_text(self, name: Name, corpus: str, content: Mapping[str, Any], *, parallel: bool) -> None:
        """Add the counts of a file of text."""
        language = self._language(name, corpus)
        counts = language.parallel_text if parallel else language.corpus
        if counts is None:
            counts = LanguageCounts.empty(self._tokenizers)
        counts.add(LanguageCounts.from_json(content))
        if parallel:
            language.parallel_text = counts
        else:
            language.corpus = counts

    def add_parallel(self, name: Name, corpus: str, counts: ParallelCounts) -> None:
        """Add what a file has in common with the pivot."""
        language = self._language(name, corpus)
        if language.parallel is None:
            language.parallel = ParallelCounts.empty(self._tokenizers)
        language.parallel.add(counts)
        if counts.unmatched:
            reason = "records of parallel text that the pivot or the other language does not have"
            self._leave_out(reason, corpus, counts.unmatched)

    def drop(self, record: TaskRecord, corpus: str) -> None:
        """Count the records that a file of a corpus was read without."""
        for reason, count in record.result["dropped"].items():
            what = "are blank" if reason == "blank" else f"cannot be used: {REASONS[reason]}"
            self._leave_out(f"records that {what}", corpus, count)
        self._broken += record.result["broken"]

    def check_broken(self) -> None:
        """Tell where records are that cannot be used; raise :class:`CorpusError` where there are no others."""
        if self._broken and not any(language.counts.text.documents for language in self.languages.values()):
            raise CorpusError(f"no record can be used, such as {self._broken[0]}; is --jsonl-key the right one?")
        for place in self._broken[:_TOLD_PLACES]:
            _logger.warning("left out: %s", place)
        if len(self._broken) > _TOLD_PLACES:
            _logger.warning("left out: more records; the report counts them")

    def _leave_out(self, reason: str, corpus: str, count: int) -> None:
        self.left_out[reason] += count
        self.left_out_of[reason][corpus] += count

    def _language(self, name: Name, corpus: str) -> Language:
        language = self.languages.setdefault(name.code, Language(name.code, name.script, name.is_language))
        if corpus not in language.corpora:
            language.corpora.append(corpus)
        return language


def _facts(source: TokenizerSource) -> TokenizerFacts:
    found = loaded(source)
    tokenizer, byte_tokens = found.tokenizer, int(found.byte_mask.sum())
    return TokenizerFacts(source.name, tokenizer.kind, tokenizer.vocab_size, byte_tokens, tokenizer.fingerprint)


def _backend(workers: int, found: Inputs) -> Backend:
    files = sum(len(corpus.files.paths) for corpus in found.corpora)
    files += sum(len(corpus.files.paths) for each in found.sets for corpus in (each.pivot, *each.others))
    files += sum(len(corpus.files.paths) for corpus in found.pairs)
    return Here() if min(workers, files) == 1 else Pool(min(workers, files))


def _task(name: str, path: Path, work: Work) -> Task:
    return Task(name, "", path.stat().st_size if path.exists() else 0, work)


def _run_pivots(
    sets: Sequence[ParallelSet], how: How, runner: Runner, folder: Path, sums: _Sums
) -> dict[tuple[int, int], PivotRecords]:
    """Measure the pivots; return the records of each set and file."""
    keys = [(number, file) for number, each in enumerate(sets) for file in range(len(each.pivot.files.paths))]
    tasks = []
    for number, file in keys:
        corpus = sets[number].pivot
        path, name = corpus.files.paths[file], f"{number}-{file}"
        tasks.append(_task(name, path, PivotWork(name, path, corpus.name.script, how)))
    found = {}
    for (number, file), record in zip(keys, runner.run("measure the pivot", folder, tasks), strict=True):
        corpus, counts = sets[number].pivot, ParallelCounts.from_json(record.result["parallel"])
        sums.add_text(corpus.name, corpus.files.name, record.result["counts"], parallel=True)
        sums.add_parallel(corpus.name, corpus.files.name, counts)
        sums.drop(record, corpus.files.name)
        path = folder / f"{number}-{file}.bin"
        found[number, file] = PivotRecords(path, counts.records, record.result["lines"])
    return found


def _run_rest(
    found: Inputs, pivots: Mapping[tuple[int, int], PivotRecords], pivot: str, how: How, runner: Runner, folder: Path,
    sums: _Sums,
) -> None:  # fmt: skip
    """Measure everything else, side by side."""
    tasks: list[Task] = []
    owners: list[Corpus | PairCorpus] = []
    for corpus in found.corpora:
        for path in corpus.files.paths:
            tasks.append(_task(f"{corpus.files.name}/{len(tasks)}", path, TextWork(path, corpus.name.script, how)))
            owners.append(corpus)
    for number, each in enumerate(found.sets):
        for corpus in each.others:
            for file, path in enumerate(corpus.files.paths):
                aligned = AlignedWork(path, corpus.name.script, how, pivots[number, file])
                tasks.append(_task(f"{corpus.files.name}/{len(tasks)}", path, aligned))
                owners.append(corpus)
    for pair in found.pairs:
        scripts = pair.sides[0].script, pair.sides[1].script
        for path in pair.files.paths:
            tasks.append(_task(f"{pair.files.name}/{len(tasks)}", path, PairWork(path, scripts, how)))
            owners.append(pair)
    for owner, record in zip(owners, runner.run("measure", folder, tasks), strict=True):
        sums.drop(record, owner.files.name)
        if isinstance(owner, PairCorpus):
            _add_pairs(owner, record.result, pivot, sums)
            continue
        aligned_counts = record.result.get("parallel")
        sums.add_text(owner.name, owner.files.name, record.result["counts"], parallel=aligned_counts is not None)
        if aligned_counts is not None:
            sums.add_parallel(owner.name, owner.files.name, ParallelCounts.from_json(aligned_counts))


def _add_pairs(pair: PairCorpus, result: Mapping[str, Any], pivot: str, sums: _Sums) -> None:
    for name, counts in zip(pair.sides, result["counts"], strict=True):
        sums.add_text(name, pair.files.name, counts, parallel=True)
    codes = [name.code for name in pair.sides]
    if pivot not in codes or codes[0] == codes[1]:
        sums.left_out[f"pairs that have no side in {pivot}: they count as text, not for the premium"] += result[
            "records"
        ]
        return
    other = 1 - codes.index(pivot)
    own, theirs = Side(**result["sides"][other]), Side(**result["sides"][1 - other])
    records = result["records"]
    sums.add_parallel(pair.sides[other], pair.files.name, ParallelCounts(records, 0, own, theirs))
    sums.add_parallel(pair.sides[1 - other], pair.files.name, ParallelCounts(records, 0, theirs, theirs))

