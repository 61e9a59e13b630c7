"""The runs under ``configs``: what is published is exact, and each fits its model, its machine and its other files."""

from __future__ import annotations

import dataclasses
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from megatron.config.architecture import Architecture
from megatron.config.check import check_files
from megatron.config.derive import derive_batch, expected_architecture, warmup_steps
from megatron.config.describe import describe
from megatron.config.layout import Layout, pipeline_problems, shape_problems
from megatron.config.load import load
from megatron.config.read import normal_name
from megatron.config.schema import SECTION_OF_KEY, SHAPE_KEYS, Config, ParallelConfig
from megatron.launch.plan import Program
from megatron.launch.slurm import job_script

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = ROOT / "configs"
CLUSTERS = sorted((CONFIGS / "clusters").glob("*.yml"))
SLURM = sorted((CONFIGS / "slurm").glob("*.yml"))
GEN2 = "emma500-llama3{}-8b-{}"


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run is to be: its mixture, shape and layout (names of files), its steps, and on how few GPUs it fits."""

    mixture: str
    shape: str
    steps: int
    warmup: int
    layout: str
    fewest: int


RUNS = {
    "emma500": Run("emma500", "llama2-7b", 12_000, 360, "zero3-node4", 4),
    "emma500-llama3-8b-mono": Run("emma500-gen2-mono", "llama3-8b", 25_000, 750, "zero3-node8", 8),
    "emma500-llama3-8b-bi": Run("emma500-gen2-bi", "llama3-8b", 40_000, 1200, "zero3-node8", 8),
    "emma500-llama3.1-8b-mono": Run("emma500-gen2-mono", "llama3.1-8b", 25_000, 750, "zero3-node8", 8),
    "emma500-llama3.1-8b-bi": Run("emma500-gen2-bi", "llama3.1-8b", 40_000, 1200, "zero3-node8", 8),
    "emma500-llama2-13b": Run("emma500", "llama2-13b", 12_000, 360, "tensor2-zero1", 32),
    "emma500-llama2-70b": Run("emma500", "llama2-70b", 12_000, 360, "tensor4-pipe8", 64),
}


def run_config(name: str) -> Config:
    return load([CONFIGS / name])


def shape_of(name: str) -> Architecture:
    """Return the shape of a run's model, which its file alone tells."""
    return expected_architecture(run_config(name).model, vocab_size=None)


