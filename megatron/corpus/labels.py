"""Stages languages and script: the label ``xxx_Ssss`` of every document, from its code, its corpus and its text."""

from __future__ import annotations

import functools
from typing import NamedTuple

from megatron.config.corpus_schema import LanguagesConfig, ScriptConfig
from megatron.corpus.document import Dropped
from megatron.corpus.languages import MAX_CODE_CHARACTERS, UNDETERMINED, Label, LanguageResolver, Resolution
from megatron.languages.script import NO_SCRIPT, NO_SCRIPTS, ScriptProfile, script_profile
from megatron.languages.tables import known_scripts

_MAX_CACHED_CLAIMS = 1 << 16

# ISO 639-3 for "no linguistic content": source code.
_NO_CONTENT = "zxx"
_UNDETERMINED = Resolution(UNDETERMINED, "special", ())

# Scripts are named as they are found, so that one language in one script has one label; Hans and Hant are settings.
_FOUND_AS = {"Hang": "Kore", "Hira": "Jpan", "Hrkt": "Jpan", "Jamo": "Kore", "Kana": "Jpan"}
_HAN = {"Hans": "Hani", "Hant": "Hani"}

# What the steps of a resolution are called in counts.
_STEPS = {"alias": "alias", "name": "name", "retired": "followed", "map": "mapped", "macrolanguage": "mapped"}


class Labelled(NamedTuple):
    """A document's label, and what happened on the way to it.

    Attributes:
        label: language and script.
        notes: names for counts, each once. Of the language: ``und`` (nothing says which), ``unknown_code`` (the code of
            the document, or else of its corpus, means nothing), ``relabelled`` (the document's code means another
            language than the corpus's), ``alias``, ``name``, ``followed`` (a retired code gave its successor),
            ``mapped``, and the kinds ``collective``, ``private`` and ``retired`` of codes that are kept. Of the script:
            ``script_found`` (the label named none), ``script_assumed`` (nor do the text's few letters, so it is the
            language's usual one), ``script_renamed`` (``Hang`` is ``Kore``), ``script_corrected``,
            ``script_contradicted`` (the label was kept against the text), ``mixed_script``, ``no_script`` (the text has
            no letters).
    """

    label: Label
    notes: tuple[str, ...]


class _Claim(NamedTuple):
    """What code and corpus say before the text is looked at; ``script`` is None when they name none."""

    language: str
    script: str | None
    notes: tuple[str, ...]
    known: tuple[str, ...]
    dropped: bool
    settled: Labelled | None


