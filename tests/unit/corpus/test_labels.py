from collections import Counter

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.corpus_schema import LanguagesConfig, ScriptConfig
from megatron.corpus.document import CorpusError, Dropped
from megatron.corpus.labels import Labelled, Labeller
from megatron.corpus.languages import Label, parse_label
from megatron.languages.script import main_script

ENGLISH = "All human beings are born free and equal in dignity and rights."
RUSSIAN = "Все люди рождаются свободными и равными в своём достоинстве и правах."
CHINESE = "人人生而自由,在尊嚴和權利上一律平等。他們賦有理性和良心"
JAPANESE = "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である"
KOREAN = "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다"
URDU = "تمام انسان آزاد اور حقوق و عزت کے اعتبار سے برابر پیدا ہوئے ہیں۔"


def labeller(languages=None, **script):
    return Labeller(LanguagesConfig(**(languages or {})), ScriptConfig(**script))


DEFAULT = labeller()


def label(text, code=None, corpus=None, by=DEFAULT):
    found = by.label(text, code=code, corpus=None if corpus is None else parse_label(corpus))
    return (found.rule, None) if isinstance(found, Dropped) else (found.label.code, found.notes)


@pytest.mark.parametrize(
    ("text", "code", "corpus", "expected", "notes"),
    [
        (ENGLISH, "en-Latn", None, "eng_Latn", ()),
        (ENGLISH, None, "eng_Latn", "eng_Latn", ()),
        (ENGLISH, "en", None, "eng_Latn", ("script_found",)),
        (ENGLISH, "en", "eng_Latn", "eng_Latn", ()),  # the corpus names the script of the same language
        (RUSSIAN, "ru", "eng_Latn", "rus_Cyrl", ("relabelled", "script_found")),
        (ENGLISH, "und", "eng_Latn", "eng_Latn", ()),
        (ENGLISH, "", "eng_Latn", "eng_Latn", ()),
        (ENGLISH, "nonsense", "eng_Latn", "eng_Latn", ("unknown_code",)),
        (ENGLISH, "nonsense", None, "und_Latn", ("unknown_code", "und", "script_found")),
        (ENGLISH, None, None, "und_Latn", ("und", "script_found")),
        (ENGLISH, "x" * 10_000, "eng_Latn", "eng_Latn", ("unknown_code",)),
        (ENGLISH, "English", None, "eng_Latn", ("name", "script_found")),
        (ENGLISH, "ber", None, "ber_Latn", ("collective", "script_found")),
        (ENGLISH, "qaa", "ber_Latn", "qaa_Latn", ("relabelled", "private", "script_found")),
        (ENGLISH, None, "eml_Latn", "eml_Latn", ("retired",)),
        (URDU, None, "ajp_Arab", "apc_Arab", ("followed",)),
    ],
)
def test_languages(text, code, corpus, expected, notes):
    assert label(text, code, corpus) == (expected, notes)


@pytest.mark.parametrize(
    ("text", "code", "expected", "notes"),
    [
        (RUSSIAN, "srp_Latn", "srp_Cyrl", ("script_corrected",)),  # Serbian is written in both
        (RUSSIAN, "und-Latn", "und_Cyrl", ("und", "script_corrected")),  # nothing is known of it
        (RUSSIAN, "eng_Latn", "foreign_script", None),
        (RUSSIAN, "en", "foreign_script", None),
        (RUSSIAN, "eng_Zyyy", "foreign_script", None),  # names no script
        (CHINESE, "zh-Hant", "zho_Hani", ("script_renamed",)),
        (CHINESE, "zho_Hani", "zho_Hani", ()),
        ("世界人権宣言", "jpn_Jpan", "jpn_Jpan", ()),  # a Japanese title may be all in Han characters
        (CHINESE, "ja", "jpn_Jpan", ("script_found",)),
        (CHINESE * 3, "jpn_Jpan", "foreign_script", None),
        (CHINESE * 3, "ja", "foreign_script", None),
        (CHINESE * 3, "kor_Kore", "foreign_script", None),
        (JAPANESE, "ja", "jpn_Jpan", ("script_found",)),
        (JAPANESE, "jpn_Japn", "jpn_Jpan", ()),
        (JAPANESE, "ja-Hrkt", "jpn_Jpan", ("script_renamed",)),
        (JAPANESE, "zho_Hani", "foreign_script", None),
        (KOREAN, "kor_Hang", "kor_Kore", ("script_renamed",)),
        (KOREAN, "ko", "kor_Kore", ("script_found",)),
        (URDU, "ur-Aran", "urd_Aran", ()),  # Nastaliq looks like Arab to Unicode; the label knows more
        (URDU, "ur", "urd_Arab", ("script_found",)),
        (ENGLISH, "de-Latf", "deu_Latf", ()),
        ("12 + 30 = 42", "eng_Latn", "eng_Latn", ("no_script",)),
        ("12 + 30 = 42", "en", "eng_Zyyy", ("no_script",)),
        ("", None, "und_Zyyy", ("und", "no_script")),
        ("мир", "eng_Latn", "eng_Latn", ()),  # too few letters to contradict a label
        ("мир", "en", "eng_Latn", ("script_assumed",)),
        ("мир", "ru", "rus_Cyrl", ("script_found",)),
        (RUSSIAN + ENGLISH, "rus_Cyrl", "rus_Cyrl", ("mixed_script",)),
        (RUSSIAN + ENGLISH * 2, "bul_Cyrl", "bul_Cyrl", ("mixed_script",)),
        (RUSSIAN + ENGLISH * 2, "bg", "bul_Cyrl", ("script_found", "mixed_script")),  # Bulgarian is not in Latin
        (RUSSIAN + ENGLISH * 9, "bul_Cyrl", "foreign_script", None),
    ],
)
def test_scripts(text, code, expected, notes):
    assert label(text, code) == (expected, notes)


