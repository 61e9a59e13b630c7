"""The second pass: texts are cleaned and filtered, document by document (stages clean and filters)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from megatron.config.corpus_schema import CleanConfig, FiltersConfig, LanguagesConfig, ParallelConfig
from megatron.corpus.cleaning.cleaner import Cleaner
from megatron.corpus.document import Document, Dropped
from megatron.corpus.engine.task import Outputs, Report, Task, fingerprint_of
from megatron.corpus.filtering.filters import Filters
from megatron.corpus.languages import LanguageResolver
from megatron.corpus.pairs.filters import PairFilters
from megatron.corpus.passes.files import folder_fingerprint
from megatron.corpus.pieces import CorpusName, Piece, PieceWriter, read_piece
from megatron.corpus.tally import Key, Tally

_RECIPE = 1  # raise it when the same input gives another result, so that it is made again
_BLANK = Dropped("blank")
_BOTH_LANGUAGES = "mul_Zyyy"  # of documents that hold a text and its translation: no script is the right one


@dataclass(frozen=True)
class CleanWork:
    """Cleans and filters one piece."""

    folder: Path
    piece: Piece
    clean: CleanConfig
    filters: FiltersConfig
    parallel: ParallelConfig
    languages: LanguagesConfig
    explain: int

    def __call__(self, outputs: Outputs, report: Report) -> Mapping[str, Any]:
        """See :class:`megatron.corpus.engine.task.Work`."""
        corpus = self.piece.corpus
        tally = Tally(self.explain)
        cleaner = Cleaner(self.clean, source=corpus.source)
        check, not_applied = self._check(corpus)
        writer = PieceWriter(outputs, self.piece.stem, self.piece.order)
        for document in read_piece(self.folder, self.piece):
            size_bytes = document.size_bytes
            tally.add(Key("clean", corpus.name, "in"), size_bytes)
            report(1, size_bytes)
            document = _cleaned(document, cleaner, corpus, tally, size_bytes)
            if not all(text and not text.isspace() for text in document.texts):
                _drop(tally, "clean", corpus, document, _BLANK, size_bytes)
                continue
            size_bytes = document.size_bytes
            tally.add(Key("filters", corpus.name, "in"), size_bytes)
            dropped = check(document)
            if dropped is not None:
                _drop(tally, "filters", corpus, document, dropped, size_bytes)
                continue
            tally.add(Key("filters", corpus.name, "out"), size_bytes)
            writer.add(corpus, document, size_bytes=size_bytes)
        for rule in not_applied:
            tally.add(Key("filters", corpus.name, "noted", f"{rule}_not_applied"), 0, documents=self.piece.documents)
        return {"pieces": writer.close(), "tally": tally.to_json()}

    def _check(self, corpus: CorpusName) -> tuple[Callable[[Document], Dropped | None], Sequence[str]]:
        """Return the filters of a corpus, and the rules that have a limit but no model."""
        resolver = LanguageResolver(self.languages)
        code = _BOTH_LANGUAGES if corpus.is_pair else corpus.code
        filters = Filters(
            self.filters, code=code, source=corpus.source, resolve=lambda code: resolver.resolve(code).code
        )
        if not corpus.is_pair:
            return lambda document: filters.check(document.text), filters.not_applied
        source, target = corpus.labels
        pairs = PairFilters(self.parallel, source=source, target=target)

        def check(document: Document) -> Dropped | None:
            if document.target is None:
                return filters.check(document.text)
            return pairs.check(document.text, document.target)

        return check, ()


def _cleaned(document: Document, cleaner: Cleaner, corpus: CorpusName, tally: Tally, size_bytes: int) -> Document:
    texts, rules = [], set()
    for text in document.texts:
        cleaned = cleaner.clean(text)
        texts.append(cleaned.text)
        for rule in cleaned.rules:
            rules.add(rule)
            tally.show(Key("clean", corpus.name, "changed", rule), document.id, text, cleaned.text)
    for rule in rules:
        tally.add(Key("clean", corpus.name, "changed", rule), size_bytes)
    return replace(document, text=texts[0], target=texts[1] if len(texts) > 1 else None) if rules else document


def _drop(tally: Tally, stage: str, corpus: CorpusName, document: Document, reason: Dropped, size_bytes: int) -> None:
    key = Key(stage, corpus.name, "dropped", reason.rule)
    tally.record(key, size_bytes, document.id, "\n".join(document.texts), str(reason))


def clean_tasks(folder: Path, pieces: Sequence[Piece], settings: Mapping[str, Any]) -> list[Task]:
    """Return a task for each piece.

    Args:
        folder: the pieces' folder.
        pieces: the pieces.
        settings: every other field of :class:`CleanWork`.
    """
    filters: FiltersConfig = settings["filters"]
    models = [
        folder_fingerprint(path) for path in (filters.language_model, filters.word_lists, filters.perplexity_models)
    ]
    plain = {name: value.model_dump() for name, value in settings.items() if hasattr(value, "model_dump")}
    template = {"pairs_per_document", "template", "header", "separator", "direction", "seed"}  # decide no filter
    plain["parallel"] = settings["parallel"].model_dump(exclude=template)
    common = fingerprint_of("clean", _RECIPE, plain, models, settings["explain"])
    return [
        Task(
            f"{piece.corpus.name}/{piece.stem}",
            fingerprint_of(common, piece.hash, piece.path, asdict(piece.corpus)),
            piece.text_bytes,
            CleanWork(folder=folder, piece=piece, **settings),
        )
        for piece in pieces
    ]
