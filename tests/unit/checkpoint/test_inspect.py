from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from megatron.checkpoint.blocks import DamagedError
from megatron.checkpoint.inspect import average, difference_lines, summary_lines, verify_lines
from megatron.checkpoint.restore import load
from megatron.checkpoint.storage import LocalStorage, Storage, parent_and_name
from megatron.checkpoint.store import CheckpointError, read_state
from megatron.config.architecture import Architecture
from megatron.model.llama import Llama
from tests.unit.checkpoint.test_store import SHAPE, save, store_in, tokenizer, trained

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def two(tmp_path: Path) -> tuple[Storage, Storage]:
    """Two checkpoints of one run, which differ in all weights but those of one norm."""
    model, optimizer = trained()
    store = store_in(tmp_path)
    state = {"samples": 8, "tokens": 800, "layout": {"stage": 3, "shards": 4, "tensor": 1, "sequence": False}}
    copies = tokenizer(tmp_path)
    files = {"config.yml": "lr: 1\ntrain_iters: 5\n"}
    first = save(store, 2, model, optimizer, state=state, files=files, copies=copies)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(1.0 if name == "model.norm.weight" else 1.25 if "embed" in name else 1.5)
    state["samples"] = 12
    files = {"config.yml": "lr: 0.5\ntrain_iters: 5\n"}
    return first, save(store, 3, model, optimizer, state=state, files=files, copies=copies)


def test_what_is_in_one(two: tuple[Storage, Storage]) -> None:
    text = "\n".join(summary_lines(two[0]))
    for expected in ("step", "800", "stage 3, shards 4\n", "model-00001-of-00001.safetensors", "lr: 1", "float32"):
        assert expected in text, expected
    numbers, tensors = SHAPE.num_parameters(), len(dict(Llama(SHAPE).named_parameters()))
    assert f"{numbers:,} numbers in {tensors} tensors" in text
    assert f"{2 * numbers + tensors:,} numbers in {3 * tensors} tensors" in text


def test_a_whole_one_is_verified_and_a_damaged_one_is_not(two: tuple[Storage, Storage], tmp_path: Path) -> None:
    [line] = verify_lines(two[:1])
    assert "global_step2 is whole: 2 files with " in line
    path = tmp_path / "global_step2" / "optimizer-00001-of-00001.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    # Of a run's folder all are read, and every damaged file is named.
    (tmp_path / "global_step3" / "state.json").write_text("{}")
    lines = verify_lines([LocalStorage(tmp_path)])
    assert "global_step3 is damaged: state.json is damaged" in next(lines)
    assert "optimizer-00001-of-00001.safetensors is damaged: its bytes 0 to " in next(lines)
    with pytest.raises(DamagedError, match="2 of 2 are damaged"):
        next(lines)
    with pytest.raises(CheckpointError, match=r"no checkpoint in .*nowhere"):
        list(verify_lines([LocalStorage(tmp_path / "nowhere")]))


def test_how_two_differ(two: tuple[Storage, Storage]) -> None:
    lines = list(difference_lines(*two))
    assert lines[:3] == ["step: 2 -> 3", "samples: 8 -> 12", "lr: 1 -> 0.5"]
    table, *rest = lines[3:]
    rows = [line.split() for line in table.splitlines()[1:]]
    assert rows[0][1] == "5.000e-01" and rows[-2][:2] == ["model.embed_tokens.weight", "2.500e-01"]
    assert rows[-1][0] == "all" and rest == ["1 are equal"]
    assert list(difference_lines(two[0], two[0])) == [f"all {len(rows):,} tensors that both have are equal"]
    short = list(difference_lines(*two, shown=2))
    assert f"{len(rows) - 3} more have changed less" in short[4]


def test_the_mean_of_weights(two: tuple[Storage, Storage], tmp_path: Path) -> None:
    average(two, *parent_and_name(str(tmp_path / "mean")))
    mean = LocalStorage(tmp_path / "mean")
    assert len(list(verify_lines([mean]))) == 1
    assert read_state(mean)["averaged"] == [str(place) for place in two] and read_state(mean)["step"] == 3
    assert mean.read("tokenizer/tokenizer.model") == bytes(range(256))
    assert mean.read("config.yml").startswith(b"lr: 0.5")
    models = []
    for place in (*two, mean):
        models.append(Llama(SHAPE))
        load(place, model=models[-1], optimizer=None)
    for first, second, third in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(third, (first.double() + second.double()).div(2).float(), rtol=0, atol=0)
    with pytest.raises(ValueError, match="mean exists"):
        average(two, LocalStorage(tmp_path), "mean")


def test_a_mean_of_what_does_not_fit(two: tuple[Storage, Storage], tmp_path: Path) -> None:
    other = Llama(Architecture(64, 16, 48, 2, 2, 1, 8, 64))
    other.init_weights(seed=0)
    place = save(store_in(tmp_path / "other"), 1, other)
    with pytest.raises(CheckpointError, match=r"differ in 6 tensors, such as model.layers.0.mlp"):
        average([two[0], place], LocalStorage(tmp_path), "mean")
    with pytest.raises(CheckpointError, match="at least two"):
        average(two[:1], LocalStorage(tmp_path), "mean")
    assert not (tmp_path / "mean").exists()
    assert any("has shape [32, 16]" in line for line in difference_lines(two[0], place))


def test_the_tool(two: tuple[Storage, Storage], tmp_path: Path) -> None:
    def tool(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "tools/inspect_checkpoint.py", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert tool("show", tmp_path).stdout.splitlines()[0].split() == ["checkpoint", f"{tmp_path}/global_step3"]
    assert tool("verify", *two).stdout.count("is whole") == 2
    assert "2.500e-01" in tool("diff", *two).stdout
    assert tool("average", *two, "--output", tmp_path / "mean").returncode == 0
    (tmp_path / "global_step2" / "index.json").write_text("{}")
    result = tool("verify", two[0])
    assert result.returncode == 1 and "index.json is damaged" in result.stdout and "1 of 1" in result.stderr
