from __future__ import annotations

import math

import pytest

from megatron.evaluation.metrics.surface import empty_rate, off_target_rate
from megatron.evaluation.metrics.texts import Texts


def rate(language: str, *outputs: str) -> float:
    return off_target_rate(Texts(outputs, [[] for _ in outputs], language))


def test_outputs_without_anything_to_see_are_empty() -> None:
    outputs = ["", " \n\t", "\u200b\u00a0\u0000", ".", "a", "๏"]
    assert empty_rate(Texts(outputs, [[] for _ in outputs], "eng_Latn")) == 0.5
    assert math.isnan(empty_rate(Texts([], [], "eng_Latn")))


@pytest.mark.parametrize(
    ("language", "output", "wrong"),
    [
        ("tha_Thai", "ประเทศไทย", 0.0),
        ("tha_Thai", "Thailand", 1.0),
        ("tha_Thai", "ประเทศไทย is Thailand", 1.0),
        ("srp_Latn", "Сви људи се рађају", 1.0),
        ("cmn_Hans", "人人生而自由", 0.0),
        ("cmn_Hani", "すべての人間は、生まれながら", 1.0),
        ("jpn_Jpan", "すべての人間は", 0.0),
        ("jpn_Jpan", "日本国憲法", 0.0),  # as short as a title
        ("jpn_Jpan", "人人生而自由，在尊嚴和權利上一律平等" * 4, 1.0),
        ("kor_Hang", "모든 인간은", 0.0),
        ("kor_Kore", "모든 인간은", 0.0),
        ("deu_Latf", "Alle Menschen", 0.0),
    ],
)
def test_the_main_script_is_compared_with_that_of_the_code(language: str, output: str, wrong: float) -> None:
    assert rate(language, output) == wrong


def test_outputs_without_letters_do_not_count() -> None:
    assert rate("tha_Thai", "12", "", "?!", "Thai", "ไทย", "ไทย") == pytest.approx(1 / 3)
    assert math.isnan(rate("tha_Thai", "12", ""))
    assert math.isnan(rate("zxx_Zxxx", "text"))
