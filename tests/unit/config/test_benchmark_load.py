from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.benchmark_load import BENCHMARKS, load_benchmark, load_benchmarks, load_suites, names_in
from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.config.problems import ConfigError
from megatron.config.templates import fill_template, parse_template, template_fields
from megatron.evaluation.benchmarks.prepare.formats import FORMATS
from megatron.evaluation.metrics.registry import METRICS

CHOICES = """\
data: d
kind: choices
prompt: "{text} is"
answer: " {label}"
labels: [a, b]
reference: label
metrics: [accuracy]
"""


def problems(folder: Path, text: str, name: str = "own") -> str:
    (folder / f"{name}.yml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_benchmark(name, folder)
    return str(error.value)


def test_every_shipped_benchmark_is_whole() -> None:
    benchmarks = load_benchmarks(names_in())
    assert len(benchmarks) >= 18
    for benchmark in benchmarks:
        assert benchmark.format in FORMATS
        assert set(benchmark.metrics) <= {*METRICS, "bits_per_byte"}
        if benchmark.name.endswith("-published"):
            assert load_benchmark(benchmark.name.removesuffix("-published")).data == benchmark.data
    suites = load_suites()
    listed = {name for names in suites.values() for name in names}
    # `flores200-text` is no benchmark of EMMA-500.
    assert listed == set(names_in()) - {"flores200-text"}, "every other benchmark is in a suite"
    assert [each.name for each in load_benchmarks(["emma", "sib200"])] == list(suites["emma"])


def test_a_benchmark_is_read(tmp_path: Path) -> None:
    (tmp_path / "own.yml").write_text(CHOICES)
    found = load_benchmark("own", tmp_path)
    assert (found.name, found.labels, found.shots) == ("own", {"a": "a", "b": "b"}, 0)
    assert load_benchmark(str(tmp_path / "own.yml")) == found == load_benchmarks([str(tmp_path / "own")])[0]


def test_a_base_gives_what_is_not_said(tmp_path: Path) -> None:
    (tmp_path / "own.yml").write_text(CHOICES + "wording: {w: {default: x, swh_Latn: y}}\n")
    (tmp_path / "other.yml").write_text("based_on: own\nlabels: {a: A, b: B}\nwording: {w: {swh_Latn: z}}\n")
    found = load_benchmark("other", tmp_path)
    assert found.labels == {"a": "A", "b": "B"} and found.wording == {"w": {"default": "x", "swh_Latn": "z"}}
    (tmp_path / "third.yml").write_text("based_on: other\nlabels: {a: x}\n")
    third = load_benchmark("third", tmp_path)
    assert third.labels == {"a": "x", "b": "B"} and third.wording == found.wording and third.reference == "label"
    assert "names no benchmark. Did you mean 'own'?" in problems(tmp_path, "based_on: owm\n" + CHOICES, "third")


def test_bases_that_go_round_in_a_circle_are_told(tmp_path: Path) -> None:
    assert "based_on = 'own': goes round in a circle: own -> own" in problems(tmp_path, f"based_on: own\n{CHOICES}")
    (tmp_path / "one.yml").write_text("based_on: two\n")
    assert "circle: one -> two -> one" in problems(tmp_path, f"based_on: one\n{CHOICES}", "two")


def test_all_problems_are_told_with_file_key_and_rule(tmp_path: Path) -> None:
    text = CHOICES.replace("{text} is", "{text.__class__} is").replace("kind: choices", "kind: chioces")
    told = problems(tmp_path, text + "shot: 5\nlabls: [x]\nname: x\nlanguages: {no: nor_Latn}\n")
    assert "own.yml:3: prompt" in told and "{text.__class__}, which is no plain name" in told
    assert "own.yml:2: kind = 'chioces': is not one of 'choices', 'generation', 'text'" in told
    assert "Did you mean 'labels'?" in told and "own.yml:10: name" in told and "'no'" in told and "6 problems" in told


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ('answer: "x"', "has no field {label}"),
        ("labels: [a]", "fewer than two"),
        ("labels: {a: x, b: x}", "two labels alike"),
        ("label_texts: {swh_Latn: {a: x}}", "exactly the labels"),
        ("reference: null", "reference: is missing"),
        ('prompt: ""', "prompt: is missing"),
        ("wording: {w: {swh_Latn: x}}", "has no `default`"),
        ("shorten: summary", "no field of the prompt"),
        ("kind: generation", "is not `choices`"),
        ("kind: text", "means nothing to kind `text`"),
        ('instruction: "{"', "is no template"),
        ("data: ../elsewhere", "data = '../elsewhere'"),
        ("metrics: []", "fewer than 1"),
    ],
)
def test_each_rule(tmp_path: Path, line: str, rule: str) -> None:
    key = line.partition(":")[0]
    kept = "\n".join(each for each in CHOICES.splitlines() if not each.startswith(f"{key}:"))
    assert rule in problems(tmp_path, f"{kept}\n{line}\n")


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        ("label_texts:\n  eng_Latn: {a: x, b: y}\n  swh_Latn: {a: x}", ":3: label_texts.swh_Latn: does not"),
        ("label_texts:\n  swh_Latn: {a: x, b: x}", ":2: label_texts.swh_Latn: writes two labels alike"),
        ("wording:\n  v: {default: x}\n  w:\n    swh_Latn: x", ":3: wording.w: has no `default`"),
        ("wording:\n  v:\n    default: x\n    swh: x", ":4: wording.v.swh"),
    ],
)
def test_a_problem_inside_a_mapping_has_the_line_of_its_key(tmp_path: Path, lines: str, place: str) -> None:
    kept = [each for each in CHOICES.splitlines() if not each.startswith(f"{lines.partition(':')[0]}:")]
    line = len(kept) + int(place[1])
    assert f"own.yml:{line}{place[2:]}" in problems(tmp_path, "\n".join([*kept, lines, ""]))