def keys(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def test_every_shipped_run_is_tested() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yml")} == {*RUNS, "demo"}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_has_its_tokens_steps_and_warmup(name: str) -> None:
    config = run_config(name)
    assert config.batch.train_batch_size is not None
    assert config.batch.train_batch_size * config.data.seq_length == 16_777_216
    assert config.train.train_iters == RUNS[name].steps
    assert warmup_steps(config.schedule, train_iters=config.train.train_iters) == pytest.approx(RUNS[name].warmup)
    assert config.schedule.lr_decay_style == "cosine"
    assert config.schedule.min_lr == pytest.approx(config.optimizer.learning_rate / 10)
    assert max(config.checkpoint.extra_save_iters) < config.train.train_iters


@pytest.mark.parametrize("name", RUNS)
def test_a_run_writes_out_the_shape_of_its_model(name: str) -> None:
    run = keys(CONFIGS / f"{name}.yml")
    assert {key: run[key] for key in SHAPE_KEYS if key in run} == keys(CONFIGS / "models" / f"{RUNS[name].shape}.yml")


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_described_on_a_machine_without_its_model(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = run_config(name)
    text = describe(config, learning_rate=lambda step: 1.0, data_parallel_size=256)
    assert f"{shape_of(name).num_parameters():,}" in text and "unknown" not in text
    missing = [problem.split(":")[0] for problem in check_files(config)]
    assert [*missing[2:]] == [f"{config.model.hf_model}/config.json does not exist"]  # after tokenizer and manifest


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("processes", [64, 128, 256, 512])
def test_a_run_is_laid_out_on_so_many_processes(name: str, processes: int) -> None:
    config = run_config(name)
    layout = Layout.of(config.parallel, processes=processes)
    assert layout.processes == processes
    batch = derive_batch(config.batch, data_parallel_size=layout.data)
    assert (batch.global_size, batch.micro_size) == (config.batch.train_batch_size, 1)
    assert list(pipeline_problems(config.parallel, accumulation_steps=batch.accumulation_steps)) == []
    assert list(shape_problems(config.parallel, shape_of(name), seq_length=config.data.seq_length)) == []


@pytest.mark.parametrize("name", RUNS)
def test_a_run_starts_on_as_few_processes_as_the_page_says(name: str) -> None:
    config, fewest = run_config(name), RUNS[name].fewest
    layout = Layout.of(config.parallel, processes=fewest)
    assert layout.stage == config.parallel.zero_optimization.stage
    if config.parallel.data_parallel_shard_size is not None:
        assert layout.replicas == 1
    [row] = [line for line in table_of_the_page() if f"`configs/{name}.yml`" in line[0]]
    assert int(row[-1]) == fewest


@pytest.mark.parametrize("name", RUNS)
def test_the_layout_of_a_run_is_also_a_part(name: str) -> None:
    part = keys(CONFIGS / "parallel" / f"{RUNS[name].layout}.yml")
    assert ParallelConfig.model_validate(part) == run_config(name).parallel


@pytest.mark.parametrize("part", sorted((CONFIGS / "parallel").glob("*.yml")), ids=lambda path: path.stem)
def test_a_part_of_a_layout_holds_nothing_else_and_is_on_the_page(part: Path) -> None:
    assert {SECTION_OF_KEY[normal_name(key)] for key in keys(part)} == {"parallel"}
    assert f"`{part.relative_to(ROOT).as_posix()}`" in page()


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("cluster", CLUSTERS, ids=lambda path: path.stem)
def test_run_mixture_and_cluster_merge(name: str, cluster: Path) -> None:
    run = RUNS[name]
    config = load([CONFIGS / name, CONFIGS / "data" / run.mixture, cluster])
    alone = run_config(name)
    assert alone.data.mixture is None and config.data.mixture is not None
    assert config.launch.num_gpus is not None and config.logging.peak_theoretical_tflops is not None
    # Where the layout is one of neighbours, they sit in one node or fill several.
    layout = Layout.of(config.parallel, processes=256)
    assert config.launch.num_gpus % layout.tensor == 0
    if config.parallel.data_parallel_shard_size is not None:
        sizes = sorted((config.launch.num_gpus, layout.shards * layout.tensor))
        assert sizes[1] % sizes[0] == 0


@pytest.mark.parametrize("file", SLURM, ids=lambda path: path.stem)
def test_a_job_of_slurm_can_be_written(file: Path, tmp_path: Path) -> None:
    cluster = CONFIGS / "clusters" / file.name
    parts = [cluster] if cluster.exists() else []
    config = load([CONFIGS / "emma500.yml", CONFIGS / "data" / "emma500.yml", *parts, file])
    text = job_script(
        config.launch, config.parallel, Program(Path("/a/train.py"), Path("/a/resolved.yml")), folder=tmp_path,
        name="a", working_directory=tmp_path, environment={},
    )  # fmt: skip
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0
    processes = (config.launch.num_nodes or 0) * (config.launch.num_gpus or 0)
    assert f"--ntasks={processes} " in text and (processes == 256 or file.stem == "one-node")


def test_the_four_runs_of_gen_2_differ_in_what_they_are() -> None:
    different = {"hf_model", "vocab_file", "train_iters", "save", "tensorboard_dir", "extra_save_iters"}
    runs = [keys(CONFIGS / f"{GEN2.format(version, mix)}.yml") for version in ("", ".1") for mix in ("mono", "bi")]
    different |= {"max_position_embeddings", "rope_scaling"}  # of Llama 3.1
    alike = [{key: value for key, value in run.items() if key not in different} for run in runs]
    assert alike.count(alike[0]) == 4


@pytest.mark.parametrize("name", RUNS)
def test_a_run_names_folders_of_its_own(name: str) -> None:
    config = run_config(name)
    assert config.checkpoint.save == f"runs/{name}"
    assert config.logging.tensorboard_dir == f"runs/{name}/tensorboard"
    assert config.tokenizer.vocab_file.startswith(f"{config.model.hf_model}/")


# ---- the page and the comments ---------------------------------------------------------------------------------------


def page() -> str:
    return (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")


def table_of_the_page() -> list[list[str]]:
    rows = re.findall(r"^\| (`configs/emma500\S*`) \|(.*)\|$", page(), re.MULTILINE)
    return [[name, *(cell.strip() for cell in rest.split("|"))] for name, rest in rows]


def commands() -> list[list[str]]:
    """Return the commands of the page, and those in the comments of runs and clusters, as words."""
    text = "\n".join(re.findall(r"^```bash\n(.*?)^```", page(), re.MULTILINE | re.DOTALL))
    for path in [*(CONFIGS / f"{name}.yml" for name in RUNS), *CLUSTERS]:
        text += "\n" + "\n".join(re.findall(r"^# {2,}(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE))
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("python ")]


def deepy_commands() -> list[list[str]]:
    return [words[2:] for words in commands() if words[1] == "deepy.py"]


def test_the_page_names_every_run() -> None:
    assert {row[0] for row in table_of_the_page()} == {f"`configs/{name}.yml`" for name in RUNS}
    assert len(deepy_commands()) > len(RUNS) + len(CLUSTERS)


@pytest.mark.parametrize("words", deepy_commands(), ids=shlex.join)
def test_a_command_of_the_page_loads(words: list[str], tmp_path: Path) -> None:
    files = [word for word in words if word.endswith(".yml")]
    overrides = [word for word in words if "=" in word]
    own = tmp_path / "swahili.yml"  # the user's run of the README, which says nothing of a layout
    own.write_text(
        "hf_model: x\ntokenizer_type: HFTokenizer\nvocab_file: x\nseq_length: 64\nlr: 1.0e-4\ntrain_iters: 10\n"
        "train_batch_size: 8\n"
    )
    known = {"train.py", "--check", "--submit", "--simulate", "--processes", "256", "--gpu", "A100-64"}
    assert {word for word in words if "=" not in word} - {*files} <= known
    config = load([own if file == own.name else ROOT / file for file in files], overrides)
    if any(file.startswith("configs/emma500") for file in files) and words[0] == "train.py":
        assert config.data.mixture is not None, "a run is not started without its mixture"
