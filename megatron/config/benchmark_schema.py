"""What a benchmark is: its data, its prompts, and how answers are scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, Strict
from pydantic_core import PydanticCustomError

from megatron.config.corpus_schema import LanguageCode
from megatron.config.fields import AnyCase, Count, CountOrZero, Fraction, PositiveOrZero, Section, Text, Texts
from megatron.config.templates import parse_template

DEFAULT = "default"
"""The wording of all languages that have none of their own."""
LANGUAGE_FIELDS = ("language", "source_language", "target_language")
"""Fields of templates that are what languages are called."""


def _is_template(text: str) -> str:
    try:
        parse_template(text)
    except ValueError as error:
        raise PydanticCustomError("template", "{rule}", {"rule": str(error)}) from None
    return text


def _as_labels(value: object) -> object:
    """Read a list of labels as labels that are written as they are called."""
    return {label: label for label in value} if isinstance(value, list) else value


Template = Annotated[str, Strict(), AfterValidator(_is_template)]
CorpusCode = Annotated[str, Strict(), Field(pattern=r"^[a-z]{3}_[A-Z][a-z]{3}$")]
Name = Annotated[str, Strict(), Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
Wording = Annotated[dict[CorpusCode | Literal["default"], Annotated[str, Strict()]], Field(min_length=1)]
Labels = Annotated[dict[Text, Text], BeforeValidator(_as_labels)]
Format = Literal["sib200", "taxi1500", "flores200", "xlsum", "massivesumm", "aya", "polywrite", "texts"]


class SamplingConfig(Section):
    """How tokens are chosen; greedy when absent. The seed is the run's."""

    temperature: PositiveOrZero = 0.0
    """Divides the logits; 0 takes the most likely token."""
    top_p: Fraction = 0.0
    """Choose among the fewest tokens that hold this probability; 0 or 1 is all."""
    top_k: CountOrZero = 0
    """Choose among so many tokens; 0 is all."""


class BenchmarkConfig(Section):
    """One benchmark.

    A prompt is the instruction, the shots and the query, joined by `separator`. Templates may have the fields of a
    prepared record (`{text}`, `{source}`), the names in `wording`, `{language}` (the English name of the language) and,
    of translations, `{source_language}` and `{target_language}`.
    """

    name: Name
    """Name of the file without its ending; not a key of it."""
    data: Name
    """Name of the folder of prepared data."""
    kind: Annotated[Literal["choices", "generation", "text"], AnyCase()]
    """`choices`: which label is the most likely; `generation`: the model writes; `text`: how likely texts are."""
    format: Annotated[Format, AnyCase()] | None = None
    """Upstream format that the data is prepared from."""
    languages: dict[LanguageCode, CorpusCode] = Field(default_factory=dict)
    """Upstream code to corpus code, `xxx_Ssss`, where it does not follow from the code itself."""
    contaminated: Text | None = None
    """Why training corpora hold this text, where they do; its scores carry a flag."""
    parity_with: CorpusCode | None = None
    """Of kind `text`, where the texts of all languages say the same: the language that the others are compared with by
    information parity, in scores of their own."""
    pivot: CorpusCode | None = None
    """Of translations the other language; records then have `source` and `target`."""
    direction: Annotated[Literal["from", "into"], AnyCase()] = "from"
    """Translate from the pivot, or into it."""
    instruction: Template = ""
    """What comes first, once."""
    prompt: Template = ""
    """The query."""
    answer: Template = ""
    """What follows a query in a shot; of `choices` what each label, `{label}`, makes of itself."""
    shot: Template | None = None
    """A shot, where it is not the query with its answer."""
    separator: Annotated[str, Strict()] = "\n\n"
    """Stands between the instruction, the shots and the query."""
    shots: CountOrZero = 0
    """Examples in a prompt."""
    shots_from: Annotated[Literal["train", "dev"], AnyCase()] = "train"
    """Split that they are taken from."""
    shot_choice: Annotated[Literal["seeded", "published-sample", "published-repeated"], AnyCase()] = "seeded"
    """`seeded`: different ones for each item, without replacement, by a hash of the run's seed, the benchmark, the
    language and the item. The others repeat the published scripts: seed 42, `DataFrame.sample` of pandas, or Python's
    `randint`, which may take one twice."""
    wording: dict[Annotated[str, Strict(), Field(pattern=r"^[a-z_]+$")], Wording] = Field(default_factory=dict)
    """Name of a field to its text in each language; `default` is for those without."""
    language_names: dict[CorpusCode, Text] = Field(default_factory=dict)
    """What languages are called in prompts, where it is not their English name in ISO 639-3. To a language that is not
    listed here and that the data has in several scripts the name of its script is added."""
    labels: Labels = Field(default_factory=dict)
    """Label in the data to what is written for it; a list when both are equal."""
    label_texts: dict[CorpusCode, dict[Text, Text]] = Field(default_factory=dict)
    """The same for single languages."""
    scoring: Annotated[Literal["likelihood", "last-token"], AnyCase()] = "likelihood"
    """`likelihood` of all of a label's text. `last-token` repeats published scripts: the probability that the last
    token of the label, alone, comes next."""
    premise: Template | None = None
    """A prompt without the item: how likely labels are after it is taken off for the metric `accuracy_pmi`."""
    reference: Name | None = None
    """Field of a record with its right answer."""
    shorten: Name | None = None
    """Field whose end is cut off where a prompt is longer than the model reads, which is counted."""
    maximum_tokens: Count = 256
    """Most new tokens of an answer."""
    stop: Texts = ()
    """An answer ends before the first of these."""
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    """How tokens are chosen."""
    empty_outputs: Annotated[Literal["count", "leave-out"], AnyCase()] = "count"
    """What becomes of answers that are empty or only dots: they count like others, or are left out as in published
    scripts; how many is a metric, `left_out`."""
    metrics: Annotated[Texts, Field(min_length=1)]
    """Names of metrics, the main one first."""
    _places: Mapping[tuple[str, ...], str] = PrivateAttr(default_factory=dict)

    def written_at(self, places: Mapping[tuple[str, ...], str]) -> BenchmarkConfig:
        """Return the same definition, which knows where it was written: path of keys to ``file.yml:12``."""
        found = self.model_copy()
        found._places = places
        return found

    def place(self, *path: str) -> str:
        """Return where the value at a path of keys was written, or the nearest around it; else the file's name."""
        for length in range(len(path), -1, -1):
            if (place := self._places.get(path[:length])) is not None:
                return place
        return f"{self.name}.yml"


Suites = Mapping[str, tuple[str, ...]]


class SuitesConfig(Section):
    """Names for lists of benchmarks."""

    suites: dict[Name, Texts]
    """Name to the names of benchmarks."""
    harness: dict[Name, Texts] = Field(default_factory=dict)
    """Name to the benchmarks of lm-evaluation-harness that belong to it as well."""
