import pytest

from megatron.corpus.languages import Label
from megatron.corpus.pairs.names import language_name, name_in_script, names_of_both


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("eng", "English"),
        ("swh", "Swahili"),
        ("ell", "Modern Greek"),
        ("nob", "Norwegian Bokmål"),
        ("zho", "Chinese"),
        ("ber", "ber"),
        ("xxx", "xxx"),
    ],
)
def test_names(code, name):
    assert language_name(code) == name


def test_two_sides_never_have_one_name():
    def both(first, second):
        return names_of_both(Label(*first.split("_")), Label(*second.split("_")))

    assert both("eng_Latn", "fra_Latn") == ("English", "French")
    assert both("srp_Latn", "srp_Cyrl") == ("Serbian (Latn)", "Serbian (Cyrl)")
    assert both("swa_Latn", "swh_Latn") == ("Swahili (swa)", "Swahili (swh)")


def test_names_with_scripts():
    labels = [Label("kas", "Deva"), Label("cmn", "Hans"), Label("ell", "Grek"), Label("xxx", "Xxxx")]
    assert [name_in_script(label) for label in labels] == [
        "Kashmiri (Devanagari script)", "Mandarin Chinese (Simplified)", "Modern Greek (Greek script)",
        "xxx (Xxxx script)",
    ]  # fmt: skip


def test_every_language_of_mala_has_a_name(shared):
    lines = (shared / "data" / "mala" / "languages.tsv").read_text().splitlines()[1:]
    codes = {line[:3] for line in lines}
    without = {code for code in codes if language_name(code) == code}
    assert without == {"bat", "ber", "bih", "fiu", "map", "nah", "qaa", "roa"}  # they are in no ISO 639-3