class Labeller:
    """Labels documents.

    A document's own code wins over its corpus's label, unless it is undetermined. The label's script is checked
    against the text, which contradicts it when it has at least ``min_letters`` characters of any script, and less than
    ``min_share`` of them are of the label's script or one that it is a variant of. Then the script of the text counts:
    the most frequent one with that share that the language is known to be written in, else the most frequent one. A
    language that no table lists, such as ``und``, may be written in any script. Where the label names no script, the
    one of the text is taken in the same way; if it is not known for the language, that is a contradiction too.

    Args:
        languages: how codes are resolved.
        script: what to do where text and label disagree.

    Raises:
        CorpusError: the settings name unknown languages.
    """

    def __init__(self, languages: LanguagesConfig, script: ScriptConfig) -> None:
        self._resolver = LanguageResolver(languages)
        self._drop = frozenset(languages.drop)
        self._script = script
        self._renamed = _FOUND_AS | (_HAN if script.han == "Hani" else {})
        self._claims: dict[tuple[str | None, Label | None], _Claim] = {}

    def label(self, text: str, *, code: str | None, corpus: Label | None) -> Labelled | Dropped:
        """Return the label of ``text``, or why the document goes no further.

        Args:
            text: the text.
            code: what the document says of its language, not interpreted, or None.
            corpus: the label of the corpus that it lies in, or None.

        Returns:
            Dropped by ``language`` (the settings leave it out), ``other_script`` or ``foreign_script`` (the text is in
            another script than its label says, which its language is, or is not, known to be written in).
        """
        claim = self._claims.get((code, corpus))
        if claim is None:
            claim = self._claim(code, corpus)
            if code is None or len(code) <= MAX_CODE_CHARACTERS:
                if len(self._claims) >= _MAX_CACHED_CLAIMS:
                    self._claims.clear()
                self._claims[code, corpus] = claim
        if claim.dropped:
            return Dropped("language")
        if claim.settled is not None:
            return claim.settled
        profile = script_profile(text)
        if not profile.letters:
            return _labelled(claim, claim.script or NO_SCRIPT, "no_script")
        if claim.script is None:
            return self._find(claim, profile)
        share = profile.share(claim.script)
        if share >= self._script.min_share or profile.letters < self._script.min_letters:
            return _labelled(claim, claim.script, *self._mixed(profile))
        return self._contradict(claim, profile, share)

    def _find(self, claim: _Claim, profile: ScriptProfile) -> Labelled | Dropped:
        """Take the script from the text, because the label names none."""
        found = self._script_of(profile, claim.known)
        if not claim.known or found in claim.known:
            return _labelled(claim, found, "script_found", *self._mixed(profile))
        if profile.letters < self._script.min_letters:
            return _labelled(claim, claim.known[0], "script_assumed")
        return self._contradict(claim, profile, 0.0)

    def _contradict(self, claim: _Claim, profile: ScriptProfile, share: float) -> Labelled | Dropped:
        """Do what the settings say about a text that is not in the script of its label."""
        found = self._script_of(profile, claim.known)
        known = not claim.known or found in claim.known
        policy = self._script.known if known else self._script.unknown
        if policy == "drop":
            return Dropped("other_script" if known else "foreign_script", share, self._script.min_share)
        if policy == "correct":
            return _labelled(claim, found, "script_corrected", *self._mixed(profile))
        script = claim.script or claim.known[0]
        return _labelled(claim, script, "script_contradicted", *self._mixed(profile))

    def _script_of(self, profile: ScriptProfile, known: tuple[str, ...]) -> str:
        """Choose among the scripts of a text: the main one of those that the language is known to be written in."""
        if profile.main in known or not known:
            return profile.main
        best = max(known, key=profile.share)
        return best if profile.share(best) >= self._script.min_share else profile.main

    def _mixed(self, profile: ScriptProfile) -> tuple[str, ...]:
        """Note a text whose second script has a share of its own."""
        if len(profile.counts) < 2 or profile.letters < self._script.min_letters:
            return ()
        second = list(profile.counts.values())[1]
        return ("mixed_script",) if second >= self._script.min_share * profile.letters else ()

    def _claim(self, code: str | None, corpus: Label | None) -> _Claim:
        own = self._resolver.resolve(code) if code is not None and code.strip() else None
        group = None if corpus is None else self._resolver.resolve(corpus.code)
        notes: dict[str, None] = {}
        if (own or group or _UNDETERMINED).kind == "unknown":
            notes["unknown_code"] = None
        if own is not None and own.code != UNDETERMINED:
            if group is not None and own.code != group.code:
                notes["relabelled"] = None
            language = own
        else:
            language = group or own or _UNDETERMINED
        script = own.script if own is not None else None
        if script is None and group is not None and group.code == language.code:
            script = group.script
        return self._describe(language, script, notes)

    def _describe(self, language: Resolution, script: str | None, notes: dict[str, None]) -> _Claim:
        if language.code == UNDETERMINED:
            notes["und"] = None
        elif language.kind in ("collective", "private", "retired"):
            notes[language.kind] = None
        notes |= {_STEPS[step]: None for step in language.via if step in _STEPS and step != language.kind}
        settled = None
        if language.code == _NO_CONTENT and script in NO_SCRIPTS:
            settled = Labelled(Label(_NO_CONTENT, NO_SCRIPT), tuple(notes))
        if script is None or script in NO_SCRIPTS:
            script = None
        elif script in self._renamed:
            script = self._renamed[script]
            notes["script_renamed"] = None
        return _Claim(
            language.code, script, tuple(notes), known_scripts(language.code), language.code in self._drop, settled
        )


def _labelled(claim: _Claim, script: str, *notes: str) -> Labelled:
    return _made(claim.language, script, claim.notes + notes)


@functools.lru_cache(maxsize=1 << 12)
def _made(language: str, script: str, notes: tuple[str, ...]) -> Labelled:
    """Make each of the few different results once."""
    return Labelled(Label(language, script), notes)
