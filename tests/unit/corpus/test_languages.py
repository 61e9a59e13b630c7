from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from iso639 import ALL_LANGUAGES

from megatron.corpus.languages import Label, parse_label, parse_pair, script_subtag, to_iso639_3
from megatron.corpus.script import OTHER_SCRIPTS, UNICODE_SCRIPTS

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
ACTIVE = sorted(language.part3 for language in ALL_LANGUAGES if language.status == "A")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("en", "eng"),
        ("EN", "eng"),
        (" fr ", "fra"),
        ("ger", "deu"),  # ISO 639-2/B
        ("fre", "fra"),
        ("deu", "deu"),
        ("pt-BR", "por"),
        ("zh-Hant", "zho"),
        ("zh_TW", "zho"),
        ("sr-Latn", "srp"),
        ("eng_Latn", "eng"),
        ("de-1901", "deu"),
        ("zh-yue", "yue"),  # an extended language subtag
        ("ar-arz-Arab", "arz"),
        ("en-USA", "eng"),  # `usa` is a language too, but not a kind of English
        ("ajp", "apc"),  # retired 2023: merged
        ("iw", "heb"),  # withdrawn from ISO 639-1
        ("sh", "hbs"),
        ("zho", "zho"),  # macrolanguages stay
        ("fa", "fas"),
        ("zxx", "zxx"),
        ("mul", "mul"),
        ("und", "und"),
        ("eml", "und"),  # retired: split in two
        ("ber", "und"),  # an ISO 639-2 collection
        ("qaa", "und"),  # private use
        ("x-klingon", "und"),
        ("jp", "und"),  # a country
        ("English", "und"),  # a name is not a code
        ("", "und"),
        ("-", "und"),
    ],
)
def test_to_iso639_3(code, expected):
    assert to_iso639_3(code) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("zh-Hant", "Hant"),
        ("sr_latn_RS", "Latn"),
        ("ja-Japn", "Jpan"),
        ("zh-yue-Hant-HK", "Hant"),
        ("pt-BR", None),
        ("de-1901", None),
        ("latn", None),
        ("en-x-latn", None),
    ],
)
def test_script_subtag(code, expected):
    assert script_subtag(code) == expected


def test_parse_label():
    assert parse_label("eng_Latn") == Label("eng", "Latn")
    assert parse_label("jpn_Japn") == Label("jpn", "Jpan")
    assert parse_label("zho_Hant").code == "zho_Hant"


@pytest.mark.parametrize("text", ["eng", "en_Latn", "eng_latn", "eng-Latn", "eng_Latn ", "eng_Latn\n", "new_Data", ""])
def test_parse_label_refuses(text):
    assert parse_label(text) is None


def test_parse_pair():
    assert parse_pair("eng_Latn-jpn_Japn") == (Label("eng", "Latn"), Label("jpn", "Jpan"))
    for text in ("eng_Latn", "eng_Latn-", "-eng_Latn", "eng_Latn-fra_Latn-deu_Latn", "eng_Latn_fra_Latn"):
        assert parse_pair(text) is None


@given(st.sampled_from(ACTIVE))
def test_every_active_code_is_its_own(code):
    assert to_iso639_3(code) == code
    assert to_iso639_3(code.upper() + "-Latn") == code


@given(st.text(max_size=12))
def test_any_text_gives_a_code_that_exists(text):
    assert to_iso639_3(text) in {*ACTIVE, "und"}
    assert to_iso639_3(to_iso639_3(text)) == to_iso639_3(text)


@given(st.sampled_from(ACTIVE), st.sampled_from(UNICODE_SCRIPTS + OTHER_SCRIPTS))
def test_labels_survive_a_round_trip(language, script):
    label = Label(language, script)
    assert parse_label(label.code) == label
    assert parse_pair(f"{label.code}-eng_Latn") == (label, Label("eng", "Latn"))


def test_every_mala_label_parses():
    table = SHARED / "mala" / "languages.tsv"
    if not table.exists():
        pytest.skip(f"{table} is not there: MaLA's labels are not checked")
    codes = [line.split("\t")[0] for line in table.read_text(encoding="utf-8").splitlines()[1:]]
    assert len(codes) == 939
    assert [code for code in codes if parse_label(code) is None] == []
    assert [code for code in codes if parse_label(code).code != code] == ["jpn_Japn"]


def test_udhr_codes_agree_with_the_published_table():
    """Where the two codes differ, ours is the macrolanguage that the BCP 47 tag names, or undetermined."""
    table = SHARED / "udhr" / "languages.tsv"
    if not table.exists():
        pytest.skip(f"{table} is not there: the declaration's language codes are not checked")
    rows = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()[1:]]
    members = {language.part3: language.macrolanguage for language in ALL_LANGUAGES}
    wrong = {
        tag: (to_iso639_3(tag), iso) for _, tag, iso, *_ in rows if to_iso639_3(tag) not in (iso, members.get(iso))
    }
    assert wrong == {}