def test_a_definition_knows_where_each_of_its_values_was_written(tmp_path: Path) -> None:
    (tmp_path / "own.yml").write_text(CHOICES)
    (tmp_path / "other.yml").write_text("based_on: own\nshots: 2\nwording:\n  question:\n    default: y\n")
    other = load_benchmark("other", tmp_path)
    assert other.place("shots") == f"{tmp_path}/other.yml:2"
    assert other.place("wording", "question", "default") == f"{tmp_path}/other.yml:5"
    assert other.place("prompt") == f"{tmp_path}/own.yml:3" and other.place("stop") == f"{tmp_path}/other.yml"
    assert BenchmarkConfig(name="b", data="d", kind="text", metrics=("x",)).place("stop") == "b.yml"


def test_unknown_names_and_suites(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)'sib20'\. Did you mean 'sib200'.*'emna'\. Did you mean 'emma'"):
        load_benchmarks(["sib20", "emna"])
    (tmp_path / "own.yml").write_text(CHOICES)
    (tmp_path / "suites.yml").write_text("suites:\n  mine: [own, owm]\n")
    with pytest.raises(ConfigError, match=r"suites\.yml:2: suites\.mine.*has no benchmark 'owm'.*Did you mean 'own'"):
        load_suites(tmp_path)
    assert load_suites(tmp_path / "none") == {} and BENCHMARKS.is_dir()


@given(st.text(), st.dictionaries(st.sampled_from("abc"), st.text(), min_size=3))
def test_what_is_filled_in_is_not_read_again(text: str, values: dict[str, str]) -> None:
    escaped = text.replace("{", "{{").replace("}", "}}")
    assert fill_template(escaped + "{a}{b}" + escaped, values) == text + values["a"] + values["b"] + text


@given(st.text(alphabet="{}a.![]: x0"))
def test_any_text_is_a_template_or_a_value_error(text: str) -> None:
    try:
        fields = template_fields(text)
    except ValueError:
        return
    assert all(field.isidentifier() for field in fields)
    assert parse_template(text) is not None
