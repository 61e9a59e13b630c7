"""Builds prompts that a model has room for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from megatron.config.benchmark_schema import DEFAULT, BenchmarkConfig
from megatron.config.templates import fill_template
from megatron.corpus.languages import Label, parse_label
from megatron.corpus.pairs.names import language_name, name_in_script, names_of_both
from megatron.evaluation.benchmarks.fields import plain_fields
from megatron.evaluation.benchmarks.shots import ShotChoice
from megatron.languages.tables import macrolanguages
from megatron.tokenizer.base import Tokenizer


class Prompt(NamedTuple):
    """A prompt.

    Attributes:
        text: all of it.
        ids: its ids, without the one that begins a text; no more than there is room for.
        shots_left_out: examples, from the first on, that there was no room for.
        shortened: characters cut off the end of the field that the definition lets be shortened.
        cut_tokens: tokens that were cut off the beginning because even so there was no room.
    """

    text: str
    ids: list[int]
    shots_left_out: int = 0
    shortened: int = 0
    cut_tokens: int = 0


class PromptBuilder:
    """Builds the prompts of a benchmark in one language.

    Args:
        benchmark: the definition.
        language: corpus code.
        tokenizer: of the model.
        room: most tokens of a prompt.
        scripts: those in which the data has the language, ISO 15924; prompts say which of several is wanted.

    Attributes:
        label_texts: label in the data to what is written for it.
        names: what templates may name besides the fields of a record.

    Raises:
        ValueError: there is no room at all.
    """

    def __init__(
        self,
        benchmark: BenchmarkConfig,
        language: str,
        tokenizer: Tokenizer,
        *,
        room: int,
        scripts: Collection[str] = (),
    ) -> None:
        if room < 1:
            raise ValueError(
                f"{benchmark.name}: the model has no room for a prompt beside the answer; lower `maximum_tokens`"
            )
        self._benchmark, self._language, self._tokenizer, self._room = benchmark, language, tokenizer, room
        self._given = given_texts(benchmark, language, scripts)
        self.names = frozenset(self._given)
        self.label_texts: Mapping[str, str] = benchmark.label_texts.get(language, benchmark.labels)

    def build_all(
        self, records: Sequence[Mapping[str, Any]], shots: Sequence[Mapping[str, Any]], *, seed: int
    ) -> list[Prompt]:
        """Return the prompt of every record, each with its own choice of the shots.

        Args:
            records: what is asked.
            shots: what examples are taken from.
            seed: of the run.

        Raises:
            ValueError: as :meth:`build`.
        """
        choice = ShotChoice(self._benchmark, self._language, available=len(shots), seed=seed)
        return [
            self.build(record, [shots[place] for place in choice.of(number, record["id"])])
            for number, record in enumerate(records)
        ]

    def build(self, record: Mapping[str, Any], shots: Sequence[Mapping[str, Any]]) -> Prompt:
        """Return the prompt of a record; where it is too long shots go first, and the query stays whole.

        Raises:
            ValueError: a template asks for a field that the record does not have.
        """
        head = [self._fill(self._benchmark.instruction, {})] if self._benchmark.instruction else []
        examples = [self.shot(shot) for shot in shots]
        query = self._fill(self._benchmark.prompt, record)
        for left_out in range(len(examples) + 1):
            text = self._benchmark.separator.join([*head, *examples[left_out:], query])
            ids = self._tokenizer.encode(text)
            if len(ids) <= self._room:
                return Prompt(text, ids, left_out)
        if self._benchmark.shorten is not None:
            return self._shortened(head, record, len(examples))
        return Prompt(text, ids[-self._room :], len(examples), cut_tokens=len(ids) - self._room)

    def shot(self, record: Mapping[str, Any]) -> str:
        """Return a record with its answer."""
        benchmark = self._benchmark
        return self._fill(benchmark.prompt + benchmark.answer if benchmark.shot is None else benchmark.shot, record)

    def label(self, label: str) -> str:
        """Return what a label makes of itself after a prompt."""
        return fill_template(self._benchmark.answer, {**self._given, "label": self.label_texts[label]})

    def premise(self) -> str | None:
        """Return the prompt without an item, if the benchmark has one."""
        return None if self._benchmark.premise is None else self._fill(self._benchmark.premise, {})

    def _shortened(self, head: Sequence[str], record: Mapping[str, Any], left_out: int) -> Prompt:
        """Cut as little as possible off the end of a field."""
        field = str(self._benchmark.shorten)
        whole = str(record[field])

        def built(characters: int) -> tuple[str, list[int]]:
            query = self._fill(self._benchmark.prompt, {**record, field: whole[:characters]})
            text = self._benchmark.separator.join([*head, query])
            return text, self._tokenizer.encode(text)

        fits, too_long = 0, len(whole)
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            if len(built(middle)[1]) <= self._room:
                fits = middle
            else:
                too_long = middle
        text, ids = built(fits)
        return Prompt(text, ids[-self._room :], left_out, len(whole) - fits, max(0, len(ids) - self._room))

    def _fill(self, template: str, record: Mapping[str, Any]) -> str:
        values = plain_fields(record)
        if "label" in values:
            values["label"] = self.label_texts.get(values["label"], values["label"])
        return fill_template(template, {**self._given, **values})


def given_texts(benchmark: BenchmarkConfig, language: str, scripts: Collection[str]) -> dict[str, str]:
    """Return what templates may name besides the fields of a record, with its text in a language."""
    wording = {name: texts.get(nearest(language, texts), texts[DEFAULT]) for name, texts in benchmark.wording.items()}
    return wording | _names(benchmark, language, scripts)


def nearest(language: str, table: Mapping[str, object]) -> str:
    """Return the code of a table that stands for a language: itself, or in the same script its only relative.

    Relatives are a macrolanguage and its members, as one benchmark has ``ara_Arab`` and another ``arb_Arab``.
    """
    label = parse_label(language)
    if language in table or label is None:
        return language
    groups = macrolanguages()
    own = groups.get(label.language, label.language)
    found = [
        code
        for code in table
        if (other := parse_label(code)) is not None
        and other.script == label.script
        and groups.get(other.language, other.language) == own
    ]
    return found[0] if len(found) == 1 else language


def _names(benchmark: BenchmarkConfig, language: str, scripts: Collection[str]) -> dict[str, str]:
    """Return what languages are called: ``language``, and of translations ``source_language``, ``target_language``."""
    given, label = benchmark.language_names, _label(language)
    in_script = name_in_script(label) if len(scripts) > 1 else None
    found = {"language": given.get(language) or in_script or language_name(label.language)}
    if benchmark.pivot is not None:
        names = names_of_both(_label(benchmark.pivot), label)
        pivot, other = given.get(benchmark.pivot) or names[0], given.get(language) or in_script or names[1]
        from_pivot = benchmark.direction == "from"
        found["source_language"] = pivot if from_pivot else other
        found["target_language"] = other if from_pivot else pivot
    return found


def _label(code: str) -> Label:
    label = parse_label(code)
    return label if label is not None else Label(code.partition("_")[0], code.partition("_")[2])
