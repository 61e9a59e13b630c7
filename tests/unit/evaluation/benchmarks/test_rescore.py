from __future__ import annotations

import logging
import math
import re
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

from megatron.config.benchmark_load import load_benchmark
from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.evaluation.benchmarks.prepare.run import prepare
from megatron.evaluation.benchmarks.rescore import rescore_folder
from megatron.evaluation.benchmarks.run import run_suite
from megatron.evaluation.metrics.registry import METRICS, MetricSettings
from megatron.evaluation.results import IncompleteError, ResultsError, ResultsFolder, Score, items_path, read_scores
from megatron.utils.files import InUseError, exclusive

from .models import Prefers, Uniform
from .upstream import SIB_LABELS, sib200, write

TINY = {"name": "tiny", "step": 3}
NUMBERS = ("none", "one", "two", "three")
FLORES = load_benchmark("flores200-from-eng")
SIB, TEXTS = load_benchmark("sib200"), load_benchmark("flores200-text")


def writes(prompt: str) -> str:
    """Answer some questions well, some badly, some with dots only."""
    which = prompt.rpartition("test ")[2].split()[0]
    return {"none": " test none here and more of the same of the same", "one": "...", "two": "test ok"}.get(
        which, " a jest"
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    for code in ("eng_Latn", "swh_Latn", "kor_Hang"):
        # In letters that the small encoder knows.
        write(folder / "flores" / "dev" / f"{code}.dev", "dev none\ndev one\ndev two\ndev three\n")
        write(folder / "flores" / "devtest" / f"{code}.devtest", "".join(f"test {n} here\n" for n in NUMBERS))
    prepare(FLORES, folder / "flores", folder / "data", show_progress=False)
    prepare(SIB, sib200(folder / "sib"), folder / "data", show_progress=False)
    return folder / "data"


def run(
    benchmark: BenchmarkConfig, data: Path, results: Path, *, files: MetricSettings | None = None, **options: Any
) -> tuple[list[Score], Uniform]:
    model = Prefers(lambda prompt: SIB_LABELS[len(prompt) % 7], writes=writes)
    kept = ResultsFolder(results, model=TINY)
    scores = run_suite(
        model, [benchmark], data=data, results=kept, show_progress=False, metric_settings=files, **options
    )
    return scores, model


def with_metrics(benchmark: BenchmarkConfig, *names: str, **more: object) -> BenchmarkConfig:
    return benchmark.model_copy(update={"metrics": names, **more})


def plain(score: Score) -> dict[str, Any]:
    """Return a score as a line, but for the time that it took; NaN is equal to itself there."""
    found = {name: getattr(score, name) for name in Score.__dataclass_fields__ if name != "seconds"}
    return orjson.loads(orjson.dumps(found))  # type: ignore[no-any-return]


def contents(results: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (results / "items").rglob("*.jsonl")}


def test_every_metric_is_what_a_fresh_run_gives(data: Path, tmp_path: Path, encoder: Path, spm_model: Path) -> None:
    files = MetricSettings(spbleu_model=spm_model, bertscore_model=encoder)
    every = with_metrics(FLORES, "bleu", *(name for name in METRICS if name != "bleu"), empty_outputs="leave-out")
    fresh, _ = run(every, data, tmp_path / "fresh", files=files)
    first, _ = run(with_metrics(FLORES, "chrf++"), data, tmp_path / "kept")
    again, model = run(every, data, tmp_path / "kept", files=files)
    assert not model.options and not model.requests, "the model was not asked"
    assert [plain(score) for score in again] == [plain(score) for score in fresh]
    assert contents(tmp_path / "kept") == contents(tmp_path / "fresh")
    swahili = again[1].metrics
    assert set(swahili) == {*METRICS, "left_out"} and swahili["left_out"] == 1
    assert all(math.isfinite(value) for value in swahili.values())
    assert [score.seconds for score in again] == [score.seconds for score in first], "what the answers took"
    # And back again, what was left out counted once more.
    back, model = run(with_metrics(FLORES, "chrf++"), data, tmp_path / "kept")
    assert [plain(score) for score in back] == [plain(score) for score in first] and not model.options
    assert b"counted" not in b"".join(contents(tmp_path / "kept").values())


def test_labels_and_texts_are_counted_anew(data: Path, tmp_path: Path) -> None:
    fresh, _ = run(with_metrics(SIB, "macro_f1"), data, tmp_path / "fresh")
    run(SIB, data, tmp_path / "kept")
    again, model = run(with_metrics(SIB, "macro_f1"), data, tmp_path / "kept")
    assert not model.requests and [plain(score) for score in again] == [plain(score) for score in fresh]
    assert {"accuracy_per_byte", "accuracy_per_token", "accuracy_pmi", "answer_bits_per_byte"} < again[0].metrics.keys()
    fresh, _ = run(with_metrics(TEXTS, "bits_per_character"), data, tmp_path / "fresh")
    run(TEXTS, data, tmp_path / "kept")
    again, model = run(with_metrics(TEXTS, "bits_per_character"), data, tmp_path / "kept")
    assert not model.requests and [plain(score) for score in again] == [plain(score) for score in fresh]
    assert again[0].main == "bits_per_character" and not again[0].higher_is_better


@pytest.mark.parametrize(
    "change",
    [{"instruction": "Translate:"}, {"maximum_tokens": 7}, {"reference": "source"}, {"stop": ()}, {"shots": 1}],
)
def test_what_decides_the_texts_has_them_written_again(
    data: Path, tmp_path: Path, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    run(FLORES, data, tmp_path / "r", languages=["swh"])
    with caplog.at_level(logging.INFO):
        _, model = run(with_metrics(FLORES, "chrf++", **change), data, tmp_path / "r", languages=["swh"])
    assert len(model.options) == 1 and "kept" not in caplog.text
    run(with_metrics(FLORES, "chrf++", **change), data, tmp_path / "fresh", languages=["swh"])
    assert contents(tmp_path / "r") == contents(tmp_path / "fresh")


def test_what_is_kept_is_said_in_one_line(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(FLORES, data, tmp_path / "r")
    with caplog.at_level(logging.INFO):
        run(with_metrics(FLORES, "bleu"), data, tmp_path / "r")
    told = [record.message for record in caplog.records if "kept" in record.message]
    assert told == ["2 scores are made of answers that were kept: the model was not asked again"]


def test_items_of_a_trial_and_of_a_whole_run_are_not_mixed(data: Path, tmp_path: Path) -> None:
    run(FLORES, data, tmp_path / "r", limit=2)
    scores, model = run(with_metrics(FLORES, "bleu"), data, tmp_path / "r")
    assert len(model.options) == 2 and {score.items for score in scores} == {4}
    run(FLORES, data, tmp_path / "r" / "limit-2", limit=2)
    whole = contents(tmp_path / "r")
    found = rescore_folder(tmp_path / "r" / "limit-2", metrics=["rouge_l"])
    assert {score.items for score in found.scores} == {2} and "limit=2" in found.scores[0].flags
    assert contents(tmp_path / "r") == whole and read_scores(tmp_path / "r") == scores


def damage_none(path: Path) -> None:
    path.unlink()


def damage_torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def damage_incomplete(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def damage_other(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"jest", b"best"))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (damage_none, r"items of flores200-from-eng in swh_Latn cannot be used: .*swh_Latn\.jsonl cannot be read \(No"),
        (damage_torn, r"items of flores200-from-eng in swh_Latn cannot be used: .*swh_Latn\.jsonl, line 4: no JSON"),
        (damage_incomplete, r"swh_Latn\.jsonl has 3 items, its score has 4; evaluate the model again"),
        (damage_other, r"swh_Latn\.jsonl is not the file that its score is made of; evaluate the model again"),
    ],
)
def test_damaged_items_are_refused(
    data: Path, tmp_path: Path, damage: Any, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "r"
    run(FLORES, data, folder)
    lines = (folder / "scores.jsonl").read_bytes()
    damage(items_path(folder, FLORES.name, "swh_Latn"))
    found = rescore_folder(folder, metrics=["rouge_l"])
    assert [score.language for score in found.scores] == ["kor_Kore"] and len(found.problems) == 1
    assert re.search(told, found.problems[0])
    assert (folder / "scores.jsonl").read_bytes().startswith(lines), "what was there is still there"
    # The evaluation has them written again.
    scores, model = run(with_metrics(FLORES, "rouge_l"), data, folder)
    assert len(model.options) == 1 and "evaluate the model again" in caplog.text
    fresh, _ = run(with_metrics(FLORES, "rouge_l"), data, tmp_path / "fresh")
    assert [plain(score) for score in scores] == [plain(score) for score in fresh]


def test_items_that_an_ended_run_left_without_their_score_are_not_taken(data: Path, tmp_path: Path) -> None:
    """Items are written before the line of their score: a run that ends between leaves those of another prompt."""
    run(FLORES, data, tmp_path / "r", languages=["swh"])
    run(with_metrics(FLORES, "chrf++", instruction="Translate:"), data, tmp_path / "other", languages=["swh"])
    path = items_path(tmp_path / "r", FLORES.name, "swh_Latn")
    shutil.copy(items_path(tmp_path / "other", FLORES.name, "swh_Latn"), path)
    assert "not the file that its score is made of" in rescore_folder(tmp_path / "r", metrics=["rouge_l"]).problems[0]


def test_the_folder_is_scored_again_without_a_model(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    for benchmark in (FLORES, SIB, TEXTS):
        run(benchmark, data, folder)
    ResultsFolder(folder, model=TINY).add(Score("xnli", "swh_Latn", {"accuracy": 1.0}, "accuracy", True, 1), [{}])
    before = (folder / "scores.jsonl").read_bytes()
    found = rescore_folder(folder)
    assert not found.scores and not found.problems and (folder / "scores.jsonl").read_bytes() == before
    found = rescore_folder(folder, metrics=["rouge_l", "chrf++"])
    assert [(score.benchmark, score.language) for score in found.scores] == [
        (FLORES.name, "kor_Kore"), (FLORES.name, "swh_Latn"),
    ]  # fmt: skip
    assert found.scores[0].main == "chrf++" and "rouge_l" in found.scores[0].metrics
    assert list(found.lines()) == [
        "flores200-from-eng: 2 scores made again, 0 were as wanted",
        "flores200-text: 0 scores made again, 3 were as wanted",
        "flores200-text-parity: 0 scores made again, 3 were as wanted",
        "sib200: 0 scores made again, 2 were as wanted",
        "xnli: 1 scores left as they are; there is no definition of it (--definitions)",
    ]
    # What a run of the same metrics finds is done.
    _, model = run(with_metrics(FLORES, *FLORES.metrics, "rouge_l"), data, folder)
    assert not model.options
    assert ResultsFolder(folder, model=TINY).scores()[0].metrics["rouge_l"] == found.scores[0].metrics["rouge_l"]


def test_parity_follows_its_texts(data: Path, tmp_path: Path) -> None:
    run(TEXTS, data, tmp_path / "r")
    definition = tmp_path / "flores200-text.yml"
    definition.write_text("based_on: flores200-text\nmetrics: [bits_per_character]\n", encoding="utf-8")
    found = rescore_folder(tmp_path / "r", definitions=[str(definition)])
    assert [score.benchmark for score in found.scores] == ["flores200-text"] * 3 + ["flores200-text-parity"] * 3
    _, model = run(with_metrics(TEXTS, "bits_per_character"), data, tmp_path / "r")
    assert not model.requests


def test_a_definition_that_asks_something_else_is_refused(data: Path, tmp_path: Path) -> None:
    run(FLORES, data, tmp_path / "r", languages=["swh"])
    definition = tmp_path / "flores200-from-eng.yml"
    definition.write_text("based_on: flores200-from-eng\ninstruction: Translate.\n", encoding="utf-8")
    found = rescore_folder(tmp_path / "r", definitions=[str(definition)])
    assert found.problems == [
        "flores200-from-eng, swh_Latn: the definition asks for other answers than those that are kept; "
        "evaluate the model again"
    ]
    with pytest.raises(ResultsError, match="has no scores of sib200; it has those of flores200-from-eng"):
        rescore_folder(tmp_path / "r", definitions=["sib200"])
    with pytest.raises(ValueError, match=r"no metric is called 'chrf\+\+\+'"):
        rescore_folder(tmp_path / "r", metrics=["chrf+++"])
    with pytest.raises(ResultsError, match="holds no results"):
        rescore_folder(tmp_path / "none")
    with exclusive(tmp_path / "r" / ".lock"), pytest.raises(InUseError):
        rescore_folder(tmp_path / "r")


def test_scores_of_an_older_form_are_told(data: Path, tmp_path: Path) -> None:
    run(FLORES, data, tmp_path / "r", languages=["swh"])
    (score,) = read_scores(tmp_path / "r")
    lines = orjson.loads((tmp_path / "r" / "scores.jsonl").read_bytes())
    del lines["settings"]["main_metric"], lines["items_hash"]
    (tmp_path / "r" / "scores.jsonl").write_bytes(orjson.dumps(lines) + b"\n")
    (problem,) = rescore_folder(tmp_path / "r", metrics=["bleu"]).problems
    assert "its settings do not tell its items from its metrics; evaluate the model again" in problem
    again, model = run(FLORES, data, tmp_path / "r", languages=["swh"])
    assert len(model.options) == 1 and plain(again[0]) == plain(score)


def test_a_file_given_later_makes_the_value_and_its_absence_loses_none(
    data: Path, tmp_path: Path, spm_model: Path
) -> None:
    spbleu = with_metrics(FLORES, "chrf++", "spbleu-flores200")
    without, _ = run(spbleu, data, tmp_path / "r", languages=["swh"])
    assert math.isnan(without[0].metrics["spbleu-flores200"])
    files = MetricSettings(spbleu_model=spm_model)
    scores, model = run(spbleu, data, tmp_path / "r", files=files, languages=["swh"])
    assert not model.options and scores[0].metrics["spbleu-flores200"] > 0
    with pytest.raises(IncompleteError, match=r"value of spbleu-flores200 would be lost; name the files .*--spbleu-mo"):
        run(spbleu, data, tmp_path / "r", languages=["swh"])
    assert read_scores(tmp_path / "r") == scores
