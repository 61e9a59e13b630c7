"""Which script a text is written in, as an ISO 15924 code.

A table maps every code point to its Unicode script (property ``Script`` of UAX #24, asked of the ``regex`` package).
A text is viewed as UTF-32, looked up in the table and counted, which runs at a few hundred MB/s.
"""

from __future__ import annotations

import functools

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

# Scripts live in planes 0-3; planes 4-13 are unassigned and 14-16 hold tags and private use.
_LAST_SCRIPT_CODEPOINT = 0x3FFFF
_CODEPOINTS = 0x110000
_PIECE_CHARACTERS = 1 << 20

# A Chinese text may quote a few kana or Hangul; a Japanese or Korean one holds far more than this share of them.
_MIXED_SCRIPT_SHARE = 0.1


def script_counts(text: str) -> dict[str, int]:
    """Count the characters of each Unicode script in ``text``, the most frequent script first.

    Characters that belong to no script (spaces, digits, punctuation, combining marks shared by scripts) do not count.
    """
    counts = _count(text)
    present = np.flatnonzero(counts)
    ordered = present[np.argsort(-counts[present], kind="stable")]
    return {UNICODE_SCRIPTS[index]: int(counts[index]) for index in ordered}


def main_script(text: str) -> str:
    """Return the ISO 15924 code of the script that most characters of ``text`` belong to; ``Zyyy`` when none does.

    Three scripts of East Asia mix, so they are judged together: kana with or without Han is ``Jpan``, Hangul with or
    without Han is ``Kore``, and Han alone (or with hardly any kana or Hangul) is ``Hani``, as MaLA writes it for both
    simplified and traditional Chinese. Between equally frequent scripts the alphabetically first code wins.
    """
    counts = script_counts(text)
    han = counts.pop("Hani", 0)
    kana = counts.pop("Hira", 0) + counts.pop("Kana", 0)
    hangul = counts.pop("Hang", 0)
    east_asian, mixed = ("Jpan", kana) if kana > hangul else ("Kore", hangul)
    if mixed > _MIXED_SCRIPT_SHARE * (han + mixed):
        counts[east_asian] = mixed + han
    elif han:
        counts["Hani"] = han + mixed
    if not counts:
        return NO_SCRIPT
    return min(counts, key=lambda code: (-counts[code], code))


def _count(text: str) -> npt.NDArray[np.int64]:
    """Characters per entry of UNICODE_SCRIPTS, int64; in pieces, because UTF-32 takes four bytes a character."""
    table = _script_table()
    total = np.zeros(len(UNICODE_SCRIPTS) + 1, dtype=np.int64)
    for start in range(0, len(text), _PIECE_CHARACTERS):
        piece = text[start : start + _PIECE_CHARACTERS].encode("utf-32-le", "surrogatepass")
        total += np.bincount(table[np.frombuffer(piece, dtype=np.uint32)], minlength=total.size)
    return total[1:]


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
