"""Which script a text is written in, as an ISO 15924 code.

A table maps every code point to its Unicode script (property ``Script`` of UAX #24, asked of the ``regex`` package).
A text is viewed as UTF-16, looked up in the table and counted, which runs at a few hundred MB/s.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import regex

#: What a text without any script-specific letter gets (digits, punctuation, emoji; "common" in ISO 15924).
NO_SCRIPT = "Zyyy"

# Unicode 17.
_UNICODE_SCRIPTS = """
    Adlm Aghb Ahom Arab Armi Armn Avst Bali Bamu Bass Batk Beng Berf Bhks Bopo Brah Brai Bugi Buhd Cakm Cans Cari Cham
    Cher Chrs Copt Cpmn Cprt Cyrl Deva Diak Dogr Dsrt Dupl Egyp Elba Elym Ethi Gara Geor Glag Gong Gonm Goth Gran Grek
    Gujr Gukh Guru Hang Hani Hano Hatr Hebr Hira Hluw Hmng Hmnp Hung Ital Java Jurc Kali Kana Kawi Khar Khmr Khoj Kits
    Knda Krai Kthi Lana Laoo Latn Lepc Limb Lina Linb Lisu Lyci Lydi Mahj Maka Mand Mani Marc Medf Mend Merc Mero Mlym
    Modi Mong Mroo Mtei Mult Mymr Nagm Nand Narb Nbat Newa Nkoo Nshu Ogam Olck Onao Orkh Orya Osge Osma Ougr Palm Pauc
    Pcun Perm Phag Phli Phlp Phnx Plrd Prti Rjng Rohg Runr Samr Sarb Saur Seal Sgnw Shaw Shrd Sidd Sidt Sind Sinh Sogd
    Sogo Sora Soyo Sund Sunu Sylo Syrc Tagb Takr Tale Talu Taml Tang Tavt Tayo Telu Tfng Tglg Thaa Thai Tibt Tirh Tnsa
    Todr Tols Toto Tutg Ugar Vaii Vith Wara Wcho Xpeo Xsux Yezi Yiii Zanb
"""
_OTHER_SCRIPTS = """
    Aran Cyrs Geok Hanb Hans Hant Hrkt Jamo Jpan Kore Latf Latg Syre Syrj Syrn Zinh Zmth Zsye Zsym Zxxx Zyyy Zzzz
