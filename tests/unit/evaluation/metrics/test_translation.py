from __future__ import annotations

import math
import socket
from pathlib import Path

import pytest
import sacrebleu
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.evaluation.metrics import translation
from megatron.evaluation.metrics.texts import MetricError, MetricSettings, Texts, warn_once
from megatron.evaluation.metrics.translation import bleu, bleu_tokenizer, chrf, spbleu_flores200

WORDS = ["the", "cat", "sat", "on", "mat.", "a", "dog", "(big)", "ไทย", "кот", "&amp;"]
SENTENCE = st.lists(st.sampled_from(WORDS), max_size=15).map(" ".join)
ITEMS = st.lists(st.tuples(SENTENCE, st.lists(SENTENCE, min_size=1, max_size=3)), min_size=1, max_size=8)


@settings(deadline=None)
@given(ITEMS)
def test_values_are_those_of_sacrebleu(items: list[tuple[str, list[str]]]) -> None:
    outputs = [output for output, _ in items]
    texts = Texts(outputs, [references for _, references in items], "eng_Latn")
    most = max(len(references) for _, references in items)
    streams = [[(references + [None] * most)[number] for _, references in items] for number in range(most)]
    assert bleu(texts) == sacrebleu.BLEU().corpus_score(outputs, streams).score
    assert chrf(texts) == sacrebleu.CHRF(word_order=2).corpus_score(outputs, streams).score


def test_identical_texts_are_perfect_and_empty_ones_are_not() -> None:
    text = "All human beings are born free and equal."
    for metric in (bleu, chrf):
        assert metric(Texts([text], [[text]], "eng_Latn")) == pytest.approx(100)
        assert metric(Texts([""], [[text]], "eng_Latn")) == 0
        assert metric(Texts(["", text], [[text], [text]], "eng_Latn")) < 100
        assert math.isnan(metric(Texts([text], [[]], "eng_Latn"))) and math.isnan(metric(Texts([], [], "eng_Latn")))


def test_scripts_without_blanks_are_compared_letter_by_letter() -> None:
    output, reference = "人人生而自由，在尊嚴和權利上", "人人生而自由，在尊嚴上一律平等"
    assert bleu(Texts([output], [[reference]], "cmn_Hani")) > 40
    assert bleu(Texts([output], [[reference]], "eng_Latn")) == 0
    wanted = {"Hani": "char", "Jpan": "char", "Thai": "char", "Laoo": "char", "Khmr": "char", "Mymr": "char"}
    wanted |= {"Tibt": "char", "Hans": "char", "Latn": "13a", "Cyrl": "13a", "Deva": "13a", "Hang": "13a"}
    assert {script: bleu_tokenizer(script) for script in wanted} == wanted


def test_lines_are_not_kept_after_the_score() -> None:
    bleu(Texts(["some text"], [["some text"]], "eng_Latn"))
    tokenizer = sacrebleu.BLEU().tokenizer
    assert type(tokenizer).__call__.cache_info().currsize == 0
    assert type(tokenizer._post_tokenizer).__call__.cache_info().currsize == 0


def test_without_the_file_there_is_no_spbleu_and_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    warn_once.cache_clear()
    for _ in range(2):
        assert math.isnan(spbleu_flores200(Texts(["a"], [["a"]], "eng_Latn")))
    [record] = caplog.records
    assert "spbleu_model names no file" in record.message


def test_spbleu_is_bleu_over_the_pieces_of_the_file(spm_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr("sacrebleu.utils.download_file", refuse)
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_spm.download_file", refuse)
    outputs, references = ["the cat sat on a dog", "a ไทย"], ["the cat sat on the dog", "a кот ไทย"]
    texts = Texts(outputs, [[text] for text in references], "eng_Latn", MetricSettings(spbleu_model=spm_model))
    processor = sentencepiece.SentencePieceProcessor(model_file=str(spm_model))
    cut = [[" ".join(processor.encode(text, out_type=str)) for text in side] for side in (outputs, references)]
    expected = sacrebleu.BLEU(tokenize="none", force=True).corpus_score(cut[0], [cut[1]]).score
    assert 0 < expected < 100
    assert spbleu_flores200(texts) == expected


def test_another_file_is_refused(spm_model: Path) -> None:
    other = spm_model.with_name("other.model")
    data = bytearray(spm_model.read_bytes())
    data[-1] ^= 1
    for content in (bytes(data), bytes(data[:-1]), b""):
        other.write_bytes(content)
        texts = Texts(["a"], [["a"]], "eng_Latn", MetricSettings(spbleu_model=other))
        with pytest.raises(MetricError, match=r"other\.model .* is not FLORES-200's tokenizer"):
            spbleu_flores200(texts)
    with pytest.raises(MetricError, match="cannot be read"):
        spbleu_flores200(Texts(["a"], [["a"]], "eng_Latn", MetricSettings(spbleu_model=other / "no")))


def test_the_published_model_is_the_one_that_is_asked_for() -> None:
    assert translation._FLORES200_SHA256.startswith("14bb8dfb35c0") and len(translation._FLORES200_SHA256) == 64
