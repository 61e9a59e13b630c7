from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest
import torch

from megatron.checkpoint.folder import open_folder
from megatron.config.benchmark_load import load_benchmark
from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.config.layout import Layout
from megatron.evaluation.benchmarks.manifest import BenchmarkDataError
from megatron.evaluation.benchmarks.prepare.run import prepare
from megatron.evaluation.benchmarks.run import run_suite
from megatron.evaluation.engine_model import open_engine_model
from megatron.evaluation.results import IncompleteError, ResultsFolder, Score, read_items
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.process import Peers, World

from .models import Uniform
from .upstream import flores200, jsonl, sib200, write

TINY = {"name": "tiny"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    jsonl(tmp_path / "aya" / "t.jsonl", [
        {"id": n, "inputs": f"Sema {n}", "targets": f"Ndiyo {n}", "language": "swh", "script": "Latn"} for n in range(4)
    ])  # fmt: skip
    write(tmp_path / "pbc" / "swh_Latn.txt", "Hapo mwanzo\nMungu aliumba\n")
    write(tmp_path / "pbc" / "yor_Latn.txt", "Ní àtètèkọ́ṣe\n")
    sources = {"sib200": sib200(tmp_path / "sib"), "flores200-from-eng": flores200(tmp_path / "flores")}
    for name, upstream in {**sources, "aya": tmp_path / "aya", "pbc": tmp_path / "pbc"}.items():
        prepare(load_benchmark(name), upstream, folder, show_progress=False)
    return folder


def run(model: Uniform, names: list[str], data: Path, results: Path | None = None, **options: object) -> list[Score]:
    kept = None if results is None else ResultsFolder(results, model=TINY)
    benchmarks = [load_benchmark(name) for name in names]
    return run_suite(model, benchmarks, data=data, results=kept, show_progress=False, **options)  # type: ignore[arg-type]


def test_every_benchmark_and_language_has_a_score_and_its_items(data: Path, tmp_path: Path) -> None:
    model = Uniform(writes=lambda prompt: " Ndiyo 1" if "Sema" in prompt else " test 2 swh_Latn")
    names = ["sib200", "flores200-from-eng", "flores200-into-eng", "aya", "pbc"]
    scores = run(model, names, data, tmp_path / "results")
    assert [(score.benchmark, score.language, score.items) for score in scores] == [
        ("sib200", "eng_Latn", 9), ("sib200", "swh_Latn", 9),
        ("flores200-from-eng", "kor_Kore", 4), ("flores200-from-eng", "swh_Latn", 4),
        ("flores200-into-eng", "kor_Kore", 4), ("flores200-into-eng", "swh_Latn", 4),
        ("aya", "swh_Latn", 4), ("pbc", "swh_Latn", 2), ("pbc", "yor_Latn", 1),
    ]  # fmt: skip
    by_name = {(score.benchmark, score.language): score for score in scores}
    swahili = by_name["flores200-from-eng", "swh_Latn"]
    assert (swahili.main, swahili.higher_is_better, swahili.metrics["off_target_rate"]) == ("chrf++", True, 0.0)
    assert by_name["flores200-from-eng", "kor_Kore"].metrics["off_target_rate"] == 1.0
    assert by_name["flores200-into-eng", "kor_Kore"].metrics["off_target_rate"] == 0.0
    verses = by_name["pbc", "swh_Latn"]
    assert verses.value == pytest.approx(math.log2(258)) and not verses.higher_is_better
    assert verses.flags == ("contaminated",)
    items = read_items(tmp_path / "results", "flores200-from-eng", "swh_Latn")
    assert items[2]["references"] == ["test 2 swh_Latn"] and items[2]["stop_reason"] == "stop"
    assert items[2]["prompt"].startswith("Translate the sentences from English to Swahili.\n\nEnglish: dev ")
    assert items[2]["prompt"].endswith("\n\nEnglish: test 2 eng_Latn\nSwahili:")
    assert [item["nats"] > 0 for item in read_items(tmp_path / "results", "pbc", "swh_Latn")] == [True, True]
    assert scores == run(Uniform(), names, data, tmp_path / "results"), "what is there is not made again"


def test_prompts_of_a_run_name_the_scripts_that_the_data_has(tmp_path: Path) -> None:
    upstream = flores200(tmp_path / "fl", ["eng_Latn", "snd_Arab", "snd_Deva", "ace_Latn"])
    prepare(load_benchmark("flores200-from-eng"), upstream, tmp_path / "data", show_progress=False)
    model = Uniform()
    run(model, ["flores200-from-eng"], tmp_path / "data", limit=1)
    asked = [prompt.splitlines()[0] for prompt in model.prompts]
    names = ("Acehnese (Latin script)", "Sindhi", "Sindhi (Devanagari script)")
    assert asked == [f"Translate the sentences from English to {name}." for name in names]


def test_resuming_changes_nothing(data: Path, tmp_path: Path) -> None:
    class Fails(Uniform):
        def write(self, prompts, options):  # type: ignore[no-untyped-def]
            if len(self.options) == 1:
                raise KeyboardInterrupt
            return super().write(prompts, options)

    names = ["sib200", "flores200-from-eng"]
    whole = run(Uniform(), names, data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(Fails(), names, data, tmp_path / "parts")
    model = Uniform()
    parts = run(model, names, data, tmp_path / "parts")
    assert len(model.options) == 1 and not model.requests, "only what was missing"

    def plain(scores: list[Score]) -> list[tuple[object, ...]]:
        return [(s.benchmark, s.language, s.metrics, s.settings, s.flags, s.items) for s in scores]

    assert repr(plain(parts)) == repr(plain(whole))
    files = {path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole" / "items").rglob("*.jsonl")}
    assert len(files) == 4
    for file in files:
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()


@pytest.mark.parametrize("change", [{"limit": 2}, {"seed": 1}])
def test_other_settings_are_other_scores(data: Path, tmp_path: Path, change: dict[str, int]) -> None:
    run(Uniform(), ["sib200"], data, tmp_path / "r")
    model = Uniform()
    run(model, ["sib200"], data, tmp_path / "r", **change)
    assert model.requests
    again = Uniform()
    run(again, ["sib200"], data, tmp_path / "r", **change)
    assert not again.requests


def test_other_data_and_another_definition_are_other_scores(data: Path, tmp_path: Path) -> None:
    def asked(benchmark: BenchmarkConfig) -> bool:
        model = Uniform()
        run_suite(
            model, [benchmark], data=data, results=ResultsFolder(tmp_path / "r", model=TINY), show_progress=False,
            languages=["eng_Latn"],
        )  # fmt: skip
        return bool(model.requests)

    benchmark = load_benchmark("sib200")
    assert [asked(benchmark), asked(benchmark)] == [True, False]
    assert not asked(benchmark.model_copy(update={"contaminated": "it is"}))
    assert asked(benchmark.model_copy(update={"separator": "\n\n"}))
    sib200(tmp_path / "sib", items=5)
    prepare(benchmark, tmp_path / "sib", data, show_progress=False)
    assert asked(benchmark)


def test_limit_takes_the_first_and_keeps_their_shots(data: Path, tmp_path: Path) -> None:
    run(Uniform(), ["sib200"], data, tmp_path / "all")
    scores = run(Uniform(), ["sib200"], data, tmp_path / "few", limit=3, languages=["swh"])
    assert [(score.language, score.items) for score in scores] == [("swh_Latn", 3)]
    few, whole = (read_items(tmp_path / name, "sib200", "swh_Latn") for name in ("few", "all"))
    assert few == whole[:3], "shots depend neither on the limit nor on the languages asked for"


def test_languages_without_data_are_listed_and_counted(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "sib" / "zul_Latn" / "test.tsv", "1\ttravel\tSawubona\n")
    prepare(load_benchmark("sib200"), tmp_path / "sib", data, show_progress=False)
    with caplog.at_level(logging.WARNING):
        scores = run(Uniform(), ["sib200"], data, languages=["swh_Latn", "fij_Latn", "aaa", "zul_Latn"])
    assert [score.language for score in scores] == ["swh_Latn"]
    assert "sib200 has no data of 2 languages: aaa, fij_Latn" in caplog.text
    assert "sib200 lacks a part of the data of 1 languages: zul_Latn (train)" in caplog.text
    with pytest.raises(BenchmarkDataError, match="no benchmark has data of the languages asked for: aaa"):
        run(Uniform(), ["sib200"], data, languages=["aaa"])


def test_all_that_stands_in_the_way_is_told_before_anything_is_run(data: Path) -> None:
    file = data / "sib200" / "swh_Latn" / "test.jsonl"
    model = Uniform()
    wrong = load_benchmark("aya").model_copy(update={"metrics": ("chrf+++",)})
    with pytest.raises(BenchmarkDataError, match=r"(?s)xlsum: .*prepare_benchmark.*no metric is called 'chrf\+\+\+'"):
        run_suite(model, [load_benchmark("sib200"), load_benchmark("xlsum"), wrong], data=data, results=None)
    with pytest.raises(BenchmarkDataError, match="given twice: sib200"):
        run(model, ["sib200", "sib200"], data)
    with pytest.raises(ValueError, match="limit = 0"):
        run(model, ["sib200"], data, limit=0)
    assert not model.requests
    with file.open("a") as added:
        added.write("{}\n")
    # The other languages are scored all the same.
    with pytest.raises(IncompleteError, match=r"is not the file that its manifest describes") as caught:
        run(model, ["sib200"], data)
    assert [score.language for score in caught.value.scores] == ["eng_Latn"] and len(caught.value.problems) == 1


def test_published_sampling_and_what_is_left_out(data: Path, tmp_path: Path) -> None:
    model = Uniform(writes=lambda prompt: {"1": "...", "2": ""}.get(prompt[-1], "Ndiyo 3"))
    score = run(model, ["aya-published"], data, tmp_path / "r", seed=7)[0]
    assert score.metrics["left_out"] == 2 and score.items == 4
    options = model.options[0]
    assert (options.sampling.temperature, options.sampling.top_p, options.seed) == (0.6, 0.9, 7)
    assert score.settings["seed"] == 7 and score.settings["sampling"]["temperature"] == 0.6
    items = read_items(tmp_path / "r", "aya-published", "swh_Latn")
    assert [item.get("counted", True) for item in items] == [True, False, False, True]
    assert "left_out" not in run(model, ["aya"], data)[0].metrics


def test_a_short_model_keeps_half_of_its_positions_for_the_prompt(data: Path) -> None:
    model = Uniform(max_tokens=200)
    score = run(model, ["flores200-from-eng"], data, languages=["swh"])[0]
    assert model.options[0].maximum_tokens == 100 == score.settings["maximum_tokens"]
    assert score.flags == ("shots_left_out=12",) and all("dev" not in prompt for prompt in model.prompts)


def test_sentences_of_one_language_only_are_counted(data: Path, tmp_path: Path) -> None:
    write(tmp_path / "flores" / "devtest" / "swh_Latn.devtest", "moja\n\ntatu\n")
    prepare(load_benchmark("flores200-from-eng"), tmp_path / "flores", data, show_progress=False)
    score = run(Uniform(), ["flores200-from-eng"], data, languages=["swh_Latn"])[0]
    assert score.items == 2 and score.flags == ("unpaired=2",)


def test_the_project_s_own_engine_is_asked(data: Path, tmp_path: Path, small_hf: Path) -> None:
    mesh = Mesh(Layout(), World(rank=0, size=1, device=torch.device("cpu")))
    model = open_engine_model(open_folder(small_hf), mesh=mesh, peers=Peers(), execution=Execution(torch.float32))
    scores = run(model, ["sib200", "pbc"], data, tmp_path / "r", languages=["swh_Latn"], limit=2)  # type: ignore[arg-type]
    labels, verses = scores
    # 64 positions are too few even for the instruction: everything that was left out is told.
    assert labels.flags == ("shots_left_out=6", "texts_shortened=2", "queries_cut=2", "limit=2")
    assert labels.items == 2
    assert all(math.isfinite(value) for score in scores for value in score.metrics.values())
    items = read_items(tmp_path / "r", "pbc", "swh_Latn")
    assert verses.value == pytest.approx(sum(item["nats"] for item in items) / math.log(2) / 24)
    assert run(model, ["sib200", "pbc"], data, tmp_path / "r", languages=["swh_Latn"], limit=2) == scores  # type: ignore[arg-type]