"""

#: Every value of Unicode's Script property, except Common, Inherited and Unknown, which say nothing about a script.
UNICODE_SCRIPTS: tuple[str, ...] = tuple(_UNICODE_SCRIPTS.split())

#: ISO 15924 codes that are no Unicode script: mixtures of scripts, variants of one, and the special codes.
OTHER_SCRIPTS: tuple[str, ...] = tuple(_OTHER_SCRIPTS.split())

#: Codes that say that there is no script, or that it is not known: as a part of a label they claim nothing.
NO_SCRIPTS = frozenset({NO_SCRIPT, "Zinh", "Zmth", "Zsye", "Zsym", "Zxxx", "Zzzz"})

# What a text in one of these looks like to `script_profile`; other scripts look like themselves.
_LOOKS_LIKE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Aran": ("Arab",),
        "Cyrs": ("Cyrl",),
        "Geok": ("Geor",),
        "Hanb": ("Hani", "Bopo"),
        "Hang": ("Kore",),
        "Hans": ("Hani",),
        "Hant": ("Hani",),
        "Hira": ("Jpan",),
        "Hrkt": ("Jpan",),
        "Jamo": ("Kore",),
        "Kana": ("Jpan",),
        "Latf": ("Latn",),
        "Latg": ("Latn",),
        "Syre": ("Syrc",),
        "Syrj": ("Syrc",),
        "Syrn": ("Syrc",),
    }
)

# Scripts live in planes 0-3; planes 4-13 are unassigned and 14-16 hold tags and private use.
_LAST_SCRIPT_CODEPOINT = 0x3FFFF
_CODEPOINTS = 0x110000
# What the values of the tables stand for.
_KINDS = (NO_SCRIPT, *UNICODE_SCRIPTS, "surrogate")
_SURROGATE = len(_KINDS) - 1
_ZERO_AND = tuple(bytes((0, kind)) for kind in range(len(_KINDS)))
# Indices into the table take eight bytes a character: small pieces of text keep them in the processor's cache.
_PIECE_CHARACTERS = 1 << 14

# A Chinese text may quote a few kana or Hangul; a Japanese or Korean one holds far more than this share of them.
_MIXED_SCRIPT_SHARE = 0.1
_EAST_ASIAN = frozenset({"Hani", "Hira", "Kana", "Hang"})

# A Japanese or Korean title or name may be in Han characters alone, a longer text hardly ever is.
_MAX_HAN_TITLE_CHARACTERS = 50


class ScriptProfile(NamedTuple):
    """The scripts of one text.

    Attributes:
        counts: characters of each script, the most frequent first; the scripts of East Asia that mix are judged
            together, as in :func:`main_script`. Empty for a text without letters.
        letters: their sum; characters that belong to no script do not count.
    """

    counts: dict[str, int]
    letters: int

    @property
    def main(self) -> str:
        """The most frequent script, or ``Zyyy`` when there is none."""
        return next(iter(self.counts), NO_SCRIPT)

    @property
    def main_share(self) -> float:
        """Characters of the main script per character of any script; 0 when there is none."""
        return self.counts[self.main] / self.letters if self.letters else 0.0

    def share(self, script: str) -> float:
        """Characters that text in ``script`` (ISO 15924) may hold, per character of any script; 0 when there is none.

        Variants count as the script that they are variants of: traditional Chinese is Han, Fraktur is Latin. A short
        text in Han characters alone may also be Japanese or Korean.
        """
        if not self.letters:
            return 0.0
        characters = sum(self.counts.get(part, 0) for part in looks_like(script))
        if script in ("Jpan", "Kore") and self.letters <= _MAX_HAN_TITLE_CHARACTERS:
            characters += self.counts.get("Hani", 0)
        return characters / self.letters


def script_profile(text: str) -> ScriptProfile:
    """Count the characters of each script in ``text``, with the scripts of East Asia that mix judged together."""
    counts = script_counts(text)
    if not _EAST_ASIAN.isdisjoint(counts):
        counts = _judge_east_asian(counts)
    return ScriptProfile(counts, sum(counts.values()))


def main_script(text: str) -> str:
    """Return the ISO 15924 code of the script that most characters of ``text`` belong to; ``Zyyy`` when none does.

    Three scripts of East Asia mix, so they are judged together: kana with or without Han is ``Jpan``, Hangul with or
    without Han is ``Kore``, and Han alone (or with hardly any kana or Hangul) is ``Hani``, as MaLA writes it for both
    simplified and traditional Chinese. Between equally frequent scripts the alphabetically first code wins.
    """
    return script_profile(text).main


def looks_like(script: str) -> tuple[str, ...]:
    """Return the scripts that :func:`script_profile` may find in a text written in ``script``, the usual one first."""
    return _LOOKS_LIKE.get(script, (script,))


def script_counts(text: str) -> dict[str, int]:
    """Count the characters of each Unicode script in ``text``, the most frequent script first, then by code.

    Characters that belong to no script (spaces, digits, punctuation, combining marks shared by scripts) do not count.
    """
    if len(text) <= _PIECE_CHARACTERS:
        counts = _count(text)
    else:
        counts = {}
        for start in range(0, len(text), _PIECE_CHARACTERS):
            for script, count in _count(text[start : start + _PIECE_CHARACTERS]).items():
                counts[script] = counts.get(script, 0) + count
    return counts if len(counts) < 2 else _ordered(counts)


def _judge_east_asian(counts: Mapping[str, int]) -> dict[str, int]:
    """Replace Han, kana and Hangul by what they are together: ``Hani``, ``Jpan`` or ``Kore``."""
    judged = {script: count for script, count in counts.items() if script not in _EAST_ASIAN}
    han = counts.get("Hani", 0)
    kana, hangul = counts.get("Hira", 0) + counts.get("Kana", 0), counts.get("Hang", 0)
    if max(kana, hangul) <= _MIXED_SCRIPT_SHARE * (han + max(kana, hangul)):
        judged["Hani"] = han + kana + hangul
    else:
        judged["Jpan"] = kana + (han if kana > hangul else 0)
        judged["Kore"] = hangul + (0 if kana > hangul else han)
    return _ordered({script: count for script, count in judged.items() if count})


def _ordered(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _count(text: str) -> dict[str, int]:
    """Characters of each script in a piece of text, in the order in which the scripts come."""
    if text.isascii():
        letters = int(np.count_nonzero(np.frombuffer(text.encode("ascii").translate(_ascii_table()), np.uint8)))
        return {"Latn": letters} if letters else {}
    # The byte order mark that this encoding begins with has no script.
    counts = _tally(_bmp_table().take(np.frombuffer(text.encode("utf-16", "surrogatepass"), np.uint16)))
    if _KINDS[_SURROGATE] in counts:
        # Characters beyond the basic plane take two units, which only say together which script they are.
        codepoints = np.frombuffer(text.encode("utf-32", "surrogatepass"), np.int32)
        counts = _tally(_script_table().take(codepoints))
    return counts


def _tally(kinds: npt.NDArray[np.uint8]) -> dict[str, int]:
    """Count equal values, zeros apart; faster than a histogram, because texts have one script or two."""
    counts = {}
    left = int(np.count_nonzero(kinds))
    rest = kinds.tobytes().lstrip(b"\0")
    while left:
        kind = rest[0]
        # Removing zeros in a step of their own would be slow: where words end is hard to predict for a processor.
        rest = rest.translate(None, _ZERO_AND[kind])
        counts[_KINDS[kind]] = left - len(rest)
        left = len(rest)
    return counts


@functools.cache
def _ascii_table() -> bytes:
    """Map ASCII character -> as :func:`_script_table`; 256 entries, as bytes.translate wants them."""
    return _script_table()[:256].tobytes()


@functools.cache
def _bmp_table() -> npt.NDArray[np.uint8]:
    """Map UTF-16 code unit -> 1 + index into UNICODE_SCRIPTS, 0 for none, or _SURROGATE: 64 KiB, which stay cached."""
    table: npt.NDArray[np.uint8] = _script_table()[:0x10000].copy()
    table[0xD800:0xE000] = _SURROGATE
    table.flags.writeable = False
    return table


@functools.cache
def _script_table() -> npt.NDArray[np.uint8]:
    """Map code point -> 1 + index into UNICODE_SCRIPTS, or 0 for none; built once per process, in 0.1 s."""
    table = np.zeros(_CODEPOINTS, dtype=np.uint8)
    characters = "".join(map(chr, range(_LAST_SCRIPT_CODEPOINT + 1)))
    for index, script in enumerate(UNICODE_SCRIPTS, start=1):
        for run in regex.finditer(rf"\p{{Script={script}}}+", characters):
            table[run.start() : run.end()] = index
    table.flags.writeable = False
    return table
