"""Choices of the project's own engine are those that transformers leads to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from megatron.checkpoint.folder import open_folder
from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.config.layout import Layout
from megatron.evaluation.benchmarks.choices import ask_choices
from megatron.evaluation.benchmarks.data import Items
from megatron.evaluation.benchmarks.outcome import RunOptions
from megatron.evaluation.engine_model import open_engine_model
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.process import Peers, World

LABELS = ["sports", "travel", "health and food"]
RECORDS = [{"id": str(n), "text": text, "label": LABELS[n % 3]} for n, text in enumerate(
    ["A day", "The sea", "Bread", "Running", "Doctors", "Trains"])]  # fmt: skip


def definition(**changes: object) -> BenchmarkConfig:
    return BenchmarkConfig(
        name="own", data="own", kind="choices", prompt="{text} is\n", answer=" {label}", shots=1, separator="\n",
        labels={label: label for label in LABELS}, reference="label", metrics=("accuracy",), **changes,
    )  # fmt: skip


@pytest.mark.parametrize("scoring", ["likelihood", "last-token"])
def test_choices_are_those_of_transformers(small_hf: Path, scoring: str) -> None:
    transformers = pytest.importorskip("transformers")
    mesh = Mesh(Layout(), World(rank=0, size=1, device=torch.device("cpu")))
    ours = open_engine_model(open_folder(small_hf), mesh=mesh, peers=Peers(), execution=Execution(torch.float32))
    outcome = ask_choices(ours, definition(scoring=scoring), "eng_Latn", Items(RECORDS, RECORDS, 0), RunOptions())()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(small_hf, dtype=torch.float64)
    tokenizer = transformers.AutoTokenizer.from_pretrained(small_hf)

    def chances(text: str) -> tuple[list[int], torch.Tensor]:
        ids = tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            return ids[0].tolist(), theirs(ids).logits[0].log_softmax(-1)

    outputs = []
    for item in outcome.items:
        prompt, nats = item["prompt"], {}
        for label in LABELS:
            if scoring == "last-token":  # as in the published script: the logit of `tokenizer(" label").input_ids[-1]`
                nats[label] = -chances(prompt)[1][-1][tokenizer(f" {label}").input_ids[-1]].item()
            else:  # of the whole text; what labels share makes no difference between them
                ids, rows = chances(f"{prompt} {label}")
                nats[label] = -sum(rows[place - 1][ids[place]].item() for place in range(1, len(ids)))
        outputs.append(min(nats, key=nats.__getitem__))
        first = LABELS[0]
        for label in LABELS[1:]:
            assert item["nats"][label] - item["nats"][first] == pytest.approx(nats[label] - nats[first], abs=1e-4)
    assert [item["output"] for item in outcome.items] == outputs
    assert len({item["nats"][LABELS[0]] for item in outcome.items}) == len(RECORDS)
