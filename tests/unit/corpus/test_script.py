import numpy as np
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from megatron.corpus.script import OTHER_SCRIPTS, UNICODE_SCRIPTS, _script_table, main_script, script_counts


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("All human beings are born free", "Latn"),
        ("Все люди рождаются свободными", "Cyrl"),
        ("ሰው ሁሉ ነፃ ነው", "Ethi"),
        ("يولد جميع الناس أحرارا", "Arab"),
        ("すべての人間は、生まれながらにして自由である", "Jpan"),
        ("カタカナ", "Jpan"),
        ("人人生而自由", "Hani"),
        ("人人生而自由,在尊嚴和權利上一律平等「の」", "Hani"),  # a Chinese text that quotes one kana
        ("모든 인간은 태어날 때부터 자유로우며", "Kore"),
        ("大韓民國의 主權은 國民에게 있고", "Kore"),
        ("English text with one 日本語の word", "Latn"),
        ("Мир, мир and peace", "Latn"),
        ("", "Zyyy"),
        ("12345 — … 🙂 \u0301", "Zyyy"),
    ],
)
def test_main_script(text, script):
    assert main_script(text) == script


def test_the_most_frequent_script_wins_and_a_tie_goes_to_the_first_code():
    assert main_script("abcмир") == "Cyrl"
    assert main_script("мирabc") == "Cyrl"
    assert main_script("абв" + "abcd") == "Latn"


def test_lone_surrogates_and_private_use_have_no_script():
    assert main_script("\ud800\udfff\ue000\U0010ffff") == "Zyyy"


def test_the_table_knows_every_character_that_unicode_gives_a_script():
    """Fails when the regex package brings a newer Unicode with scripts that the list in script.py lacks."""
    characters = "".join(map(chr, range(0x110000)))
    without = np.zeros(0x110000, dtype=bool)
    for run in regex.finditer(r"[\p{Script=Zyyy}\p{Script=Zinh}\p{Script=Zzzz}]+", characters):
        without[run.start() : run.end()] = True
    np.testing.assert_array_equal(_script_table() == 0, without)


def test_every_code_is_written_as_in_iso_15924_and_listed_once():
    codes = UNICODE_SCRIPTS + OTHER_SCRIPTS
    assert len(set(codes)) == len(codes) <= 255
    assert all(regex.fullmatch(r"[A-Z][a-z]{3}", code) for code in codes)


@given(st.text(max_size=200))
def test_counts_agree_with_a_regex_for_each_script(text):
    counts = script_counts(text)
    for script, count in counts.items():
        assert count == len(regex.findall(rf"\p{{Script={script}}}", text))
    assert sum(counts.values()) == len(regex.findall(r"[^\p{Script=Zyyy}\p{Script=Zinh}\p{Script=Zzzz}]", text))
    assert list(counts.values()) == sorted(counts.values(), reverse=True)


@given(st.lists(st.text(max_size=50), max_size=5), st.integers(1, 40))
def test_counting_in_pieces_changes_nothing(texts, size):
    text = "".join(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("megatron.corpus.script._PIECE_CHARACTERS", size)
        in_pieces = script_counts(text)
    assert in_pieces == script_counts(text)
