"""The rules of stage filters, in their order: a document is dropped by the first that it breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from megatron.config.corpus_schema import FiltersConfig, Thresholds
from megatron.corpus.document import Dropped
from megatron.corpus.filtering.language_id import find_scorer
from megatron.corpus.filtering.limits import limits_of
from megatron.corpus.filtering.measures import DIGIT, PUNCTUATION, Measures
from megatron.corpus.filtering.perplexity import find_model
from megatron.corpus.filtering.word_lists import find_word_list
from megatron.corpus.languages import parse_label, to_iso639_3
from megatron.languages.script import NO_SCRIPTS, looks_like

#: Name of each rule and what it drops, in the order in which they are checked.
RULES: Mapping[str, str] = MappingProxyType(
    {
        "few_characters": "fewer characters than min_characters",
        "many_characters": "more characters than max_characters",
        "few_bytes": "fewer UTF-8 bytes than min_bytes",
        "many_bytes": "more UTF-8 bytes than max_bytes",
        "urls": "a larger share of characters in URLs than max_urls",
        "punctuation": "a larger share of punctuation and symbols than max_punctuation",
        "digits": "a larger share of digits than max_digits",
        "character_run": "one character more often in a row than max_character_run",
        "repeated_lines": "a larger share of text in lines that came before than max_repeated_lines",
        "script": "a smaller share of letters in the script of the label than min_script",
        "character_share": "a larger share of one character than max_character_share",
        "repeated_ngrams": "a larger share of text in n-grams that came before than max_repeated_ngrams",
        "listed_words": "a larger share of words of the language's word list than max_listed_words",
        "language": "a smaller score for the label's language than min_language_score",
        "perplexity": "a larger perplexity under the language's model than max_perplexity",
    }
)

Measure = Callable[[Measures], float]


class _Rule(NamedTuple):
    """A measure and its limit; ``smallest`` says that the limit is the least that is allowed."""

    name: str
    measure: Measure | None
    limit: float | None
    smallest: bool = False


class Filters:
    """Checks the documents of one corpus.

    Args:
        settings: section ``filters``.
        code: the corpus code, ``xxx_Ssss``.
        source: the name of the source; ``code`` has limits of its own.
        resolve: any language code to ISO 639-3; the labels of the language model are read by it.

    Attributes:
        not_applied: names of the rules that have a limit but no model, or no list, for this language.

    Raises:
        CorpusError: a model or a list that cannot be read, or a package that is missing.
    """

    def __init__(
        self, settings: FiltersConfig, *, code: str, source: str, resolve: Callable[[str], str] = to_iso639_3
    ) -> None:
        limits = limits_of(settings, code, source)
        rules = (*_plain_rules(limits, code), *_model_rules(settings, limits, code, resolve))
        self.not_applied = tuple(rule.name for rule in rules if rule.limit is not None and rule.measure is None)
        self._checks = [
            (rule.name, rule.measure, rule.limit, rule.smallest)
            for rule in rules
            if rule.limit is not None and rule.measure is not None
        ]

    def check(self, text: str) -> Dropped | None:
        """Return the first rule that ``text`` breaks, with what was measured and its limit; None when it is kept."""
        measures = Measures(text)
        for name, measure, limit, smallest in self._checks:
            value = measure(measures)
            if value < limit if smallest else value > limit:
                return Dropped(name, value, limit)
        return None


def _plain_rules(limits: Thresholds, code: str) -> Iterator[_Rule]:
    """Yield the rules that need nothing but the text, the cheapest first."""
    yield _Rule("few_characters", lambda text: text.characters, limits.min_characters, smallest=True)
    yield _Rule("many_characters", lambda text: text.characters, limits.max_characters)
    yield _Rule("few_bytes", lambda text: text.size_bytes, limits.min_bytes, smallest=True)
    yield _Rule("many_bytes", lambda text: text.size_bytes, limits.max_bytes)
    yield _Rule("urls", Measures.url_share, limits.max_urls)
    yield _Rule("punctuation", lambda text: text.share(PUNCTUATION), limits.max_punctuation)
    yield _Rule("digits", lambda text: text.share(DIGIT), limits.max_digits)
    yield _Rule("character_run", Measures.longest_run, limits.max_character_run)
    yield _Rule("repeated_lines", Measures.repeated_lines, limits.max_repeated_lines)
    script = _script(code)
    if script:
        yield _Rule("script", lambda text: text.script_share(script), limits.min_script, smallest=True)
    yield _Rule("character_share", Measures.largest_share, limits.max_character_share)
    size = limits.ngram_characters
    if size is not None:
        yield _Rule("repeated_ngrams", lambda text: text.repeated_ngrams(size), limits.max_repeated_ngrams)


def _model_rules(
    settings: FiltersConfig, limits: Thresholds, code: str, resolve: Callable[[str], str]
) -> Iterator[_Rule]:
    """Yield the rules that need a list or a model, which is only read where there is a limit."""
    words = model = scorer = None
    if limits.max_listed_words is not None and settings.word_lists:
        words = find_word_list(settings.word_lists, code, looks_like(_script(code))[0])
    if limits.min_language_score is not None and settings.language_model:
        scorer = find_scorer(settings.language_model, code, resolve)
    if limits.max_perplexity is not None and settings.perplexity_models:
        model = find_model(settings.perplexity_models, code)
    for name, measure, limit, smallest in (
        ("listed_words", words and words.share, limits.max_listed_words, False),
        ("language", scorer, limits.min_language_score, True),
        ("perplexity", model, limits.max_perplexity, False),
    ):
        yield _Rule(name, _of_text(measure) if measure else None, limit, smallest)


def _of_text(measure: Callable[[str], float]) -> Measure:
    return lambda text: measure(text.text)


def _script(code: str) -> str:
    """Return the script that a corpus code claims; empty for none."""
    label = parse_label(code)
    return label.script if label and label.script not in NO_SCRIPTS else ""
