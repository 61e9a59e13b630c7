"""Raw text in, a Hugging Face model and a report out: the commands of the README, one after the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from megatron.generate.options import GenerationOptions
from megatron.generate.writer import TextWriter
from megatron.monitor.record import read_metrics
from megatron.parallel.engine import Engine

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ["eng_Latn", "swh_Latn", "amh_Ethi", "jpn_Jpan", "arb_Arab", "ara_Arab", "hin_Deva", "fra_Latn"]


def run(*command: object, expect: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == expect, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def whole_way(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run everything once and return the folder with all that came out."""
    folder = tmp_path_factory.mktemp("way")
    known = run("tools/make_sample_corpus.py", "--help")
    assert "--languages" in known
    from megatron.corpus.sample import find_locales

    languages = [code for code in LANGUAGES if code in find_locales()[0]]
    run("tools/make_sample_corpus.py", "--output", folder / "corpus", "--languages", *languages)
    tokenizer = folder / "tokenizer.model"
    run("tools/train_tokenizer.py", "--input", folder / "corpus", "--output", tokenizer, "--vocab-size", 1200)
    run(
        "tools/preprocess_data.py", "--input", folder / "corpus", "--output-prefix", folder / "shards",
        "--tokenizer-type", "SPMTokenizer", "--vocab-file", tokenizer, "--append-eod", "--prepend-bos",
        "--valid-bytes", 1000, "--workers", 2,
    )  # fmt: skip
    config = {
        "num_layers": 2,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_kv_heads": 2,
        "intermediate_size": 128,
        "max_position_embeddings": 128,
        "tokenizer_type": "SPMTokenizer",
        "vocab_file": str(tokenizer),
        "data_manifest": str(folder / "shards" / "manifest.json"),
        "seq_length": 64,
        "train_micro_batch_size_per_gpu": 8,
        "lr": 3e-3,
        "train_iters": 30,
        "exit_interval": 20,
        "eval_interval": 30,
        "log_interval": 10,
        "save": str(folder / "run"),
        "checkpoint_factor": 20,
        "num_threads": 1,
    }
    (folder / "run.yml").write_text(yaml.safe_dump(config))
    run("tools/plan_mixture.py", folder / "run.yml")
    run("deepy.py", "train.py", folder / "run.yml")
    run("deepy.py", "train.py", folder / "run.yml")
    run("tools/convert_checkpoint.py", "--from", "native", "--to", "hf", "--input", folder / "run",
        "--output", folder / "model")  # fmt: skip
    run("generate.py", "--model", folder / "model", "--prompt", "January, February", "--prompt", "日本",
        "--output", folder / "run" / "samples.jsonl", "--maximum-tokens", 20)  # fmt: skip
    run("tools/report.py", folder / "run", "--output", folder / "report.html")
    return folder


def test_every_corpus_got_better(whole_way: Path) -> None:
    events = read_metrics(whole_way / "run" / "metrics.jsonl")
    first, last = [event["rows"] for event in events if event["event"] == "validation"]
    assert len(first) >= 6
    assert all(after["nats"] < before["nats"] for before, after in zip(first, last, strict=True))
    assert [event["resumed_from"] for event in events if event["event"] == "start"] == [None, 20]


