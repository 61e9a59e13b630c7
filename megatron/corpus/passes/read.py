"""The first pass: raw files in, labelled documents out, sorted into corpora (stages read, languages and script)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from megatron.config.corpus_schema import InputConfig, InstructionsConfig, LanguagesConfig, ReadConfig, ScriptConfig
from megatron.corpus.cleaning.html import strip_html
from megatron.corpus.cleaning.mojibake import mend
from megatron.corpus.document import Document, Dropped
from megatron.corpus.engine.task import Outputs, Report, Task, fingerprint_of
from megatron.corpus.labels import Labelled, Labeller
from megatron.corpus.languages import Label
from megatron.corpus.passes.files import HashWork
from megatron.corpus.pieces import CorpusName, PieceWriter
from megatron.corpus.reading.find import InputFile
from megatron.corpus.reading.read import ReadCounts, read_input
from megatron.corpus.tally import Key, Tally
from megatron.languages.tables import known_scripts
from megatron.utils.files import fingerprint_bytes

_RECIPE = 2  # raise it when the same input gives another result, so that it is made again
_NAME_BYTES = 100
_REPORT_DOCUMENTS = 256
_CONTRADICTED = frozenset({"script_corrected", "script_contradicted"})


def hash_tasks(files: Sequence[InputFile]) -> list[Task]:
    """Return a task for each file that takes its hash, once, until its size or its time changes."""
    tasks = []
    for file in files:
        states = [(path.stat().st_size, path.stat().st_mtime_ns) for path in file.paths]
        fingerprint = fingerprint_of([str(path.resolve()) for path in file.paths], states)
        tasks.append(Task(file_name(file), fingerprint, file.size_bytes, HashWork(file.paths)))
    return tasks


@dataclass(frozen=True)
class ReadWork:
    """Reads and labels one input file."""

    file: InputFile
    input: InputConfig
    read: ReadConfig
    languages: LanguagesConfig
    script: ScriptConfig
    instructions: InstructionsConfig
    explain: int

    def __call__(self, outputs: Outputs, report: Report) -> Mapping[str, Any]:
        """See :class:`megatron.corpus.engine.task.Work`."""
        name = file_name(self.file)
        tally, counts = Tally(self.explain), ReadCounts()
        labels = Labelling(self.file, Labeller(self.languages, self.script), tally)
        writer = PieceWriter(outputs, name, (self.file.input_number, name, 0), piece_bytes=self.read.piece_bytes)
        for document in self._documents(counts, report):
            size_bytes = document.size_bytes
            tally.add(Key("read", self.file.corpus, "out"), size_bytes)
            corpus = labels.corpus_of(document, size_bytes)
            if corpus is not None:
                writer.add(corpus, document, size_bytes=size_bytes)
        for reason, count in counts.dropped.items():
            tally.add(Key("read", self.file.corpus, "dropped", reason), 0, documents=count)
        for reason, place in counts.examples:
            tally.show(Key("read", self.file.corpus, "dropped", reason), place, place, "")
        return {"pieces": writer.close(), "tally": tally.to_json(), "codes": labels.codes_seen()}

    def _documents(self, counts: ReadCounts, report: Report) -> Iterator[Document]:
        """Yield the documents of the file, and report progress by the part of it that is read."""
        reported, unreported = 0, 0
        documents = read_input(self.file, self.input, self.read, counts=counts, instructions=self.instructions)
        for document in documents:
            yield document
            unreported += 1
            if unreported == _REPORT_DOCUMENTS:
                report(unreported, counts.read_bytes - reported)
                reported, unreported = counts.read_bytes, 0
        report(unreported, self.file.size_bytes - reported)


class Labelling:
    """Says which corpus each document of a file belongs to, and counts how that was decided.

    Args:
        file: the file.
        labeller: finds the label of a text.
        tally: takes the counts.
    """

    def __init__(self, file: InputFile, labeller: Labeller, tally: Tally) -> None:
        self._file, self._labeller, self._tally = file, labeller, tally
        self._corpora: dict[tuple[Label, ...], CorpusName] = {}
        self._codes: dict[tuple[str, str], int] = {}

    def corpus_of(self, document: Document, size_bytes: int) -> CorpusName | None:
        """Return the corpus of a document; None where it is dropped."""
        if self._file.source == "code" or self._is_unlabelled(document):
            return self._unlabelled(self._file.label or Label("zxx", "Zyyy"))
        if self._file.pair is not None and document.target is None:
            return self._corpus(self._file.pair)  # both languages are in one text already
        sides = self._file.pair or (self._file.label, self._file.label)
        codes = (document.original_code, document.target_code)
        found = []
        for text, code, label in zip(document.texts, codes, sides, strict=False):
            labelled = self._label(text, code, label)
            if isinstance(labelled, Dropped):
                key = Key("script", self._file.corpus, "dropped", labelled.rule)
                self._tally.record(key, size_bytes, document.id, text, f"{code or label}: {labelled}")
                return None
            for note in labelled.notes:
                key = Key("languages", self._file.corpus, "noted", note)
                self._tally.record(key, size_bytes, document.id, text, f"{code or label} -> {labelled.label.code}")
            given = code or (label.code if label is not None else "")
            self._codes[(given, labelled.label.code)] = self._codes.get((given, labelled.label.code), 0) + 1
            found.append(labelled.label)
        return self._corpus(tuple(found))

    def _label(self, text: str, code: str | None, corpus: Label | None) -> Labelled | Dropped:
        """Label a text; where its letters speak against that, without its markup and wrongly decoded characters.

        Both look like Latin letters, whatever the script of the text, and stage clean, which removes them, comes later.
        """
        labelled = self._labeller.label(text, code=code, corpus=corpus)
        if not _is_doubtful(labelled):
            return labelled
        mended = mend(strip_html(text))
        return labelled if mended == text else self._labeller.label(mended, code=code, corpus=corpus)

    def codes_seen(self) -> list[list[Any]]:
        """Return what each code became: code as given, label, number of texts."""
        return [[*key, count] for key, count in sorted(self._codes.items())]

    def _is_unlabelled(self, document: Document) -> bool:
        """Whether neither the document nor the name of its corpus says anything about the language of special text."""
        label = self._file.label
        return (
            self._file.source in ("instruction", "book", "paper")
            and document.original_code is None
            and (label is None or label.language == "zxx")
        )

    def _unlabelled(self, label: Label) -> CorpusName:
        """Return the corpus of text whose language nothing names, such as code: that of its file, with its source."""
        source, name = self._file.source, self._file.corpus
        return CorpusName(name if name.startswith(source) else f"{source}-{name}", source, label.code)

    def _corpus(self, labels: tuple[Label, ...]) -> CorpusName:
        corpus = self._corpora.get(labels)
        if corpus is None:
            code = "-".join(label.code for label in labels)
            source = "bilingual" if len(labels) == 2 else self._file.source
            name = code if source in ("monolingual", "bilingual") else f"{source}-{code}"
            corpus = self._corpora[labels] = CorpusName(name, source, code)
        return corpus


def _is_doubtful(labelled: Labelled | Dropped) -> bool:
    """Whether the script of a text is not what its label says, or is Latin and the language's usual one is another."""
    if isinstance(labelled, Dropped):
        return labelled.rule != "language"
    if "script_found" in labelled.notes:
        return labelled.label.script == "Latn" and known_scripts(labelled.label.language)[:1] != ("Latn",)
    return not _CONTRADICTED.isdisjoint(labelled.notes)


