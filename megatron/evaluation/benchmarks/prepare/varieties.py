"""Which variety an English name or a code of two letters means, in all benchmarks alike.

It is the one that FLORES-200 has, so that results of all benchmarks can be joined: ``swahili`` and ``sw`` are ``swh``.
A code of three letters stays what it is, as in corpora and in MaLA's list, which has both ``swa_Latn`` and
``swh_Latn``. So do macrolanguages that FLORES-200 itself writes (``est``, ``grn``, ``kon``, ``srd``, ``zho``), and
those that it has no member of.

Source: the languages of FLORES-200 (NLLB Team, arXiv 2207.04672) and the macrolanguages of ISO 639-3.
"""

from __future__ import annotations

from collections.abc import Mapping

VARIETIES: Mapping[str, str] = {
    "ara": "arb", "aym": "ayr", "aze": "azj", "aze_Arab": "azb", "din": "dik", "fas": "pes", "ful": "fuv", "kau": "knc",
    "kur": "kmr", "kur_Arab": "ckb", "lav": "lvs", "mlg": "plt", "mon": "khk", "msa": "zsm", "nep": "npi", "nor": "nob",
    "ori": "ory", "orm": "gaz", "pus": "pbt", "que": "quy", "sqi": "als", "swa": "swh", "tmh": "taq", "uzb": "uzn",
    "yid": "ydd",
}  # fmt: skip
"""Macrolanguage, or in one script (``xxx_Ssss``) where scripts differ, to its member; ISO 639-3."""


def variety(language: str, script: str) -> str:
    """Return the language that is meant by a macrolanguage in a script; another language as it is."""
    return VARIETIES.get(f"{language}_{script}") or VARIETIES.get(language, language)