def test_a_drop_says_what_was_measured():
    found = DEFAULT.label(RUSSIAN, code="eng_Latn", corpus=None)
    assert found == Dropped("foreign_script", 0.0, 0.2)
    assert str(found) == "foreign_script (0, limit 0.2)"


@pytest.mark.parametrize(
    ("policy", "known", "unknown"),
    [
        ("correct", ("srp_Cyrl", ("script_corrected",)), ("eng_Cyrl", ("script_corrected",))),
        ("drop", ("other_script", None), ("foreign_script", None)),
        ("keep", ("srp_Latn", ("script_contradicted",)), ("eng_Latn", ("script_contradicted",))),
    ],
)
def test_policies(policy, known, unknown):
    assert label(RUSSIAN, "srp_Latn", by=labeller(known=policy, unknown="drop")) == known
    assert label(RUSSIAN, "eng_Latn", by=labeller(known="drop", unknown=policy)) == unknown
    assert label(RUSSIAN, "en", by=labeller(known="drop", unknown=policy)) == unknown


def test_han_may_be_kept_apart():
    keep = labeller(han="keep")
    assert label(CHINESE, "zh-Hant", by=keep) == ("zho_Hant", ())
    assert label(CHINESE, "zh", by=keep) == ("zho_Hani", ("script_found",))
    assert label(JAPANESE, "zh-Hant", by=keep) == ("foreign_script", None)


def test_source_code_has_no_script_that_could_be_wrong():
    assert label("print('hello world, hello world')", None, "zxx_Zyyy") == ("zxx_Zyyy", ())
    assert label(ENGLISH, "en", "zxx_Zyyy") == ("eng_Latn", ("relabelled", "script_found"))
    assert label(ENGLISH, None, "zxx_Latn") == ("zxx_Latn", ())


def test_languages_may_be_dropped_and_mapped():
    by = labeller({"drop": ["und", "zho"], "aliases": {"xx": "sw"}, "map": {"swa": "swh"}})
    assert label(ENGLISH, None, by=by) == ("language", None)
    assert label(CHINESE, "zh", by=by) == ("language", None)
    assert label(ENGLISH, "xx", by=by) == ("swh_Latn", ("alias", "mapped", "script_found"))
    assert label(ENGLISH, None, "swa_Latn", by=by) == ("swh_Latn", ("mapped",))


def test_unknown_languages_in_the_settings_are_refused():
    with pytest.raises(CorpusError, match=r"languages\.drop"):
        labeller({"drop": ["English"]})


def test_min_share_and_min_letters_are_limits():
    text = "абвгдежзий" * 4 + "abcdefghij"  # a fifth is Latin
    assert label(text, "bos_Latn", by=labeller(min_share=0.2)) == ("bos_Latn", ("mixed_script",))
    assert label(text, "bos_Latn", by=labeller(min_share=0.21)) == ("bos_Cyrl", ("script_corrected",))
    assert label("абвгд", "eng_Latn", by=labeller(min_letters=6)) == ("eng_Latn", ())
    assert label("абвгд", "eng_Latn", by=labeller(min_letters=5)) == ("foreign_script", None)


@given(st.text(max_size=60), st.none() | st.text(max_size=8) | st.sampled_from(["en", "zh-Hant", "ja", "sr", "eml"]))
def test_any_text_gets_a_label_or_a_reason(text, code):
    found = DEFAULT.label(text, code=code, corpus=None)
    if isinstance(found, Dropped):
        assert found.rule in ("other_script", "foreign_script")
    else:
        assert parse_label(found.label.code) == found.label
        assert len(set(found.notes)) == len(found.notes)
        assert (main_script(text) == "Zyyy") == ("no_script" in found.notes)


@given(st.lists(st.sampled_from([("en", ENGLISH), ("ru", RUSSIAN), ("zh", CHINESE), ("ru", ENGLISH)]), max_size=8))
def test_results_do_not_depend_on_what_came_before(documents):
    used = labeller()
    assert [used.label(text, code=code, corpus=None) for code, text in documents] == [
        DEFAULT.label(text, code=code, corpus=None) for code, text in documents
    ]


def test_every_declaration_is_labelled(shared):
    """Language and script of 279 texts; nothing is dropped, and what is undetermined is so in the source."""
    labels, notes = Counter(), Counter()
    undetermined = set()
    for path in sorted((shared / "data" / "udhr" / "raw").glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            record = orjson.loads(line)
            found = DEFAULT.label(record["text"], code=record["original_code"], corpus=None)
            assert isinstance(found, Labelled), (path.stem, str(found))
            labels[path.stem, found.label] += 1
            notes.update(found.notes)
            if found.label.language == "und":
                undetermined.add((path.stem, record["original_code"]))
    assert len(labels) == 279  # one label for each file
    assert undetermined == {(name, "und") for name in ("016", "017", "021", "023", "050")}
    assert set(notes) == {"script_found", "script_renamed", "und"}
    assert labels["pes_2", Label("fas", "Arab")] == labels["kkh_lana", Label("kkh", "Lana")] == 32