def read_tasks(
    files: Sequence[InputFile],
    inputs: Sequence[InputConfig],
    hashes: Sequence[Sequence[str]],
    settings: Mapping[str, Any],
) -> list[Task]:
    """Return a task for each input file.

    Args:
        files: the files.
        inputs: the inputs that they belong to.
        hashes: the hashes of the files of each.
        settings: every other field of :class:`ReadWork`.
    """
    plain = {name: value.model_dump() for name, value in settings.items() if hasattr(value, "model_dump")}
    tasks = []
    for file, file_hashes in zip(files, hashes, strict=True):
        work = ReadWork(file=file, input=inputs[file.input_number], **settings)
        about = [file.input_number, file.name, file.corpus, file.source, str(file.label), str(file.pair)]
        fields = work.input.model_dump(exclude={"path"})
        fingerprint = fingerprint_of("read", _RECIPE, file_hashes, about, fields, plain, work.explain)
        tasks.append(Task(file_name(file), fingerprint, file.size_bytes, work))
    return tasks


def file_name(file: InputFile) -> str:
    """Return a name for an input file that is unique, and short enough for a file system."""
    name = file.name.replace("/", "--")
    if len(name.encode()) > _NAME_BYTES or "--" in file.name:
        name = f"{name.encode()[:_NAME_BYTES].decode(errors='ignore')}-{fingerprint_bytes(file.name.encode())[:12]}"
    return f"{file.input_number}-{name}"
