from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.benchmark_load import load_benchmark, names_in
from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.evaluation.benchmarks.choices import ask_choices
from megatron.evaluation.benchmarks.data import Items
from megatron.evaluation.benchmarks.fields import check_fields
from megatron.evaluation.benchmarks.generation import ask_generation
from megatron.evaluation.benchmarks.manifest import BenchmarkDataError
from megatron.evaluation.benchmarks.outcome import RunOptions

from .models import Uniform

RECORDS = [{"id": str(n), "text": f"Text {n}", "label": "ab"[n % 2], "none": None, "list": ["x"]} for n in range(4)]


def definition(kind: str = "generation", **changes: object) -> BenchmarkConfig:
    given = {
        "name": "own", "data": "mine", "kind": kind, "prompt": "{language} {text}", "answer": " {label}", "shots": 1,
        "reference": "label", "metrics": ("accuracy",), **changes,
    }  # fmt: skip
    return BenchmarkConfig(**({"labels": {"a": "A", "b": "B"}} if kind == "choices" else {}) | given)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["generation", "choices"])
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"reference": "lable"}, "`reference` names the field 'lable', which 4 of 4 records of "
         "mine/swh_Latn/test.jsonl lack; there is id, label, text. Did you mean 'label'?"),
        ({"reference": "none"}, "`reference` names the field 'none', which 4 of 4"),
        ({"shorten": "language"}, "`shorten` names the field 'language', which 4 of 4"),
        ({"prompt": "{txt}"}, "`prompt` names the field 'txt', which 4 of 4 records of mine/swh_Latn/train.jsonl lack; "
         "there is id, label, language, text. Did you mean 'text'?"),
        ({"prompt": "{list}"}, "`prompt` names the field 'list'"),
        ({"shot": "{summary}"}, "`shot` names the field 'summary', which 4 of 4 records of mine/swh_Latn/train.jsonl"),
        ({"instruction": "{text}"}, "`instruction` asks for {text}; there is language."),
    ],
)  # fmt: skip
def test_missing_fields_are_told_before_the_model_is_asked(kind: str, changes: dict[str, str], told: str) -> None:
    model, ask = Uniform(), {"generation": ask_generation, "choices": ask_choices}[kind]
    with pytest.raises(ValueError) as error:
        ask(model, definition(kind, **changes), "swh_Latn", Items(RECORDS, RECORDS, 0), RunOptions())  # type: ignore[arg-type]
    assert told in str(error.value) and "own.yml: " in str(error.value)
    assert not model.prompts and not model.requests


def test_all_are_told_at_once() -> None:
    wrong = definition("choices", prompt="{txt}", answer=" {label}{text}", premise="{id}", reference="lable")
    with pytest.raises(BenchmarkDataError) as error:
        check_fields(wrong, "swh_Latn", Items(RECORDS, RECORDS, 0), RECORDS, names=["language"])
    assert [line.split("`")[1] for line in str(error.value).splitlines()] == [
        "premise", "answer", "prompt", "reference", "prompt", "reference",
    ]  # fmt: skip


@given(st.sets(st.integers(0, 19)))
def test_every_record_is_looked_at(broken: set[int]) -> None:
    records = [{"id": str(n), "text": "x", **({} if n in broken else {"label": "a"})} for n in range(20)]
    items = Items(records, RECORDS, 0)
    if not broken:
        check_fields(definition(), "swh_Latn", items, records, names=["language"])
        return
    with pytest.raises(BenchmarkDataError, match=f"'label', which {len(broken)} of 20 records"):
        check_fields(definition(), "swh_Latn", items, records, names=["language"])


def test_records_that_are_not_asked_about_may_lack_fields() -> None:
    items = Items([RECORDS[0], {"id": "2"}], RECORDS, 0)
    asked = ask_generation(Uniform(), definition(), "swh_Latn", items, RunOptions(limit=1))  # type: ignore[arg-type]
    assert asked().items[0]["references"] == ["a"]


def test_what_is_shipped_asks_for_what_records_have() -> None:
    there = {"id": "1", "text": "x", "label": "x", "prompt": "x", "target": "x", "source": "x", "summary": "x"}
    for name in names_in():
        benchmark = load_benchmark(name)
        if benchmark.kind != "text":
            names = [*benchmark.wording, "language", "source_language", "target_language"]
            check_fields(benchmark, "swh_Latn", Items([there], [there], 0), [there], names=names)
