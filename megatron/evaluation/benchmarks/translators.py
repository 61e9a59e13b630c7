"""Translators, behind one protocol: given translations, and language models that are shown examples."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.corpus.reading.problems import BrokenRecord, ReadCounts
from megatron.evaluation.benchmarks.manifest import BenchmarkDataError, sha256_of
from megatron.evaluation.benchmarks.prepare.rows import object_rows, text_of
from megatron.evaluation.benchmarks.prompts import PromptBuilder
from megatron.evaluation.language_model import LanguageModel
from megatron.generate.options import GenerationOptions


class Untranslated(enum.Enum):
    """Why a text has no translation."""

    MISSING = "there is none"
    CUT_OFF = "it ran into the limit of its length, and its end is missing"


Translation = str | Untranslated
"""A whole translation, or why there is none."""


class Translator(Protocol):
    """Translates texts.

    Attributes:
        name: tells it from others, in manifests.
    """

    name: str

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translation]:
        """Return the translation of every text; one that ran into the limit of its length is none.

        Args:
            texts: in the source language.
            source: corpus code.
            target: corpus code.
        """
        ...


class TranslationTable:
    """Translations from a file of JSON lines: ``source`` and ``target`` (corpus codes), ``text``, ``translation``.

    Args:
        path: the file. Of several translations of one text the first counts.

    Attributes:
        name: the file's name and hash.
        dropped: lines that cannot be used, by reason.

    Raises:
        BenchmarkDataError: it holds no translation.
        CorpusError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        counts = ReadCounts()
        self._pairs: dict[tuple[str, str], dict[str, str]] = {}
        for row in object_rows(path, ("source", "target", "text", "translation"), counts):
            try:
                source, target = text_of(row, "source"), text_of(row, "target")
                text, translation = text_of(row, "text"), text_of(row, "translation")
            except BrokenRecord as broken:
                counts.dropped[broken.reason] += 1
                continue
            self._pairs.setdefault((source, target), {}).setdefault(text, translation)
        self.name = f"table {path.name} {sha256_of(path)}"
        self.dropped: Mapping[str, int] = counts.dropped
        if not self._pairs:
            raise BenchmarkDataError(
                f"{path} holds no translation; write one {{source, target, text, translation}} a line "
                f"(lines left out: {dict(self.dropped)})"
            )

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translation]:
        """Return the translations that the file has."""
        found = self._pairs.get((source, target), {})
        return [found.get(text.strip(), Untranslated.MISSING) for text in texts]

    def examples(self, source: str, target: str, most: int) -> list[dict[str, str]]:
        """Return the first translations between two languages, turned round where only the other way is there."""
        pairs = list(self._pairs.get((source, target), {}).items())
        pairs = pairs or [(text, given) for given, text in self._pairs.get((target, source), {}).items()]
        return [{"source": text, "target": translation} for text, translation in pairs[:most]]


class ModelTranslator:
    """Asks a language model, greedily, after examples.

    Args:
        model: writes.
        name: tells it from others.
        examples: where examples are taken from; without them the model sees the instruction alone.
        shots: examples in a prompt.
        maximum_tokens: most tokens of a translation.
        language_names: corpus code to what the language is called, where it is not its English name in ISO 639-3.
    """

    def __init__(
        self,
        model: LanguageModel,
        name: str,
        *,
        examples: TranslationTable | None = None,
        shots: int = 3,
        maximum_tokens: int = 512,
        language_names: Mapping[str, str] | None = None,
    ) -> None:
        self._model, self._examples, self._shots = model, examples, shots
        self._names = dict(language_names or {})
        self._tokens = max(1, min(maximum_tokens, model.max_tokens // 2))
        shown = "no examples" if examples is None else f"{shots} examples of {examples.name}"
        self.name = f"model {name}, {self._tokens} tokens, {shown}"

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translation]:
        """Return what the model writes up to the end of its line; line feeds of a text are blanks to it."""
        shots = [] if self._examples is None else self._examples.examples(source, target, self._shots)
        benchmark = BenchmarkConfig(
            name="translation",
            data="none",
            kind="generation",
            pivot=source,
            direction="from",
            instruction="Translate the sentences from {source_language} to {target_language}.",
            prompt="{source_language}: {source}\n{target_language}:",
            answer=" {target}",
            language_names=self._names,
            metrics=("bleu",),
        )
        room = self._model.max_tokens - 1 - self._tokens
        builder = PromptBuilder(benchmark, target, self._model.tokenizer, room=room)
        flat = [[{key: _on_one_line(text) for key, text in shot.items()} for shot in shots]] * len(texts)
        prompts = [
            builder.build({"source": _on_one_line(text)}, these) for text, these in zip(texts, flat, strict=True)
        ]
        # A text that does not fit is not translated in part.
        fitting = [number for number, prompt in enumerate(prompts) if not prompt.cut_tokens]
        written = self._model.write(
            [prompts[number].ids for number in fitting], GenerationOptions(self._tokens, stop=("\n",))
        )
        found: list[Translation] = [Untranslated.MISSING] * len(texts)
        for number, answer in zip(fitting, written, strict=True):
            is_cut = answer.stop_reason == "length"
            found[number] = Untranslated.CUT_OFF if is_cut else answer.text.strip() or Untranslated.MISSING
        return found


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