def test_transformers_loads_model_and_tokenizer(whole_way: Path) -> None:
    from megatron.checkpoint.folder import open_model

    model = AutoModelForCausalLM.from_pretrained(whole_way / "model", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(whole_way / "model")
    ours = open_model(whole_way / "run", device=torch.device("cpu"))
    for text in ("January, February", "日本語、", "ጥር", "</s> is text", "नमस्ते 12"):
        ids = tokenizer(text, split_special_tokens=True)["input_ids"]
        assert ids == [ours.first_id, *ours.tokenizer.encode(text)]
        with torch.no_grad():
            difference = (model(torch.tensor([ids])).logits - ours.model(torch.tensor([ids]))).abs().max()
            expected = model.generate(torch.tensor([ids]), max_new_tokens=30, do_sample=False, pad_token_id=0)
        assert difference < 1e-4
        writer = TextWriter(
            Engine.alone(ours.model), ours.tokenizer, first_id=ours.first_id, end_ids=ours.end_ids
        )
        [written] = writer.write_ids([ids[1:]], GenerationOptions(30))
        tail = expected[0, len(ids) :].tolist()
        assert written.tokens == (tail[:-1] if written.stop_reason == "end" else tail)


def test_generated_text_is_recorded_and_the_report_shows_it(whole_way: Path) -> None:
    records = [json.loads(line) for line in (whole_way / "run" / "samples.jsonl").read_text().splitlines()]
    assert [record["prompt"] for record in records] == ["January, February", "日本"]
    page = (whole_way / "report.html").read_text()
    assert "January, February" in page and "日本" in page and "amh_Ethi" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_generation_through_the_launcher_uses_the_run(whole_way: Path) -> None:
    prompts = whole_way / "prompts.txt"
    prompts.write_text("January\n")
    run("deepy.py", "generate.py", whole_way / "run.yml", f"sample_input_file={prompts}", "maximum_tokens=5",
        "sample_output_file=launched.jsonl", "generation_batch_size=1", "stop_strings=[a, e]")  # fmt: skip
    (record,) = [json.loads(line) for line in (whole_way / "run" / "launched.jsonl").read_text().splitlines()]
    assert record["prompt"] == "January" and record["tokens"] <= 5
    assert not {"a", "e"} & set(record["output"]) and record["stop_reason"] in ("end", "stop", "length")
    run("deepy.py", "generate.py", whole_way / "run.yml", f"sample_input_file={prompts}", "maximum_tokens=5",
        "sample_output_file=divided.jsonl", "generation_batch_size=1", "stop_strings=[a, e]", "num_gpus=2",
        "model_parallel_size=2")  # fmt: skip
    (divided,) = [json.loads(line) for line in (whole_way / "run" / "divided.jsonl").read_text().splitlines()]
    assert divided == record


def test_training_goes_on_from_the_exported_model(whole_way: Path) -> None:
    config = yaml.safe_load((whole_way / "run.yml").read_text())
    shape = ("num_layers", "hidden_size", "num_attention_heads", "num_kv_heads", "intermediate_size")
    for key in (*shape, "max_position_embeddings", "exit_interval"):
        del config[key]
    config |= {"hf_model": str(whole_way / "model"), "save": str(whole_way / "again"), "train_iters": 2}
    config |= {"eval_interval": 2, "lr": 1e-6}
    (whole_way / "again.yml").write_text(yaml.safe_dump(config))
    how_it_writes = '{"eos_token_id": [2, 7],   "temperature": 0.6}'
    (whole_way / "model" / "generation_config.json").write_text(how_it_writes)
    run("deepy.py", "train.py", whole_way / "again.yml")
    run("tools/convert_checkpoint.py", "--from", "native", "--to", "hf", "--input", whole_way / "again",
        "--output", whole_way / "exported")  # fmt: skip
    assert (whole_way / "exported" / "generation_config.json").read_text() == how_it_writes
    before = read_metrics(whole_way / "run" / "metrics.jsonl")
    after = read_metrics(whole_way / "again" / "metrics.jsonl")
    last = [event["rows"] for event in before if event["event"] == "validation"][-1]
    first = next(event["rows"] for event in after if event["event"] == "validation")
    assert [row["nats"] for row in first] == pytest.approx([row["nats"] for row in last], rel=1e-5)


def test_a_pretrained_model_with_another_tokenizer_is_refused(whole_way: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.model"
    run("tools/train_tokenizer.py", "--input", whole_way / "corpus" / "fra_Latn", "--output", other,
        "--vocab-size", 600)  # fmt: skip
    run("tools/preprocess_data.py", "--input", whole_way / "corpus", "--output-prefix", tmp_path / "shards",
        "--tokenizer-type", "SPMTokenizer", "--vocab-file", other)  # fmt: skip
    again = whole_way / "again.yml"
    assert again.exists(), "made by the test before"
    settings = (f"vocab_file={other}", f"data_manifest={tmp_path / 'shards' / 'manifest.json'}")
    for command in ("train.py", again), ("deepy.py", "--check", again):
        said = run(*command, *settings, f"save={tmp_path / 'refused'}", expect=2)
        assert "gives other ids than" in said and "Traceback" not in said
