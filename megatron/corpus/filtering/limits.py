"""The limits of one corpus: built-in defaults, then what the settings say, the more special the later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from megatron.config.corpus_schema import FiltersConfig, Thresholds
from megatron.corpus.document import CorpusError
from megatron.corpus.languages import parse_label
from megatron.languages.script import OTHER_SCRIPTS, UNICODE_SCRIPTS, looks_like

#: Limits of all text but code. They are far from what good text measures; only the user can know how much quality is
#: worth how many words of a small language.
DEFAULTS = Thresholds(
    min_characters=20,
    max_character_run=100,
    max_character_share=0.5,
    max_repeated_lines=0.5,
    max_repeated_ngrams=0.5,
    ngram_characters=40,
    min_script=0.3,
    max_punctuation=0.4,
    max_digits=0.4,
    max_urls=0.3,
)

#: Limits of source code, which repeats itself, and is made of punctuation and Latin letters whatever its label says.
CODE_DEFAULTS = Thresholds(
    min_characters=10,
    max_character_run=1000,
    max_character_share=0.7,
    max_repeated_ngrams=0.9,
    ngram_characters=40,
    max_punctuation=0.8,
    max_digits=0.8,
)

#: Limits that only apply where there is a word list, or a model for language identification.
MAX_LISTED_WORDS, MIN_LANGUAGE_SCORE = 0.1, 0.3

_HAN = Thresholds(min_characters=5, ngram_characters=15)
_KANA = Thresholds(min_characters=5, ngram_characters=20)
_SYLLABLES = Thresholds(min_characters=8, ngram_characters=20)
_UNSPACED = Thresholds(min_characters=15, ngram_characters=30)

#: Defaults of scripts whose characters say more, or that write no blanks, as :func:`script_profile` names the scripts.
#: In Chinese a text takes 0.3 times the characters of its English translation, in Japanese 0.4, in Korean 0.5.
SCRIPT_DEFAULTS: Mapping[str, Thresholds] = MappingProxyType(
    {
        **dict.fromkeys(("Hani", "Bopo", "Yiii", "Nshu", "Tang"), _HAN),
        "Jpan": _KANA,
        **dict.fromkeys(("Kore", "Ethi", "Vaii"), _SYLLABLES),
        **dict.fromkeys(("Thai", "Khmr", "Laoo", "Mymr", "Tibt", "Cans", "Cher"), _UNSPACED),
    }
)


def limits_of(settings: FiltersConfig, code: str, source: str) -> Thresholds:
    """Return the limits of a corpus.

    A limit that a later one of these has wins: the defaults, those of the script, ``settings.limits``, then those of
    the script, the corpus code and the source in the settings. For code there are other defaults, and of the settings
    only those of the corpus code and the source count. A limit is switched off by a value that every text keeps:
    1 for the largest share, 0 for the smallest.

    Args:
        settings: section ``filters``.
        code: the corpus code, ``xxx_Ssss``.
        source: the name of the source, such as ``monolingual`` or ``code``.

    Raises:
        CorpusError: the settings name a script or a corpus code that does not exist.
    """
    _refuse_unknown(settings)
    merged: dict[str, int | float] = {}
    for layer in _layers(settings, code, source):
        merged |= {name: value for name, value in layer if value is not None}
    return Thresholds(**merged)  # type: ignore[arg-type]


def _layers(settings: FiltersConfig, code: str, source: str) -> Iterator[Thresholds]:
    nothing = Thresholds()
    if source == "code":
        yield CODE_DEFAULTS
    else:
        label = parse_label(code)
        script = label.script if label else ""
        yield DEFAULTS
        yield Thresholds(
            max_listed_words=MAX_LISTED_WORDS if settings.word_lists else None,
            min_language_score=MIN_LANGUAGE_SCORE if settings.language_model else None,
        )
        yield SCRIPT_DEFAULTS.get(looks_like(script)[0], nothing)
        yield settings.limits
        for variant in (looks_like(script)[0], script):
            yield settings.scripts.get(variant, nothing)
    for name, limits in settings.languages.items():
        if parse_label(name) == parse_label(code):
            yield limits
    for name, limits in settings.sources.items():
        if name == source:
            yield limits


def _refuse_unknown(settings: FiltersConfig) -> None:
    """Refuse limits that no corpus would ever meet."""
    for script in settings.scripts:
        if script not in UNICODE_SCRIPTS and script not in OTHER_SCRIPTS:
            raise CorpusError(f"filters.scripts: {script!r} is no script of ISO 15924; write one such as Latn or Hani")
    for code in settings.languages:
        if parse_label(code) is None:
            raise CorpusError(f"filters.languages: {code!r} is no corpus code; write one such as swh_Latn")
