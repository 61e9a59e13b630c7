from __future__ import annotations

import math
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.evaluation.metrics.rouge import f_measure, longest_common_subsequence, rouge_l
from megatron.evaluation.metrics.texts import Texts
from megatron.evaluation.metrics.tokens import tokenise
from megatron.languages.spacing import UNSPACED_SCRIPTS

# The first article of the Universal Declaration of Human Rights, or some words of it.
SENTENCES = {
    "tha_Thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "cmn_Hani": "人人生而自由，在尊嚴和權利上一律平等。",
    "rus_Cyrl": "Все люди рождаются свободными и равными",
    "amh_Ethi": "የሰው፡ልጅ፡ሁሉ፡ሲወለድ፡ነጻና፡በክብርና፡በመብትም፡እኩልነት፡ያለው፡ነው።",
    "hin_Deva": "सभी मनुष्यों को गौरव और अधिकारों के मामले में",
    "mya_Mymr": "လူတိုင်းသည် တူညီ လွတ်လပ်သော",
    "khm_Khmr": "មនុស្សទាំងអស់ កើតមកមានសេរីភាព",
    "bod_Tibt": "འགྲོ་བ་མིའི་རིགས་རྒྱུད་ཡོངས་ལ་",
    "jpn_Jpan": "すべての人間は、生まれながらにして自由であり",
    "lao_Laoo": "ມະນຸດທຸກຄົນເກີດມາມີກຽດສັກສີ",
    "kor_Hang": "모든 인간은 태어날 때부터 자유로우며",
    "pes_Arab": "تمام افراد بشر آزاد به دنیا می‌آیند",
}
TOKENS = st.lists(st.sampled_from("abcd"), max_size=90)


class PeerTokenizer:
    """What rouge_score asks of a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        return tokenise(text)


@pytest.fixture(scope="module")
def rouge_scorer() -> ModuleType:
    return pytest.importorskip("rouge_score.rouge_scorer", reason="the peer rouge_score is not installed")


def table_of_common_subsequences(first: list[str], second: list[str]) -> int:
    row = [0] * (len(second) + 1)
    for token in first:
        above = row[:]
        for place, other in enumerate(second):
            row[place + 1] = above[place] + 1 if token == other else max(above[place + 1], row[place])
    return row[-1]


@settings(deadline=None)
@given(TOKENS, TOKENS)
def test_the_longest_common_subsequence_is_that_of_the_usual_table(first: list[str], second: list[str]) -> None:
    assert longest_common_subsequence(first, second) == table_of_common_subsequences(first, second)


@pytest.mark.parametrize("language", SENTENCES)
def test_identical_texts_of_any_script_are_all_alike(language: str) -> None:
    text = SENTENCES[language]
    assert rouge_l(Texts([text], [[text]], language)) == 1.0
    others = [other for code, other in SENTENCES.items() if code != language]
    assert rouge_l(Texts([text] * len(others), [[other] for other in others], language)) < 0.05


@pytest.mark.parametrize("language", ["tha_Thai", "cmn_Hani", "mya_Mymr", "bod_Tibt"])
def test_texts_without_blanks_are_compared_letter_by_letter(language: str) -> None:
    text = SENTENCES[language]
    assert len(tokenise(text)) > 12
    half = text[: len(text) // 2]
    assert 0.5 < rouge_l(Texts([half], [[text]], language)) < 0.75


def test_tokens_are_words_or_letters_with_their_marks() -> None:
    assert tokenise("Don't PANIC, it's 3.5 km²!") == ["don", "t", "panic", "it", "s", "3", "5", "km²"]
    assert tokenise("iPhone手机12") == ["iphone", "手", "机", "12"]
    assert tokenise("กำลังดี ๒๕๖๗") == ["กำ", "ลั", "ง", "ดี", "๒๕๖๗"]
    assert tokenise("カフェー") == ["カ", "フ", "ェ", "ー"]
    assert tokenise("می‌خواهم ක්‍රම \u200d x\u200d") == ["می‌خواهم", "ක්‍රම", "x"]
    assert tokenise("cafe\u0301") == tokenise("CAFÉ") == ["café"]
    assert tokenise(" .,!—\u200b🙂") == []


def test_every_script_without_blanks_is_split() -> None:
    letters = {"Khmr": "កខ", "Yiii": "ꀀꀁ", "Java": "ꦲꦤ", "Hira": "あい", "Tang": "𗀀𗀁", "Bopo": "ㄅㄆ", "Lana": "ᨠᨡ"}
    assert set(letters) <= UNSPACED_SCRIPTS
    assert {script: len(tokenise(text)) for script, text in letters.items()} == dict.fromkeys(letters, 2)


@settings(deadline=None)
@given(st.text(max_size=100))
def test_tokens_are_lower_case_letters_marks_and_digits(text: str) -> None:
    tokens = tokenise(text)
    assert all(tokens) and all(" " not in token for token in tokens)
    assert tokenise(" ".join(tokens)) == tokens


WORDS = st.lists(st.sampled_from(["the", "cat", "Sat", "on", "mat.", "a", "dog", "—", "ไทย", "кот", "x9"]), max_size=25)


@settings(deadline=None)
@given(WORDS, st.lists(WORDS, min_size=1, max_size=3))
def test_agrees_with_rouge_score(
    rouge_scorer: ModuleType, output: list[str], references: list[list[str]]
) -> None:
    peer = rouge_scorer.RougeScorer(["rougeL"], tokenizer=PeerTokenizer())
    text, answers = " ".join(output), [" ".join(reference) for reference in references]
    expected = peer.score_multi(answers, text)["rougeL"].fmeasure
    assert rouge_l(Texts([text], [answers], "eng_Latn")) == pytest.approx(expected)


@settings(deadline=None)
@given(st.text(alphabet="abcXYZ019 .,'-\n", max_size=60))
def test_ascii_tokens_are_those_of_rouge_score(rouge_scorer: ModuleType, text: str) -> None:
    assert tokenise(text) == rouge_scorer.RougeScorer([])._tokenizer.tokenize(text)


def test_an_empty_output_counts_as_nothing_found() -> None:
    assert rouge_l(Texts(["", "a b"], [["a b"], ["a b"]], "eng_Latn")) == 0.5
    assert f_measure([], []) == 0.0
    assert math.isnan(rouge_l(Texts(["a"], [[]], "eng_Latn")))
