"""A corpus of over two hundred languages, made of what pip installs; nothing is downloaded.

The words are those of the Unicode CLDR as Babel carries it: names of countries, languages, currencies, units, cities,
and the patterns in which each language writes lists, dates, numbers and spans of time (see ``sample_pairs``). They make
short texts of real words in every script: enough to try the whole way from raw text to a trained model. The standard
library's own Python files are its source code. As in real collections, some languages have far more text than others:
here it grows with how much CLDR knows about them.

The same seed gives the same bytes while Babel, zstandard and Python (whose files are the source code) stay the same.
"""

from __future__ import annotations

import difflib
import sysconfig
import tokenize
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import orjson
import zstandard
from babel.core import get_global
from babel.localedata import locale_identifiers

from megatron.corpus.languages import UNDETERMINED, Label, script_subtag, to_iso639_3
from megatron.corpus.sample_pairs import Group, Row, Words, group_of, load_words, themes_of
from megatron.languages.script import main_script
from megatron.utils.files import atomic_write
from megatron.utils.log import progress

ENGLISH = "eng_Latn"

# As in real collections of parallel text: large languages of Europe and Asia, and a few of Africa.
_PAIRED = """
    afr_Latn amh_Ethi ara_Arab ben_Beng cym_Latn deu_Latn ell_Grek eus_Latn fas_Arab fin_Latn fra_Latn hau_Latn
    hin_Deva hun_Latn ibo_Latn ind_Latn isl_Latn jpn_Jpan kat_Geor khm_Khmr kor_Kore rus_Cyrl som_Latn spa_Latn
    swa_Latn tam_Taml tha_Thai tur_Latn vie_Latn yor_Latn zho_Hani zul_Latn
"""
#: The languages that are paired with English.
PAIRED_LANGUAGES: tuple[str, ...] = tuple(_PAIRED.split())

#: The corpus of source code.
CODE_CORPUS = "code-python"

# Simplified and traditional Chinese are both written in Han characters, which is all that a label says (as in MaLA).
_ONE_SCRIPT = {"Hans": "Hani", "Hant": "Hani"}

# How many names and units a language needs to say anything, and how many the best known have.
_MINIMUM_KNOWLEDGE = 100
_MAXIMUM_KNOWLEDGE = 1850
_LARGEST_BYTES = 100_000
_SMALLEST_BYTES = 2_600
_MINIMUM_DOCUMENTS = 12
_PAIR_ROWS = 10
_PAIR_BYTES = 25_000

_CODE_BYTES = 1_200_000
_CODE_FILE_BYTES = 60_000
_COMPRESSION_LEVEL = 6


@dataclass(frozen=True)
class SampleSummary:
    """What was written.

    Attributes:
        corpora: number of corpora, that is folders.
        documents: documents in all of them.
        bytes: UTF-8 bytes of their texts.
        skipped: CLDR locales left out: no ISO 639-3 code, too few words, or a script that another one already covers.
    """

    corpora: int
    documents: int
    bytes: int
    skipped: int


def build_sample_corpus(output: Path, *, seed: int = 0, languages: Sequence[str] | None = None) -> SampleSummary:
    """Write the sample corpus: ``<output>/<name>/part-000.jsonl.zst`` with ``text``, ``source`` and ``original_code``.

    Corpora are named ``xxx_Ssss``, ``eng_Latn-xxx_Ssss`` and ``code-python``. A document of a pair is ten sentences,
    each in English and in the other language on lines of their own that begin with the language's own name::

        English: Kenya, Chad and Peru
        Kiswahili: Kenya, Chad na Peru

    Args:
        output: folder to write to; it may hold an earlier sample corpus but nothing else.
        seed: chooses what the texts say.
        languages: corpus codes to restrict it to; pairs need both their languages. None: all.

    Raises:
        ValueError: an unknown language, or other things lie in ``output``.
    """
    locales, skipped = find_locales()
    chosen = _chosen(sorted(locales), languages)
    everything = {code: words for code in chosen if (words := load_words(locales[code], code)) and _usable(words)}
    if languages is not None and (poor := sorted(set(chosen) - set(everything))):
        raise ValueError(f"languages: CLDR knows too few words of {', '.join(poor)}; leave them out")
    pairs = [code for code in PAIRED_LANGUAGES if {code, ENGLISH} <= set(everything)]
    names = [*everything, *(f"{ENGLISH}-{code}" for code in pairs), CODE_CORPUS]
    _refuse_strangers(output, names)

    corpora, documents, size_bytes = 0, 0, 0
    for name in progress(names, description="sample corpus", total=len(names), unit="corpus"):
        if name == CODE_CORPUS:
            records = [{"text": text, "source": "python-stdlib"} for text in _python_files()]
        elif name in everything:
            records = _monolingual(everything[name], seed)
        else:
            records = _bilingual(everything[ENGLISH], everything[name.removeprefix(f"{ENGLISH}-")], seed)
        _write(output / name / "part-000.jsonl.zst", records)
        corpora += 1
        documents += len(records)
        size_bytes += sum(_size(record["text"]) for record in records)
    return SampleSummary(corpora, documents, size_bytes, skipped + len(chosen) - len(everything))


