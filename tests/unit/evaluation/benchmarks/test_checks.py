from __future__ import annotations

from pathlib import Path

import orjson
import pytest
import torch

from megatron.config.benchmark_load import load_benchmark
from megatron.config.layout import Layout
from megatron.evaluation.benchmarks.checks import check_metrics
from megatron.evaluation.benchmarks.manifest import load_manifest, sha256_of
from megatron.evaluation.benchmarks.prepare.run import prepare
from megatron.evaluation.evaluate import EvaluationRun, evaluate
from megatron.evaluation.metrics.registry import MetricError, MetricSettings
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.process import Peers, World

from .upstream import sib200, write

CODES = ["deu_Latn", "eng_Latn", "fra_Latn", "kor_Kore", "swh_Latn", "yor_Latn", "zul_Latn"]
DEFINITION = """\
based_on: sib200
prompt: "{title}: {text}"
labels:
  travel: travel
  sports: sports
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    prepare(load_benchmark("sib200"), sib200(tmp_path / "up", CODES), tmp_path / "data", show_progress=False)
    for name, row in (("lines", {"id": "1", "text": "x"}), ("odd", {"id": "1", "txet": "x"})):
        write(tmp_path / name / "swh_Latn.txt", "x\n")
        write(tmp_path / f"{name}.yml", f"data: {name}\nformat: texts\nkind: text\nmetrics: [bits_per_byte]\n")
        prepare(load_benchmark(str(tmp_path / f"{name}.yml")), tmp_path / name, tmp_path / "data", show_progress=False)
        made = tmp_path / "data" / name
        (made / "swh_Latn" / "test.jsonl").write_bytes(orjson.dumps(row) + b"\n")
        manifest = orjson.loads((made / "manifest.json").read_bytes())
        sha256 = sha256_of(made / "swh_Latn" / "test.jsonl")
        manifest["languages"]["swh_Latn"]["files"]["test"]["sha256"] = sha256
        (made / "manifest.json").write_bytes(orjson.dumps(manifest))
        load_manifest(made)
    return tmp_path / "data"


def told(tmp_path: Path, *tasks: str, **options: object) -> str:
    """What is told of a run whose model is not there, so that nothing can have been loaded."""
    mesh = Mesh(Layout(), World(rank=0, size=1, device=torch.device("cpu")))
    run = EvaluationRun(
        str(tmp_path / "no model"), "x", [str(tmp_path / task) for task in tasks], tmp_path / "data", None, **options
    )  # type: ignore[arg-type]
    with pytest.raises(ValueError) as error:
        evaluate(run, mesh=mesh, peers=Peers(), execution=Execution(torch.float32))
    return str(error.value)


def test_all_languages_of_all_benchmarks_are_looked_at_before_there_is_a_model(data: Path, tmp_path: Path) -> None:
    write(tmp_path / "own.yml", DEFINITION)
    lines = told(tmp_path, "own.yml", "odd.yml", "lines.yml").splitlines()
    assert len(lines) == 4, "what is wrong alike in all languages is told once"
    assert lines[0].startswith(f"{tmp_path}/own.yml:2: `prompt` names the field 'title', which 9 of 9 records of ")
    assert "sib200/deu_Latn/test.jsonl" in lines[0]
    assert lines[0].endswith(
        " The same in 6 other languages: eng_Latn, fra_Latn, kor_Kore, swh_Latn, yor_Latn, ..."
    )
    assert "14 of 14 records of sib200/deu_Latn/train.jsonl" in lines[1], "shots are looked at as well"
    assert lines[2].startswith(f"{tmp_path}/own.yml:3: own, deu_Latn: records have labels that the benchmark does not")
    assert lines[3].startswith("odd: 1 of 1 records of odd/swh_Latn/test.jsonl have no field 'text'")


def test_only_what_will_be_asked_is_looked_at(data: Path, tmp_path: Path) -> None:
    write(tmp_path / "own.yml", DEFINITION)
    assert "other languages" not in told(tmp_path, "own.yml", languages=["swh"])
    assert "which 2 of 2 records of sib200/swh_Latn" in told(tmp_path, "own.yml", languages=["swh"], limit=2)
    assert "no model is no folder" in told(tmp_path, "lines.yml"), "nothing but the model is wrong"


def test_a_file_that_was_changed_is_told_once_for_all_that_read_it(data: Path, tmp_path: Path) -> None:
    (data / "sib200" / "eng_Latn" / "test.jsonl").write_text("{}\n")
    for name in ("one", "two"):
        write(tmp_path / f"{name}.yml", "based_on: sib200\n")
    [line] = told(tmp_path, "one.yml", "two.yml").splitlines()
    assert "eng_Latn/test.jsonl is not the file that its manifest describes" in line


def test_metrics_are_told_with_their_place(data: Path, tmp_path: Path) -> None:
    write(tmp_path / "own.yml", "based_on: sib200\nshots: 0\nmetrics: [acuracy, macro_f1, chrf]\n")
    write(tmp_path / "bits.yml", "data: lines\nkind: text\nmetrics: [bit_per_byte]\n")
    lines = told(tmp_path, "own.yml", "bits.yml").splitlines()
    assert lines[0].startswith(f"own: {tmp_path}/own.yml:3: metrics: no metric is called 'acuracy'. Did you mean 'accu")
    assert lines[1].startswith(f"{tmp_path}/own.yml:3: metrics: no metric is called 'chrf'")
    assert lines[2].startswith(f"bits: {tmp_path}/bits.yml:3: metrics: texts have no metric 'bit_per_byte'. Did you me")
    with pytest.raises(MetricError, match=r"aya\.yml:\d+: metrics: no metric"):
        check_metrics(load_benchmark("aya").model_copy(update={"metrics": ("x",)}), MetricSettings())
