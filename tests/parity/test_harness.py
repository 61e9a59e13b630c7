"""Our adapter against lm-evaluation-harness's own ``HFLM``: one folder, one evaluator, the same answers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from megatron.evaluation.harness.adapter import Scorer, harness_model
from megatron.evaluation.harness.benchmarks import BENCHMARKS
from megatron.evaluation.harness.plan import plan_jobs
from megatron.evaluation.harness.run import HarnessOptions, run_harness
from megatron.evaluation.harness.tasks import Job, load_task, task_manager
from megatron.evaluation.results import ResultsFolder, read_items
from tests.harness_data import all_text, write_benchmarks, write_lines
from tests.language_models import (
    UniformModel,
    byte_level_tokenizer,
    engine_model,
    plain_model,
    sentencepiece_tokenizer,
    tiny_hf_folder,
)

pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness: pip install lm_eval==0.4.13")
pytest.importorskip("accelerate", reason="lm-evaluation-harness's own models need accelerate: pip install accelerate")

SHOTS = {"xnli": 2, "xcopa": 0, "xstorycloze": 1, "xwinograd": 1, "belebele": 2, "arc": 2, "mgsm-direct": 2}
TOKENS = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_benchmarks(tmp_path_factory.mktemp("benchmarks"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sentencepiece")
    return tiny_hf_folder(place, sentencepiece_tokenizer(place, all_text()), positions=1024)


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    return their_model(folder)


def their_model(folder: Path) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=4, max_length=1024)


@pytest.fixture(scope="module")
def manager() -> Any:
    return task_manager()


def their_results(model: Any, job: Job, manager: Any) -> dict[str, Any]:
    from lm_eval.evaluator import evaluate, simple_evaluate

    loaded = load_task(job, manager, seed=1234)
    task = loaded["tasks"][job.task_name]
    if job.name == "xnli":  # once is enough: it asks the machine about itself for seconds
        return simple_evaluate(model, tasks=[task], bootstrap_iters=1, task_manager=manager)  # type: ignore[no-any-return]
    if task.OUTPUT_TYPE == "generate_until":
        task.set_config(key="generation_kwargs", value={"max_gen_toks": TOKENS}, update=True)
    return evaluate(lm=model, task_dict=loaded, bootstrap_iters=1)  # type: ignore[no-any-return]


def without_first_space(texts: list[str]) -> list[str]:
    # They decode new tokens without the prompt before them, and that loses the space between the two.
    return [text.removeprefix(" ") for text in texts]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_scores_likelihoods_and_texts_are_theirs(
    name: str, data: Path, folder: Path, theirs: Any, manager: Any, tmp_path: Path
) -> None:
    assert_same(name, data, folder, theirs, manager, tmp_path)


@pytest.mark.parametrize("name", ["xcopa", "belebele", "mgsm-direct"])
def test_they_are_with_merges_of_bytes_too(name: str, data: Path, manager: Any, tmp_path: Path) -> None:
    folder = tiny_hf_folder(tmp_path, byte_level_tokenizer(tmp_path, all_text()), positions=1024)
    assert_same(name, data, folder, their_model(folder), manager, tmp_path / "results")


def assert_same(name: str, data: Path, folder: Path, theirs: Any, manager: Any, tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path, model={})
    options = HarnessOptions(num_fewshot=SHOTS, maximum_tokens=TOKENS)
    scores = run_harness(engine_model(folder), data=data, results=results, tasks=[name], options=options)
    jobs = plan_jobs(data, tasks=[name], num_fewshot=SHOTS)
    assert len(scores) == 2
    told_apart = set()
    for score, job in zip(scores, jobs, strict=True):
        found = their_results(theirs, job, manager)
        wanted = {key: value for key, value in found["results"][job.task_name].items() if "," in key}
        assert len(score.metrics) == len(wanted) and score.main in score.metrics
        for key, value in wanted.items():
            metric = key.replace(",none", "").replace(",", "_").replace("-", "_")
            if "_stderr_" in metric:
                metric = metric.replace("_stderr", "") + "_stderr"
            assert score.metrics[metric] == pytest.approx(value, abs=1e-9)
        items = {item["number"]: item for item in read_items(tmp_path, name, score.language)}
        assert len(items) == score.items == 4
        for sample in found["samples"][job.task_name]:
            item = items[sample["doc_id"]]
            assert item["target"] == sample["target"]
            if "outputs" in item:
                assert item["prompt"] == sample["arguments"][0][0]
                assert without_first_space(item["outputs"]) == without_first_space(sample["resps"][0])
                assert item["answers"][sample["filter"]] == sample["filtered_resps"][0]
                told_apart.add(item["outputs"][0])
            else:
                theirs_nats = [responses[0][0] for responses in sample["resps"]]
                assert item["log_likelihoods"] == pytest.approx(theirs_nats, abs=1e-4)
                assert item["greedy"] == [responses[0][1] for responses in sample["resps"]]
                told_apart.update(round(nats, 3) for nats in theirs_nats)
    assert len(told_apart) > 6, "a model that says the same of everything proves nothing"


def test_rolling_likelihood_of_a_short_text_is_theirs_and_of_a_long_one_that_of_its_windows(folder: Path) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    # Without this setting theirs begins a text twice, and scores the second beginning as a part of it.
    theirs = HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=4, add_bos_token=False)

    def requests(texts: list[str]) -> list[Any]:
        return [Instance("loglikelihood_rolling", {}, (text,), number) for number, text in enumerate(texts)]

    texts = [" ".join(all_text()[:3]), "mama", ""]
    ours = harness_model(Scorer(plain_model(folder))).loglikelihood_rolling(requests(texts))
    assert ours == pytest.approx(theirs.loglikelihood_rolling(requests(texts)), abs=1e-4)
    assert ours[2] == 0 > ours[1] > ours[0]
    model = plain_model(folder, max_tokens=11)
    ids = model.tokenizer.encode(texts[0])
    pieces = Scorer(model).likelihoods([([], ids[start : start + 10]) for start in range(0, len(ids), 10)])
    long = harness_model(Scorer(model)).loglikelihood_rolling(requests(texts[:1]))
    assert long == pytest.approx([-sum(piece.nats for piece in pieces)])
    assert model.asked > 20


def test_a_context_that_is_too_long_keeps_its_end_and_the_id_that_begins_a_text(folder: Path) -> None:
    scorer = Scorer(plain_model(folder, max_tokens=16))
    continuation = scorer.encode("mama anapika")
    room = 15 - len(continuation)
    context = scorer.encode(" ".join(all_text()[:2]))
    long, short = scorer.likelihoods([(context, continuation), (context[-room:], continuation)])
    assert long == short
    assert scorer.shortened == 1


@pytest.mark.parametrize("max_tokens", [64, 4096])
def test_bits_per_byte_of_a_uniform_model_is_the_logarithm_of_its_vocabulary(max_tokens: int, tmp_path: Path) -> None:
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    write_lines(tmp_path / "texts.jsonl", [{"text": text} for text in all_text()[:5]])
    task = {
        "task": "texts",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "texts.jsonl")}, "cache_dir": str(tmp_path / "cache")},
        "output_type": "loglikelihood_rolling",
        "test_split": "test",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "bits_per_byte"}],
    }
    found = simple_evaluate(
        harness_model(Scorer(UniformModel(max_tokens=max_tokens))),
        tasks=[task],
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
    )
    assert found["results"]["texts"]["bits_per_byte,none"] == pytest.approx(math.log2(257), abs=1e-9)
