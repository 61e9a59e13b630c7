"""Wrong decodings are mended; no text is taken for one."""

from __future__ import annotations

import pytest
from ftfy.chardata import CHARMAP_ENCODINGS

from megatron.corpus.cleaning.mojibake import first_characters, is_suspect, mend

SENTENCES = [
    "L’élève a mangé à la cafétéria, où l’été fut très agréable.",
    "Größe und Maße müssen „genau“ stimmen – natürlich.",
    "Żółta gęś poszła na łąkę, a źrebię zostało.",
    "Все люди рождаются свободными и равными в своём достоинстве и правах.",
    "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι.",
    "人人生而自由，在尊严和权利上一律平等。",
    "سب انسان آزاد اور حقوق و عزت کے اعتبار سے برابر پیدا ہوئے ہیں",
]


@pytest.mark.parametrize("text", SENTENCES)
@pytest.mark.parametrize("encoding", ["latin-1", "sloppy-windows-1252"])
def test_utf_8_read_as_western_is_mended(text: str, encoding: str) -> None:
    broken = text.encode().decode(encoding)
    assert broken != text
    assert mend(broken) == text
    assert mend(f"{text}\n{broken}\nplain") == f"{text}\n{text}\nplain"


def test_twice_wrong_is_mended() -> None:
    assert mend("déjà vu, é".encode().decode("latin-1").encode().decode("sloppy-windows-1252")) == "déjà vu, é"


def test_control_characters_are_those_of_windows() -> None:
    assert mend("it\x92s \x93so\x94") == "it’s “so”"


@pytest.mark.parametrize(
    "text",
    [
        *SENTENCES,
        "WO ƑE TAKPEKPEGÃ LE GBEƑÃ ƉEM",
        "NÃO É SÓ CORAÇÃO, ÂNIMO E MÃE",
        "L’à-côté d’été n’est qu’“élan” – c’était l’île",
        "Їжак і єнот: «Європа», №5 — ґанок",
        "«Ёлка», «Её»",
        "10 °C, £5, ½ × 3², §7, ¿qué? ¡sí!",
        "Tiếng Việt: Ở đâu cũng được, Ăn Uống",
        "Łódź, Öl, Ærø, Ñandú, Þór, Ðuro",
        "Âge, Être, Île, Ôter, À bientôt",
    ],
)
def test_text_is_no_mojibake(text: str) -> None:
    assert mend(text) == text


def test_the_gate_lets_no_mojibake_pass_unseen() -> None:
    """Whatever ftfy mends in short texts of two characters, the gate suspects."""
    seen = 0
    blocks = (range(0xA0, 0x250), range(0x370, 0x530), range(0x5D0, 0x5EB), range(0x2010, 0x2030))
    for character in (chr(codepoint) for block in blocks for codepoint in block):
        for encoding in CHARMAP_ENCODINGS:
            broken = character.encode().decode(encoding, errors="ignore")
            if len(broken) == len(character.encode()) and broken[0] not in "‘’“”":
                seen += 1
                assert is_suspect(f"a{broken}b"), (character, encoding)
                assert broken[0] in first_characters()
    assert seen > 5000


def test_lines_too_short_to_be_sure_of_follow_the_whole_text() -> None:
    text = "Šuma\nŠkola\nLišaji rastejo počasi, zato živijo dolgo."
    broken = text.encode().decode("sloppy-windows-1252")
    assert mend(broken.split("\n")[0]) != "Šuma"
    assert mend(broken) == text
