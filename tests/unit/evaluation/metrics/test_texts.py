from __future__ import annotations

import pytest

from megatron.evaluation.metrics.texts import MetricError, MetricSettings, Texts


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(MetricError) as error:
        Texts(["a", "b"], ["answer"], "swahili")
    assert str(error.value) == (
        "2 outputs do not match 1 lists of references: give one list for each output, [] where there is no right "
        "answer; the references 'answer' must be a list of texts, not one text; language 'swahili' is not like swh_Latn"
    )


@pytest.mark.parametrize("language", ["swh_Latn\n", "swh_Latn-eng_Latn", "sw_Latn", "swh_latn", ""])
def test_a_language_is_one_corpus_code(language: str) -> None:
    with pytest.raises(MetricError, match="not like swh_Latn"):
        Texts([], [], language)


def test_one_text_is_no_list_of_texts() -> None:
    with pytest.raises(MetricError, match="outputs must be a list"):
        Texts("ab", [[], []], "swh_Latn")


def test_long_texts_are_quoted_shortly() -> None:
    with pytest.raises(MetricError) as error:
        Texts(["a"], ["x" * 10_000], "swh_Latn")
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("wrong", [{"self_bleu_texts": 1}, {"bertscore_layers": 0}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(MetricError, match=f"{next(iter(wrong))} must be at least"):
        MetricSettings(**wrong)  # type: ignore[arg-type]
