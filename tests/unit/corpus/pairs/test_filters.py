import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.corpus_schema import ParallelConfig
from megatron.corpus.languages import parse_label
from megatron.corpus.pairs.filters import RULES, PairFilters


def rule(source, target, labels="eng_Latn-swh_Latn", **settings):
    first, second = (parse_label(code) for code in labels.split("-"))
    dropped = PairFilters(ParallelConfig(**settings), source=first, target=second).check(source, target)
    assert dropped is None or dropped.rule in RULES
    return dropped and dropped.rule


GOOD = ("The committee met again on Tuesday.", "Kamati ilikutana tena siku ya Jumanne.")


@pytest.mark.parametrize(
    ("source", "target", "labels", "expected"),
    [
        (*GOOD, "eng_Latn-swh_Latn", None),
        ("OK", "Sawa", "eng_Latn-swh_Latn", "short"),
        ("Thanks", "谢谢", "eng_Latn-zho_Hani", None),  # two characters, as long as seven of English
        ("Yes, please!", "Ndiyo, tafadhali!", "eng_Latn-swh_Latn", None),
        ("", "Sawa kabisa", "eng_Latn-swh_Latn", "empty"),
        ("Hello there", " \t", "eng_Latn-swh_Latn", "empty"),
        ("***", "---", "eng_Latn-swh_Latn", "empty"),
        ("Hello there.\nBye.", "Habari. Kwaheri.", "eng_Latn-swh_Latn", "line_break"),
        ("Hello there.\n", "\nHabari gani.", "eng_Latn-swh_Latn", None),  # around the sentence
        ("x" * 2001, "y" * 2001, "eng_Latn-swh_Latn", "long"),
        ("字" * 541, "word " * 350, "zho_Hani-eng_Latn", "long"),
        ("字" * 300, "word " * 250, "zho_Hani-eng_Latn", None),
        ("A long sentence about very many things in the world.", "Sawa", "eng_Latn-swh_Latn", "length_ratio"),
        ("Barack Obama!", "BARACK  OBAMA", "eng_Latn-swh_Latn", "copy"),
        ("12.5 %", "12,5%", "eng_Latn-amh_Ethi", "copy"),
        ("Barack Obama", "Rais Barack Obama", "eng_Latn-swh_Latn", None),
        ("Click here to open the menu", "Click here to open the menyu", "eng_Latn-swh_Latn", None),
        ("Click here to open the menu", "Habari: click here to open the menu", "eng_Latn-swh_Latn", "overlap"),
        ("今天天气很好我们去公园", "今天天气很好我们去公园吧", "zho_Hani-yue_Hani", "overlap"),
        ("今天天气很好我们去公园", "今日天氣好好我哋去公園啦", "zho_Hani-yue_Hani", None),
        ("The committee met again.", "The committee met yesterday.", "eng_Latn-amh_Ethi", "script"),
        ("Комитет собрался снова.", "Kamati ilikutana tena.", "eng_Latn-swh_Latn", "script"),
        ("The year 1998 in 25 parts", "1998 (25)", "eng_Latn-amh_Ethi", None),  # no letters contradict no label
        ("会議は火曜日に再び開かれた", "The committee met again on Tuesday", "jpn_Jpan-eng_Latn", None),
        ("위원회는 화요일에 다시 모였다", "The committee met again on Tuesday", "kor_Kore-eng_Latn", None),
        ("委员会星期二再次开会", "The committee met again on Tuesday", "zho_Hans-eng_Latn", None),
        (*GOOD, "und_Zyyy-swh_Latn", None),
    ],
)
def test_rules(source, target, labels, expected):
    assert rule(source, target, labels) == expected
    assert rule(target, source, "-".join(reversed(labels.split("-")))) == expected


def test_numbers_only_count_when_asked_for():
    pairs = {
        ("Born in 1998 in Paris", "Amezaliwa mwaka 1998 Paris"): None,
        ("It costs 1,000.50 euros", "Bei ni euro 1 000,50"): "numbers",
        ("It costs 1,000.50 euros", "Bei ni euro 1\u00a0000,50"): None,
        ("It costs 1,000.50 euros", "Bei ni euro 1.000,50"): None,
        ("Born in 1998 in Paris", "Amezaliwa mwaka 1989 Paris"): "numbers",
        ("Chapter 12 of 20", "Sura ya ١٢ katika ٢٠"): None,
        ("Three of 20 came", "Wa3 kati ya 20 walikuja"): "numbers",
    }
    for (source, target), expected in pairs.items():
        assert rule(source, target, same_numbers=True) == expected
        assert rule(source, target) is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_length_ratio": 1.01}, "length_ratio"),
        ({"min_characters": 36}, "short"),
        ({"max_characters": 20}, "long"),
        ({"max_overlap": 0.0}, None),
        ({"min_script": 1.0}, None),
    ],
)
def test_limits_are_settings(settings, expected):
    assert rule(*GOOD, **settings) == expected


def test_rules_say_what_was_measured():
    filters = PairFilters(ParallelConfig(), source=parse_label("eng_Latn"), target=parse_label("amh_Ethi"))
    dropped = filters.check("Hello dear world", "Selam all the world")
    assert str(dropped) == "script (0, limit 0.5)"


TEXT = st.text(alphabet="ab 1.字あคก\n", max_size=30)


@given(TEXT, TEXT, st.sampled_from(["eng_Latn", "zho_Hani", "tha_Thai"]), st.sampled_from(["swh_Latn", "jpn_Jpan"]))
def test_the_order_of_the_sides_does_not_matter(source, target, first, second):
    assert rule(source, target, f"{first}-{second}") == rule(target, source, f"{second}-{first}")


@given(TEXT)
def test_a_text_is_no_translation_of_itself(text):
    assert rule(text, text) is not None


def test_every_rule_is_explained():
    assert list(RULES) == [
        "empty", "line_break", "short", "long", "length_ratio", "copy", "overlap", "script", "numbers"
    ]  # fmt: skip


def test_no_article_of_human_rights_is_dropped(shared):
    """Real translations in many scripts; the preamble is too long in English already."""

    def articles(name):
        texts = (orjson.loads(line)["text"] for line in (shared / "data/udhr/raw" / f"{name}.jsonl").open("rb"))
        return [" ".join(text.split()) for text in texts]

    codes = {
        "swh": "swh_Latn", "amh": "amh_Ethi", "cmn_hans": "zho_Hani", "jpn": "jpn_Jpan", "hin": "hin_Deva",
        "rus": "rus_Cyrl", "arb": "arb_Arab", "tha": "tha_Thai", "mya": "mya_Mymr", "div": "div_Thaa",
        "bod": "bod_Tibt", "fra": "fra_Latn",
    }  # fmt: skip
    english, checked = articles("eng"), 0
    for name, code in codes.items():
        other = articles(name)
        if len(other) == len(english):
            for source, target in zip(english[2:], other[2:], strict=True):
                assert rule(source, target, f"eng_Latn-{code}") is None, (name, target)
                checked += 1
    assert checked == 300
