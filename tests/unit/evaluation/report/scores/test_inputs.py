from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.evaluation.report.data import ReportError
from megatron.evaluation.report.scores.directions import is_loss, known_direction
from megatron.evaluation.report.scores.inputs import load_evaluation
from megatron.evaluation.report.scores.published import read_published
from megatron.evaluation.report.scores.tiers import Tiers, read_tiers
from megatron.evaluation.report.scores.values import UNMAPPED, Language, subject_of
from megatron.monitor.record import MetricsWriter

CODES = [f"{chr(97 + n // 26)}{chr(97 + n % 26)}a_Latn" for n in range(40)]


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def table_lines(values: dict, codes: list[str], models: list[str], *, models_in_rows: bool) -> list[str]:
    def text(code: str, model: str) -> str:
        return repr(values[code][model]) if model in values.get(code, {}) else ""

    if models_in_rows:
        return [",".join(["model", *codes]), *(",".join([m, *(text(c, m) for c in codes)]) for m in models)]
    return [",".join(["code", *models]), *(",".join([c, *(text(c, m) for m in models)]) for c in codes)]


@given(st.data())
def test_languages_are_joined_by_code_whatever_their_order_and_whatever_is_missing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder, random_ = tmp_path_factory.mktemp("t"), data.draw(st.randoms(use_true_random=False))
    some_codes = st.lists(st.sampled_from(CODES), unique=True, min_size=1)
    held = {
        model: {code: random_.uniform(0.1, 9) for code in data.draw(some_codes)} for model in ("base", "ours", "other")
    }
    inputs = []
    for model, values in held.items():
        sub = folder / model
        sub.mkdir()
        codes = list(values)
        random_.shuffle(codes)
        by_code = {code: {model: value} for code, value in values.items()}
        lines = table_lines(by_code, codes, [model], models_in_rows=data.draw(st.booleans()))
        inputs.append(write(sub / "nll_web.csv", *lines))
    (table,) = load_evaluation(inputs).tables
    assert [row.language.code for row in table.rows] == sorted({code for values in held.values() for code in values})
    for row in table.rows:
        for model, value in zip(held, row.values, strict=True):
            expected = held[model].get(row.language.code)
            assert (value == expected) if expected is not None else math.isnan(value)
    shared = set.intersection(*(set(values) for values in held.values()))
    assert {row.language.code for row in table.compared()} == shared


def test_both_ways_round_are_one_table(tmp_path: Path) -> None:
    rng = random.Random(3)
    values = {code: {model: rng.uniform(1, 9) for model in ("a", "b, c")} for code in CODES}
    del values[CODES[0]]["a"]
    models = ["a", '"b, c"']
    quoted = {code: {f'"{m}"' if "," in m else m: v for m, v in row.items()} for code, row in values.items()}
    first = write(tmp_path / "nll_web.csv", *table_lines(quoted, CODES, models, models_in_rows=True))
    (tmp_path / "b").mkdir()
    second = write(tmp_path / "b" / "nll_web.csv", *table_lines(quoted, CODES[::-1], models, models_in_rows=False))
    tables = [read_published(path) for path in (first, second)]
    assert tables[0].models == tables[1].models == ("a", "b, c")
    for code in CODES:
        for model in ("a", "b, c"):
            found = [table.values[code][model] for table in tables]
            if (code, model) == (CODES[0], "a"):
                assert all(map(math.isnan, found))
            else:
                assert found == [values[code][model]] * 2


