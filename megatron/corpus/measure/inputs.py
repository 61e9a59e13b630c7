"""What is measured: the files of corpora, of parallel text item by item, and of pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from megatron.corpus.languages import UNDETERMINED, Label
from megatron.corpus.read import CorpusError, CorpusFiles, find_corpora

_NO_LANGUAGE = "zxx"


@dataclass(frozen=True)
class Name:
    """What a corpus counts as.

    Attributes:
        code: ``xxx_Ssss``; the name of the corpus where its language is not known, or it is in none.
        script: ISO 15924.
        is_language: whether it is text in a language that is known.
    """

    code: str
    script: str
    is_language: bool

    @classmethod
    def of(cls, label: Label, corpus: str) -> Name:
        """Return the name of a corpus with a label."""
        # Corpora of unknown languages are in different ones, which must not be added up.
        own = label.language in (UNDETERMINED, _NO_LANGUAGE)
        return cls(corpus if own else label.code, label.script, not own)


@dataclass(frozen=True)
class Corpus:
    """The files of one language's text, from one place."""

    name: Name
    files: CorpusFiles


@dataclass(frozen=True)
class ParallelSet:
    """Corpora whose records are the same text number by number; one of them is the pivot."""

    pivot: Corpus
    others: tuple[Corpus, ...]


@dataclass(frozen=True)
class PairCorpus:
    """The files of pairs of sentences, and what its two sides count as."""

    sides: tuple[Name, Name]
    files: CorpusFiles


@dataclass
class Inputs:
    """Everything to measure, and what was left out of it and why."""

    corpora: list[Corpus] = field(default_factory=list)
    sets: list[ParallelSet] = field(default_factory=list)
    pairs: list[PairCorpus] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def find(inputs: Sequence[Path], parallel: Sequence[Path], *, text_key: str, pivot: str) -> Inputs:
    """Find what to measure.

    Args:
        inputs: files and folders as :func:`megatron.corpus.read.find_corpora` takes them.
        parallel: the same, of corpora whose records are the same text number by number, or of pairs.
        text_key: the JSON field that holds the text.
        pivot: the code of the language to compare with, or the name of its corpus.

    Raises:
        CorpusError: lists everything that cannot be used or is given twice, and where the pivot is not.
    """
    found, problems = Inputs(), []
    for path in inputs:
        try:
            corpora = find_corpora(path, text_key=text_key)
        except CorpusError as error:
            problems.append(str(error))
            continue
        for files in corpora:
            if files.label is None:
                found.left_out["corpora of pairs in --input, which belong to --parallel"] += 1
            else:
                found.corpora.append(Corpus(Name.of(files.label, files.name), files))
    for path in parallel:
        try:
            _add_parallel(found, path, text_key=text_key, pivot=pivot)
        except CorpusError as error:
            problems.append(str(error))
    problems += _given_twice([corpus.files for corpus in found.corpora], "--input")
    sets = [corpus.files for each in found.sets for corpus in (each.pivot, *each.others)]
    problems += _given_twice([*sets, *(corpus.files for corpus in found.pairs)], "--parallel")
    if not problems and not (found.corpora or found.sets or found.pairs):
        problems.append("nothing to measure: give --input, or --parallel, or both")
    if problems:
        raise CorpusError("\n".join(problems))
    return found


def _given_twice(corpora: Sequence[CorpusFiles], option: str) -> list[str]:
    """Return a line for each file that would be counted twice, by whatever path it was given."""
    times = Counter(path.resolve() for files in corpora for path in files.paths)
    return [f"{path}: is given twice to {option}; give it once" for path, count in times.items() if count > 1]


def _add_parallel(found: Inputs, path: Path, *, text_key: str, pivot: str) -> None:
    alone: list[Corpus] = []
    for files in find_corpora(path, text_key=text_key):
        if files.pair is not None:
            names = Name.of(files.pair[0], files.name), Name.of(files.pair[1], files.name)
            found.pairs.append(PairCorpus(names, files))
        elif files.label is not None:
            alone.append(Corpus(Name.of(files.label, files.name), files))
    if alone:
        first = _pivot_of(alone, pivot, path)
        for corpus in alone:
            if len(corpus.files.paths) != len(first.files.paths):
                raise CorpusError(
                    f"{path}: {corpus.files.name} has {len(corpus.files.paths)} files, the pivot {first.files.name} "
                    f"{len(first.files.paths)}; record by record they cannot be compared: divide them equally"
                )
        found.sets.append(ParallelSet(first, tuple(corpus for corpus in alone if corpus is not first)))


def _pivot_of(corpora: Sequence[Corpus], pivot: str, path: Path) -> Corpus:
    by_name = [corpus for corpus in corpora if corpus.files.name == pivot]
    matching = by_name or [corpus for corpus in corpora if corpus.name.code == pivot]
    if len(matching) == 1:
        return matching[0]
    names = ", ".join(corpus.files.name for corpus in (matching or corpora)[:10])
    problem = f"{len(matching)} corpora are {pivot}" if matching else f"no corpus is {pivot}"
    raise CorpusError(f"{path}: {problem}; name the one to compare with: --pivot, such as {names}")
