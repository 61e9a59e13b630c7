import numpy as np
import orjson
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from megatron.languages.script import (
    NO_SCRIPTS,
    OTHER_SCRIPTS,
    UNICODE_SCRIPTS,
    _script_table,
    looks_like,
    main_script,
    script_counts,
    script_profile,
)


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


# Characters of several planes and scripts, so that random texts mix ASCII, surrogate pairs and East Asian scripts.
TEXTS = st.one_of(st.text(max_size=200), st.text(alphabet="aZ1 éжק漢かカ한ㄅ𐌰𠀀😀\ud800\ufeff", max_size=60))


@given(TEXTS)
def test_counts_agree_with_a_regex_for_each_script(text):
    counts = script_counts(text)
    for script, count in counts.items():
        assert count == len(regex.findall(rf"\p{{Script={script}}}", text))
    assert sum(counts.values()) == len(regex.findall(r"[^\p{Script=Zyyy}\p{Script=Zinh}\p{Script=Zzzz}]", text))
    assert list(counts.values()) == sorted(counts.values(), reverse=True)


@given(st.lists(TEXTS, max_size=5), st.integers(1, 40))
def test_counting_in_pieces_changes_nothing(texts, size):
    text = "".join(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("megatron.languages.script._PIECE_CHARACTERS", size)
        in_pieces = script_counts(text)
    assert in_pieces == script_counts(text)


def test_counting_crosses_the_border_of_a_piece():
    text = "а" * (1 << 14) + "b" * (1 << 14) + "𐌰" * 3
    assert script_counts(text) == {"Cyrl": 1 << 14, "Latn": 1 << 14, "Goth": 3}


@given(TEXTS)
def test_a_profile_holds_all_letters_and_its_main_script_is_the_most_frequent(text):
    profile = script_profile(text)
    assert profile.letters == sum(script_counts(text).values()) == sum(profile.counts.values())
    assert list(profile.counts.values()) == sorted(profile.counts.values(), reverse=True)
    assert profile.main == main_script(text)
    assert all(profile.counts.values())
    assert profile.main_share == (max(profile.counts.values()) / profile.letters if profile.letters else 0)
    assert not {"Hira", "Kana", "Hang"} & set(profile.counts)


def test_shares_of_a_mixed_text():
    profile = script_profile("мир мир ab")
    assert (profile.main, profile.letters, profile.main_share) == ("Cyrl", 8, 0.75)
    assert profile.share("Latn") == profile.share("Latf") == 0.25
    assert profile.share("Cyrs") == 0.75
    assert profile.share("Grek") == 0


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("世界人権宣言", {"Hani": 1, "Hans": 1, "Hant": 1, "Hanb": 1, "Jpan": 1, "Kore": 1, "Hira": 0, "Hang": 0}),
        ("世界人権宣言" * 9, {"Hani": 1, "Hant": 1, "Jpan": 0, "Kore": 0}),  # too long for a title
        ("すべての人間", {"Jpan": 1, "Hira": 1, "Hrkt": 1, "Hani": 0, "Hant": 0, "Kore": 0}),
        ("모든 인간", {"Kore": 1, "Hang": 1, "Jamo": 1, "Hani": 0, "Jpan": 0}),
        ("大韓民國의 主權은", {"Kore": 1, "Hani": 0}),
        ("한국어 한국어 カナ", {"Kore": 0.75, "Jpan": 0.25}),
        ("ㄅㄆ人人", {"Hani": 0.5, "Hanb": 1}),
        ("سلام", {"Arab": 1, "Aran": 1, "Syrc": 0}),
        ("12, 3", {"Latn": 0, "Zyyy": 0}),
    ],
)
def test_variants_share_the_text_of_the_script_that_they_are_variants_of(text, shares):
    profile = script_profile(text)
    assert {script: profile.share(script) for script in shares} == shares


def test_every_script_looks_like_one_that_a_profile_can_hold():
    possible = {*UNICODE_SCRIPTS, "Jpan", "Kore"} - {"Hira", "Kana", "Hang"}
    codes = set(UNICODE_SCRIPTS + OTHER_SCRIPTS) - NO_SCRIPTS
    assert {part for code in codes for part in looks_like(code)} == possible


def test_every_declaration_has_one_main_script(shared):
    """Fails when a change of the table or of the rules gives one of 279 texts another script."""
    expected = {"Java": "jav_java", "Lana": "kkh_lana", "Cakm": "ccp", "Yiii": "iii", "Vaii": "vai", "Tavt": "blt"}
    for script, name in expected.items():
        text = (shared / "data" / "udhr" / "raw" / f"{name}.jsonl").read_text(encoding="utf-8")
        texts = [orjson.loads(line)["text"] for line in text.splitlines()]
        assert {main_script(text) for text in texts} == {script}