def test_the_metric_is_told_by_the_name_or_by_the_user(tmp_path: Path) -> None:
    lines = ("code,avg,m", "mean,,1", "eng_Latn,,2")
    table = read_published(write(tmp_path / "chrf++_flores_x_eng.csv", *lines))
    assert (table.benchmark, table.metric, table.higher_is_better) == ("flores_x_eng", "chrf++", True)
    assert table.ignored == ("mean",)
    table = read_published(write(tmp_path / "xlsum.csv", *lines), metric=("ROUGE", True))
    assert (table.benchmark, table.metric, table.higher_is_better) == ("xlsum", "ROUGE", True)
    with pytest.raises(ReportError, match="--table-metric"):
        read_published(tmp_path / "xlsum.csv")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["code,a", "eng_Latn,x"], "a, eng_Latn: 'x' is no number"),
        (["code,a", "eng_Latn,1", "eng_Latn,2"], "'eng_Latn' is given twice"),
        (["code,a,a", "eng_Latn,1,2"], "'a' is given twice"),
        (["code,a", "english,1"], "neither the first row nor the first column holds corpus codes"),
        (["code,a"], "it has 1 row"),
        (["code,a", "eng_Latn,inf"], "'inf' is no number"),
        (["code,a", "eng_Latn,1e300"], "'1e300' is no number"),
        (["code,a", "eng_Latn,1_000"], "'1_000' is no number"),
        (["model,eng_Latn", ",2"], "a model has no name"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(ReportError, match=message):
        read_published(write(tmp_path / "nll_x.csv", *lines))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nll_x.csv").write_bytes(b"code,a\n\xff\xfe,1\n")
    with pytest.raises(ReportError, match="no CSV in UTF-8"):
        read_published(tmp_path / "nll_x.csv")


@pytest.mark.parametrize(
    ("metric", "higher", "loss"),
    [
        ("nll", False, True), ("NLL", False, True), ("bits_per_byte", False, True), ("acc_norm", True, False),
        ("accuracy", True, False), ("chrf++", True, False), ("self_bleu_published", False, False),
        ("terms", None, False), ("pass@10", True, False), ("rouge_l", True, False), ("empty_rate", False, False),
        ("accent", None, False),
        ("acc_stderr", None, False), ("answer_bits_per_byte", False, True), ("bytes", None, False),
    ],
)  # fmt: skip
def test_directions(metric: str, higher: bool | None, loss: bool) -> None:
    assert (known_direction(metric), is_loss(metric)) == (higher, loss)


def test_directions_are_those_of_the_metrics() -> None:
    pytest.importorskip("sacrebleu", reason="needs sacrebleu, which the metrics of texts are made with")
    from megatron.evaluation.metrics.registry import METRICS

    assert {name: known_direction(name) for name in METRICS} == {
        name: metric.higher_is_better for name, metric in METRICS.items()
    }


def test_tiers_of_a_table_join_the_rows_of_a_language(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.tsv", "# MaLA", "language\ttokens\tsource\ttier", "swh_Latn\t10\tmonolingual\tlow",
        "swh_Latn\t~90\tbilingual\tmedium", "eng_Latn\t\tmonolingual\thigh", "xho_Latn\t5", "",
    )  # fmt: skip
    tiers = read_tiers(path)
    assert tiers.language("swh_Latn") == Language("swh_Latn", "medium", "bilingual + monolingual", 100)
    pair = "eng_Latn-swh_Latn"
    assert tiers.language(pair) == Language(pair, "medium", "bilingual + monolingual", 100)
    assert tiers.language("eng_Latn") == Language("eng_Latn", "high", "monolingual", None)
    assert tiers.language("xho_Latn").tier == tiers.language("zul_Latn").tier == UNMAPPED
    assert (tiers.order, tiers.origin) == (("high", "medium", "low"), "t.tsv")


def test_tiers_come_in_their_order(tmp_path: Path) -> None:
    known = write(tmp_path / "a.tsv", "code\ttier", "a\tlow", "b\thigh", "c\tmedium-low", "d\tunseen")
    assert read_tiers(known).order == ("high", "medium-low", "low", "unseen")
    own = write(tmp_path / "b.tsv", "code\ttier\ttokens", "a\tsmall\t5", "b\thuge\t500", "c\tlarge\t50")
    assert read_tiers(own).order == ("huge", "large", "small")


def test_tiers_of_a_run_are_those_of_its_mixture(tmp_path: Path) -> None:
    rows = [
        {"corpus": "swh", "code": "swh_Latn", "tier": "low", "source": "monolingual", "tokens": 7, "share": 1.0},
        {"corpus": "zul", "code": "zul_Latn", "tier": None, "source": "monolingual", "tokens": 7, "share": 0.0},
    ]
    with MetricsWriter(tmp_path / "run" / "metrics.jsonl") as writer:
        writer.write("mixture", 0, kind="planned", rows=rows)
    (tmp_path / "mixture.json").write_text(json.dumps(rows), encoding="utf-8")
    for path in (tmp_path / "run", tmp_path / "run" / "metrics.jsonl", tmp_path / "mixture.json"):
        tiers = read_tiers(path)
        assert tiers.language("swh_Latn") == Language("swh_Latn", "low", "monolingual", 7)
        assert tiers.language("zul_Latn").tier == UNMAPPED


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.tsv", "code\tsize\n", "are no table of tiers"),
        ("t.tsv", "", "are no table of tiers"),
        ("t.tsv", "code\ttier\ttokens\na\tb\tmany\n\tc\n", "(?s)row 2: tokens = 'many'.*row 3: no code"),
        ("t.tsv", "code\ttier\na\tb\na\tc\n", "a is given twice"),
        ("t.json", "{}", "no mixture"),
        ("t.json", "[", "not valid JSON"),
        ("t.json", '[{"code": 1}]', "no mixture"),
    ],
)
def test_a_file_without_tiers_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ReportError, match=message):
        read_tiers(tmp_path / name)


def test_scripts_are_those_of_the_language_that_is_not_english() -> None:
    codes = ["swh_Latn", "eng_Latn-amh_Ethi", "amh_Ethi-eng_Latn", "fra_Latn-amh_Ethi", "python", "eng_Latn"]
    assert [Language(code).script for code in codes] == ["Latn", "Ethi", "Ethi", "Ethi", "no script", "Latn"]
    assert subject_of("eng_Latn-amh_Ethi") == "amh_Ethi"


def test_a_code_in_another_script_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "nll_web.csv", "code,a,b", "jpn_Jpan,1,2", "eng_Latn,1,2", "xho_Latn,1,2")
    tiers = Tiers({code: Language(code, "high") for code in ("jpn_Japn", "eng_Latn", "eng_Brai")}, ("high",), "t.tsv")
    found = load_evaluation([path], tiers=tiers)
    assert found.other_scripts == {"jpn_Jpan": ["jpn_Japn"]}
    assert found.tiers == ("high", UNMAPPED)
