"""Every format in and out, judged by transformers on the whole model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from megatron.checkpoint.convert.check import compared
from megatron.checkpoint.convert.run import TARGETS, Conversion, convert
from megatron.checkpoint.hf import save_model
from megatron.config.architecture import Architecture
from megatron.config.layout import Layout
from tests.foreign_checkpoints import SHAPES, model_of, write_meta, write_neox


def _hf(weights: dict[str, Tensor], shape: Architecture, folder: Path) -> None:
    save_model(weights, shape, folder, dtype=torch.float32, bos_id=1, eos_id=2)


def _native(weights: dict[str, Tensor], shape: Architecture, folder: Path) -> None:
    _hf(weights, shape, folder.with_name("hf of native"))
    list(convert(Conversion("hf", str(folder.with_name("hf of native")), "native", str(folder), checked=False)))


def _meta(weights: dict[str, Tensor], shape: Architecture, folder: Path) -> None:
    write_meta(weights, shape, folder, ranks=2, llama=3 if shape.rope_scaling else 2)


def _neox_pipeline(weights: dict[str, Tensor], shape: Architecture, folder: Path) -> None:
    write_neox(weights, shape, folder, ranks=2, by_head=True)


def _neox_sequential(weights: dict[str, Tensor], shape: Architecture, folder: Path) -> None:
    write_neox(weights, shape, folder, pipeline=False, old_feed_forward=True)


def _megatron_core(weights: dict[str, Tensor], shape: Architecture, folder: Path) -> None:
    _hf(weights, shape, folder.with_name("hf of core"))
    list(convert(Conversion("hf", str(folder.with_name("hf of core")), "megatron-core", str(folder), checked=False)))


WRITERS: dict[str, Callable[[dict[str, Tensor], Architecture, Path], None]] = {
    "hf": _hf, "native": _native, "meta": _meta, "neox": _neox_pipeline, "neox sequential": _neox_sequential,
    "megatron-core": _megatron_core,
}  # fmt: skip


PAIRS = [(first, second) for first in WRITERS for second in TARGETS if first.partition(" ")[0] != second]


def transformers_logits(folder: Path, ids: Tensor) -> Tensor:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        logits: Tensor = model(ids[None]).logits[0]
    return logits


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
@pytest.mark.parametrize(("written", "target_format"), PAIRS, ids=[f"{first} to {second}" for first, second in PAIRS])
def test_every_pair(shape: Architecture, written: str, target_format: str, tmp_path: Path) -> None:
    source_format = written.partition(" ")[0]
    weights = model_of(shape)
    _hf(weights, shape, tmp_path / "judge")
    WRITERS[written](weights, shape, tmp_path / "source")
    foreign = source_format in ("meta", "neox")
    wanted = Conversion(
        source_format,
        str(tmp_path / "source"),
        target_format,
        str(tmp_path / "target"),
        layout=Layout(tensor=2, pipeline=3) if target_format == "native" else Layout(),
        # What these formats cannot tell: the shape of a tied or scaled model.
        config=tmp_path / "judge" if foreign and (shape.rope_scaling or shape.tie_word_embeddings) else None,
        qkv_layout=None if source_format != "neox" else "by-head" if written == "neox" else "joined",
    )
    lines = list(convert(wanted))
    assert any("through both" in line for line in lines)
    folder = tmp_path / "target"
    if target_format != "hf":
        list(convert(Conversion(target_format, str(folder), "hf", str(tmp_path / "back"))))
        folder = tmp_path / "back"
    ids = torch.randint(shape.vocab_size, (128,), generator=torch.Generator().manual_seed(2))
    found = compared(transformers_logits(tmp_path / "judge", ids), transformers_logits(folder, ids))
    assert found.difference <= 1e-5 and found.kl < 1e-9
