"""Language codes: any ISO 639 code, BCP 47 tag or English name to ISO 639-3, and labels such as ``eng_Latn``.

Nothing here guesses: what stands for no single language is kept as it is, or is ``und``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from megatron.config.corpus_schema import LanguagesConfig
from megatron.corpus.document import CorpusError
from megatron.languages.script import OTHER_SCRIPTS, UNICODE_SCRIPTS
from megatron.languages.tables import Kind, codes, macrolanguages, names, sign_languages, tags

#: ISO 639-3 for "undetermined": what every code gets that maps to no single language.
UNDETERMINED = "und"

#: Longer codes are not looked at: they mean nothing.
MAX_CODE_CHARACTERS = 100

_LABEL = re.compile(r"([a-z]{3})_([A-Z][a-z]{3})")
# BCP 47 joins subtags by dashes, MaLA and most corpora by underscores; POSIX locales have `sr_RS.UTF-8@latin`.
_JOINTS = re.compile(r"[-_.@]")
_SUBTAG = re.compile(r"[a-z0-9]+")
_MAX_CACHED_CODES = 1 << 16

# MaLA writes Japanese as `jpn_Japn`; every other script code of its list is in ISO 15924.
_SCRIPT_ALIASES = {"Japn": "Jpan"}
_SCRIPTS = frozenset(UNICODE_SCRIPTS + OTHER_SCRIPTS)
_MALA_SCRIPTS = {"Jpan": "Japn", "Kore": "Hang", "Hans": "Hani", "Hant": "Hani"}


@dataclass(frozen=True)
class Label:
    """A language in a script.

    Attributes:
        language: ISO 639-3, or what the label's author wrote in its place (MaLA also has ISO 639-2 collections).
        script: ISO 15924.
    """

    language: str
    script: str

    @property
    def code(self) -> str:
        """The label as written: ``eng_Latn``."""
        return f"{self.language}_{self.script}"


@dataclass(frozen=True)
class Resolution:
    """What a language code stands for.

    Attributes:
        code: ISO 639-3; the code itself where it stands for no single language but means something (a collection,
            private use, a retired code that was split); else ``und``.
        kind: what sort of thing ``code`` is; ``unknown`` where nothing is known of what was written.
        via: how it was found, step by step: ``("alias", "ISO 639-1", "map")``.
        script: the script that the code names besides the language, ISO 15924, or None.
    """

    code: str
    kind: Kind
    via: tuple[str, ...]
    script: str | None = None


def parse_label(text: str) -> Label | None:
    """Read a label of the form ``xxx_Ssss``; None when ``text`` is not one.

    The script must be in ISO 15924 (MaLA's ``Japn`` is read as ``Jpan``). The language is kept as written, so that
    results can be joined with published tables: MaLA's list has collections (``ber``), retired codes (``eml``) and
    private use (``qaa``). :class:`LanguageResolver` says what each of them is.
    """
    match = _LABEL.fullmatch(text)
    if match is None:
        return None
    script = _SCRIPT_ALIASES.get(match[2], match[2])
    return Label(match[1], script) if script in _SCRIPTS else None


def parse_pair(text: str) -> tuple[Label, Label] | None:
    """Read the label of a language pair, ``xxx_Ssss-yyy_Ssss``; None when ``text`` is not one."""
    first, dash, second = text.partition("-")
    labels = parse_label(first), parse_label(second)
    if not dash or labels[0] is None or labels[1] is None:
        return None
    return labels[0], labels[1]


def mala_code(label: Label) -> str:
    """Return a label as MaLA's published tables write it: ``jpn_Japn``, ``kor_Hang``, ``zho_Hani``.

    Only spellings are undone: what was merged stays merged (MaLA's ``ajp_Arab`` is in ``apc_Arab``).
    """
    return f"{label.language}_{_MALA_SCRIPTS.get(label.script, label.script)}"


def to_iso639_3(code: str) -> str:
    """Return the ISO 639-3 code of an ISO 639-1, -2/B, -2/T or -3 code or of a BCP 47 tag; ``und`` when it has none.

    Of a tag the language counts (``pt-BR``, ``zh_Hant`` and ``eng_Latn`` work), or the extended language subtag that
    refines it (``zh-yue`` is ``yue``). Retired codes that were merged or renamed give their successor. Macrolanguages
    stay as they are. Codes that were split or declared non-existent, ISO 639-2 collections, private use and unknown
    codes are ``und``: choosing a language for them would be a guess. So are names.
    """
    found = _read_tag(code[: MAX_CODE_CHARACTERS + 1])
    return found.code if found.kind in ("language", "macrolanguage", "special") else UNDETERMINED


def script_subtag(code: str) -> str | None:
    """Return the script that a BCP 47 tag names (``zh-Hant`` gives ``Hant``), in ISO 15924; None when it names none."""
    for subtag in _subtags(code)[1:]:
        if len(subtag) == 1:  # an extension or private use begins
            return None
        script = _SCRIPT_ALIASES.get(subtag.title(), subtag.title())
        if script in _SCRIPTS:
            return script
    return None


class LanguageResolver:
    """Resolves language codes of any kind, by the settings of a corpus.

    In this order: the user's aliases (a whole code, or what it begins with: ``cn`` of ``cn-Hans``); BCP 47 tags and
    all codes of ISO 639; English names; then macrolanguages, if they are wanted; last the user's map, once.

    Args:
        settings: the section `languages`.

    Raises:
        CorpusError: an alias or an entry of the map, or a language to drop, that is not known; names each of them.
    """

    def __init__(self, settings: LanguagesConfig) -> None:
        problems: list[str] = []
        self._macrolanguages: Mapping[str, str] = macrolanguages() if settings.macrolanguages == "map" else {}
        self._cache: dict[str, Resolution] = {}
        self._aliases: dict[str, Resolution] = {}
        for alias, target in settings.aliases.items():
            if _key(alias) in self._aliases:
                problems.append(f"languages.aliases has {alias!r} twice, spelt in two ways; keep one")
            self._aliases[_key(alias)] = _read(target)
            if _read(target).kind == "unknown":
                problems.append(f"languages.aliases: {alias!r} stands for {target!r}, which is no known language")
        self._map = dict(settings.map)
        problems += _map_problems(settings.map)
        if not problems:
            problems += self._drop_problems(settings.drop)
        if problems:
            raise CorpusError("\n".join(problems))

    def resolve(self, code: str) -> Resolution:
        """Return what ``code`` stands for; ``und`` of kind ``unknown`` when nothing is known of it."""
        if len(code) > MAX_CODE_CHARACTERS:
            return Resolution(UNDETERMINED, "unknown", ())
        found = self._cache.get(code)
        if found is None:
            if len(self._cache) >= _MAX_CACHED_CODES:
                self._cache.clear()
            found = self._cache[code] = self._mapped(self._alias(code) or _read(code))
        return found

    def _alias(self, code: str) -> Resolution | None:
        """Look the code up among the aliases, or its first subtag; a script in the code itself wins."""
        key = _key(code)
        found = self._aliases.get(key) or self._aliases.get(key.partition("-")[0])
        if found is None:
            return None
        return replace(found, via=("alias", *found.via), script=script_subtag(code) or found.script)

    def _mapped(self, found: Resolution) -> Resolution:
        group = self._macrolanguages.get(found.code)
        if group is not None and found.code not in self._map:
            found = replace(found, code=group, kind="macrolanguage", via=(*found.via, "macrolanguage"))
        if found.code not in self._map:
            return found
        target = codes()[self._map[found.code]]
        return replace(found, code=target.code, kind=target.kind, via=(*found.via, "map"))

    def _drop_problems(self, drop: tuple[str, ...]) -> Iterator[str]:
        for code in drop:
            found = self.resolve(code)
            if found.kind == "unknown":
                yield f"languages.drop: {code!r} is no known language"
            elif found.code != code:
                yield f"languages.drop: {code!r} never comes out, because it becomes {found.code!r}; write that"


def _map_problems(table: Mapping[str, str]) -> Iterator[str]:
    """Say which entries of a map are not from one code to another, as codes come out of the tables."""
    for key, target in table.items():
        for code in (key, target):
            found = _read(code)
            if found.kind == "unknown":
                yield f"languages.map: {key!r} goes to {target!r}, but {code!r} is no known language"
            elif found.code != code:
                yield f"languages.map: {key!r} goes to {target!r}, but {code!r} is written {found.code!r} here"
        if key == UNDETERMINED:
            yield f"languages.map: {key!r} is no language; give `inputs` without one their own `language` instead"


def _read(code: str) -> Resolution:
    """Read a tag or a name. Names with a dash come before tags: ``Aka-Bea`` is not Akan."""
    name = " ".join(code.split()).casefold()
    if _JOINTS.search(name) and (spoken := names().get(name)):
        return _named(spoken)
    found = _read_tag(code)
    # Two or three letters are a code or nothing.
    if found.kind == "unknown" and len(name) > 3 and (spoken := names().get(name)):
        return _named(spoken)
    return found


def _named(code: str) -> Resolution:
    return Resolution(code, codes()[code].kind, ("name",))


def _read_tag(code: str) -> Resolution:
    """Read a code or a BCP 47 tag; kind ``unknown`` when it is neither."""
    subtags = _subtags(code)
    script = script_subtag(code)
    unknown = Resolution(UNDETERMINED, "unknown", (), script)
    if len(code) > MAX_CODE_CHARACTERS or not all(map(_SUBTAG.fullmatch, subtags)):
        return unknown
    for length in range(min(len(subtags), 3), 0, -1):
        entry = tags().get("-".join(subtags[:length]))
        if entry is not None:
            return Resolution(entry.code, entry.kind, (entry.via,), script)
    entry = codes().get(subtags[0])
    if entry is None:
        return unknown
    extended = codes().get(subtags[1]) if len(subtags) > 1 and len(subtags[1]) == 3 else None
    if extended is not None and (
        macrolanguages().get(extended.code) == entry.code or (entry.code == "sgn" and extended.code in sign_languages())
    ):
        return Resolution(extended.code, extended.kind, (extended.via, "extlang"), script)
    return Resolution(entry.code, entry.kind, (entry.via,), script)


def _key(code: str) -> str:
    return "-".join(_subtags(code))


def _subtags(code: str) -> list[str]:
    return _JOINTS.split(code.strip().lower())
