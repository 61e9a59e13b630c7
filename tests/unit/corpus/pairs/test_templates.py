import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.corpus_schema import ParallelConfig
from megatron.corpus.document import CorpusError
from megatron.corpus.languages import Label
from megatron.corpus.pairs.templates import BUILT_IN, PairTemplate

ENG, SWH = Label("eng", "Latn"), Label("swh", "Latn")
PAIRS = [("Hello.", "Habari."), (" Yes.\n", "Ndiyo.")]


def document(pairs=PAIRS, labels=(ENG, SWH), **settings):
    settings = {"direction": "forward", **settings}
    return PairTemplate(ParallelConfig(**settings), source=labels[0], target=labels[1]).document(pairs)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "Hello.\nHabari.\n\nYes.\nNdiyo."),
        ("tagged", "[eng_Latn] Hello.\n[swh_Latn] Habari.\n[eng_Latn] Yes.\n[swh_Latn] Ndiyo."),
        (
            "translation",
            "Translate from English to Swahili.\n\nEnglish: Hello.\nSwahili: Habari.\n\nEnglish: Yes.\nSwahili: Ndiyo.",
        ),
        (
            r"{source_code}>{target_code}: {source}\t{target}",
            "eng_Latn>swh_Latn: Hello.\tHabari.\neng_Latn>swh_Latn: Yes.\tNdiyo.",
        ),
    ],
)
def test_templates(template, expected):
    assert document(template=template) == expected


def test_backward_swaps_texts_codes_and_names():
    assert document(direction="backward").startswith("[swh_Latn] Habari.\n[eng_Latn] Hello.")
    assert document(direction="backward", template="translation").startswith("Translate from Swahili to English.")


def test_header_and_separator_may_be_replaced():
    assert document(header=r"{source_name}-{target_name}\n", separator="|", template="{source}={target}") == (
        "English-Swahili\nHello.=Habari.|Yes.=Ndiyo."
    )
    assert document(template="translation", header="", separator=r"\n").startswith("English: Hello.")


def test_the_default_marks_every_sentence():
    assert PairTemplate(ParallelConfig(), source=ENG, target=SWH).document(PAIRS) in (
        document(template="tagged"),
        document(template="tagged", direction="backward"),
    )


def many(count):
    return [[(f"source {number}", f"target {number}")] for number in range(count)]


def test_both_directions_are_drawn_about_equally_often_by_the_text_and_the_seed():
    found = [document(pairs, direction="both", template="plain") for pairs in many(400)]
    assert found == [document(pairs, direction="both", template="plain") for pairs in many(400)]
    forward = sum(text.startswith("source") for text in found)
    assert 160 < forward < 240
    assert found != [document(pairs, direction="both", template="plain", seed=1) for pairs in many(400)]


def test_code_switched_documents_take_one_side_of_every_pair():
    pairs = [pair for (pair,) in many(400)]
    sentences = document(pairs, template="code-switched").split("\n")
    assert len(sentences) == 400
    assert all(sentence in pair for sentence, pair in zip(sentences, pairs, strict=True))
    sources = sum(sentence.startswith("source") for sentence in sentences)
    assert 160 < sources < 240
    other = document(pairs, template="code-switched", direction="backward").split("\n")
    assert all({a, b} == set(pair) for a, b, pair in zip(sentences, other, pairs, strict=True))


@pytest.mark.parametrize("template", BUILT_IN)
@given(pairs=st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=4))
def test_sentences_stay_what_they_are(template, pairs):
    text = document(pairs, template=template, direction="both")
    for source, target in pairs:
        there = (source.strip() in text, target.strip() in text)
        assert any(there) if template == "code-switched" else all(there)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"template": "taged"}, r"parallel.template 'taged': no such template; use plain, tagged, translation, code-"),
        ({"template": "{source}"}, r"parallel.template '\{source\}': lacks the placeholder \{target\}"),
        ({"template": "{source} {target} {lang}"}, r"no placeholder \{lang\}; it may have \{source\}, \{target\}, "),
        ({"header": "{source}"}, r"parallel.header '\{source\}': no placeholder \{source\}"),
    ],
)
def test_what_is_no_template(settings, problem):
    with pytest.raises(CorpusError, match=problem):
        document(**settings)
