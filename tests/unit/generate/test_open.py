from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from megatron.checkpoint.folder import ModelFolder, open_folder
from megatron.generate.open import open_vllm_writer, open_writer
from megatron.generate.options import GenerationOptions
from megatron.parallel.process import Peers, World
from tests.language_models import plain_model, sentencepiece_tokenizer, tiny_hf_folder

ALONE = World(rank=0, size=1, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("open")
    text = ["".join(map(chr, range(33, 127))), *(f"{number} and {number * 7}" for number in range(40))]
    return tiny_hf_folder(place, sentencepiece_tokenizer(place, text), positions=64)


def test_the_writer_writes_what_the_plain_model_writes(folder: Path) -> None:
    writer = open_writer(open_folder(folder), world=ALONE, peers=Peers(), dtype=torch.float32, batch_size=2)
    prompts = [[5, 6, 7], [], [9, 8]]
    options = GenerationOptions(8)
    assert writer.write(prompts, options) == plain_model(folder).write(prompts, options)
    with pytest.raises(ValueError, match="model_parallel_size = 2 does not divide the 1 processes"):
        open_writer(open_folder(folder), world=ALONE, peers=Peers(), dtype=torch.float32, tensor=2)


def test_all_that_the_back_end_cannot_take_is_told(folder: Path) -> None:
    checkpoint: ModelFolder = dataclasses.replace(open_folder(folder), step=3)
    four = dataclasses.replace(ALONE, size=4)
    with pytest.raises(ValueError, match=r"there are 4 processes.* is a checkpoint, .*convert_checkpoint"):
        open_vllm_writer(checkpoint, world=four, dtype=torch.float32)