def find_locales() -> tuple[dict[str, str], int]:
    """Return corpus code -> CLDR locale, one locale for each language and script, and how many were left out.

    Regional variants are not looked at; a language's own locale goes before one that names a script.
    """
    likely = get_global("likely_subtags")
    found: dict[str, str] = {}
    skipped = 0
    for identifier in sorted(locale_identifiers(), key=lambda name: (name.count("_"), name)):
        script = script_subtag(identifier)
        if identifier.count("_") > (script is not None):
            continue
        language = to_iso639_3(identifier)
        script = script or script_subtag(likely.get(identifier, "")) or ""
        code = Label(language, _ONE_SCRIPT.get(script, script)).code
        if language == UNDETERMINED or not script or code in found:
            skipped += 1
        else:
            found[code] = identifier
    return found, skipped


def _chosen(known: Sequence[str], languages: Sequence[str] | None) -> list[str]:
    if languages is None:
        return list(known)
    for code in languages:
        if code not in known:
            close = difflib.get_close_matches(code, known, n=3, cutoff=0.5)
            hint = f"; close to it: {', '.join(close)}" if close else "; give codes such as swa_Latn"
            raise ValueError(f"languages: {code!r} is not in CLDR{hint}")
    return sorted(set(languages))


def _usable(words: Words) -> bool:
    """Whether a language has enough words and writes them in the script that its code says."""
    text = " ".join(name for table in words.names.values() for name in table.values())
    return words.knowledge >= _MINIMUM_KNOWLEDGE and words.code.endswith(f"_{main_script(text)}")


def _refuse_strangers(output: Path, names: Sequence[str]) -> None:
    """Refuse a folder with other corpora in it: they would be taken for a part of this one."""
    strangers = sorted(path.name for path in output.iterdir() if path.name not in names) if output.is_dir() else []
    if strangers:
        some = ", ".join(strangers[:3]) + (" ..." if len(strangers) > 3 else "")
        raise ValueError(f"{output}: holds what this sample corpus does not: {some}; give a new or an empty folder")


# ---- documents -------------------------------------------------------------------------------------------------------


def _monolingual(words: Words, seed: int) -> list[dict[str, str]]:
    """Write documents of one language until it has as much text as its share of CLDR allows."""
    share = min(1.0, words.knowledge / _MAXIMUM_KNOWLEDGE)
    size_bytes = max(_SMALLEST_BYTES, int(_LARGEST_BYTES * share**3))
    texts = _distinct(
        _rows(group_of(words), Random(f"{seed} {words.code}"), least=3, most=4 + int(12 * share)),
        lambda rows: "\n".join(row[0] for row in rows),
        size_bytes,
    )
    return [{"text": text, "original_code": str(words.locale), "source": "cldr"} for text in texts]


def _bilingual(english: Words, other: Words, seed: int) -> list[dict[str, str]]:
    """Write documents of sentences that are translations of each other."""
    group = group_of(english, other)
    names = [words.names["languages"].get(words.locale.language, words.code) for words in group.words]

    def text_of(rows: list[Row]) -> str:
        return "\n\n".join("\n".join(f"{name}: {side}" for name, side in zip(names, row, strict=True)) for row in rows)

    rows = _rows(group, Random(f"{seed} {english.code}-{other.code}"), least=_PAIR_ROWS, most=_PAIR_ROWS)
    return [{"text": text, "source": "cldr"} for text in _distinct(rows, text_of, _PAIR_BYTES)]


def _rows(group: Group, rng: Random, *, least: int, most: int) -> Iterator[list[Row]]:
    """Yield without end the rows of one document after another: some keep to one theme, others mix them."""
    themes = themes_of(group)
    while True:
        theme = rng.choice(themes)
        mixed = rng.random() < 0.4
        yield [(rng.choice(themes) if mixed else theme)(rng, group) for _ in range(rng.randint(least, most))]


def _distinct(documents: Iterator[list[Row]], text_of: Callable[[list[Row]], str], size_bytes: int) -> list[str]:
    """Return different texts until both their size and their number suffice."""
    texts: dict[str, None] = {}
    total = 0
    while total < size_bytes or len(texts) < _MINIMUM_DOCUMENTS:
        text = text_of(next(documents))
        if text not in texts:
            texts[text] = None
            total += _size(text)
    return list(texts)


def _python_files() -> Iterator[str]:
    """Yield the standard library's modules in the order of their names, up to a total size."""
    folder = Path(sysconfig.get_path("stdlib"))
    total = 0
    for path in sorted(folder.glob("*.py")):
        size_bytes = path.stat().st_size
        if 0 < size_bytes <= _CODE_FILE_BYTES and total + size_bytes <= _CODE_BYTES:
            total += size_bytes
            with tokenize.open(path) as file:  # knows the encoding that a module declares
                yield file.read()


def _write(path: Path, records: Sequence[dict[str, str]]) -> None:
    data = b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records)
    with atomic_write(path) as file:
        file.write(zstandard.ZstdCompressor(level=_COMPRESSION_LEVEL).compress(data))


def _size(text: str) -> int:
    return len(text.encode("utf-8"))
