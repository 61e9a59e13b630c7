from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from megatron.evaluation.metrics.registry import (
    METRICS,
    MetricError,
    MetricSettings,
    Texts,
    check,
    compute,
    metric,
    signature,
)

NEED_A_FILE = {"spbleu-flores200", "bertscore"}
PERCENTAGES = {"chrf++", "bleu", "self_bleu", "self_bleu_published"}


def test_every_metric_is_there_by_its_name() -> None:
    assert list(METRICS) == [found.name for found in METRICS.values()]
    assert set(METRICS) == {
        "accuracy", "macro_f1", "exact_match", "chrf++", "bleu", "spbleu-flores200", "rouge_l", "self_bleu",
        "self_bleu_published", "distinct_1", "distinct_2", "repetition_4", "empty_rate", "off_target_rate", "bertscore",
    }  # fmt: skip
    assert metric("chrf++").higher_is_better and not metric("empty_rate").higher_is_better


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(MetricError, match=r"no metric is called 'chrf\+'\. Did you mean 'chrf\+\+'\? There are acc"):
        metric("chrf+")
    with pytest.raises(MetricError, match=r"no metric is called 'zzz'\. There are"):
        compute(["accuracy", "zzz"], Texts([], [], "eng_Latn"))


def test_nothing_gives_no_number_anywhere() -> None:
    for texts in (Texts([], [], "eng_Latn"), Texts([""], [[]], "eng_Latn")):
        values = compute(list(METRICS), texts)
        assert list(values) == list(METRICS)
        assert {name for name, value in values.items() if not math.isnan(value)} <= {"empty_rate"}


def test_right_outputs_get_the_best_values_in_every_script() -> None:
    for language, text, other in (
        ("eng_Latn", "the cat is on the mat", "some dogs were under a table"),
        ("tha_Thai", "แมวอยู่บนเสื่อ", "มีสุนัขใต้โต๊ะ"),
        ("cmn_Hani", "貓在墊子上面", "桌子下有幾條狗"),
        ("amh_Ethi", "ድመቷ ምንጣፉ ላይ ናት ዛሬ", "ውሾች ከጠረጴዛ በታች ነበሩ ትናንት"),
    ):
        values = compute(list(METRICS), Texts([text, other], [[text], [other]], language))
        best = {name: 100.0 if name in PERCENTAGES else 1.0 for name in METRICS if METRICS[name].needs_references}
        got = {name: values[name] for name in best}
        assert got == pytest.approx({**best, **dict.fromkeys(NEED_A_FILE, math.nan)}, nan_ok=True)
        assert values["empty_rate"] == values["off_target_rate"] == 0.0
        assert values["distinct_2"] > 0.9 and values["self_bleu"] < 30


def test_empty_outputs_count_where_references_are_compared() -> None:
    text = "the cat is on the mat"
    half = compute(["exact_match", "rouge_l"], Texts([text, ""], [[text], [text]], "eng_Latn"))
    assert half == {"exact_match": 0.5, "rouge_l": 0.5}


def test_every_metric_has_a_signature_of_one_line() -> None:
    for name in METRICS:
        assert re.fullmatch(r"[^\n]+", signature(name)) and signature(name, language="tha_Thai")
    assert signature("chrf++") == "nrefs:var|case:mixed|eff:yes|nc:6|nw:2|space:no|version:2.6.0"
    assert signature("bleu", language="eng_Latn") == "nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
    assert "|tok:char|" in signature("bleu", language="lao_Laoo")
    assert "|tok:13a or char, by script|" in signature("bleu")
    assert "|tok:flores200|" in signature("spbleu-flores200")
    of_few = signature("self_bleu", language="eng_Latn", settings=MetricSettings(self_bleu_texts=50, seed=3))
    assert of_few.endswith("|texts:50|seed:3|empty:left out, at most half") and "|eff:yes|tok:13a|" in of_few
    with pytest.raises(MetricError, match="no metric"):
        signature("rouge")


def test_what_is_missing_is_found_before_the_work(tmp_path: Path) -> None:
    check(list(METRICS), MetricSettings())
    settings = MetricSettings(spbleu_model=tmp_path / "no.model", bertscore_model=tmp_path / "no")
    check(["bleu"], settings)
    with pytest.raises(MetricError) as error:
        check(["bleu", "spbleu-flores200", "nonsense", "bertscore"], settings)
    assert len(str(error.value).splitlines()) == 3
