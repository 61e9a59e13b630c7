from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from megatron.checkpoint.folder import open_folder, open_model
from megatron.checkpoint.open import open_engine
from megatron.config.layout import Layout
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.process import Peers, World
from tests.language_models import sentencepiece_tokenizer, tiny_hf_folder

TEXTS = ["All human beings are born free and equal in dignity and rights."] * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("open")
    text = [*TEXTS, "".join(map(chr, range(33, 127))), *(f"{number} and {number * 7}" for number in range(40))]
    return tiny_hf_folder(place, sentencepiece_tokenizer(place, text), positions=32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_weights_are_those_of_the_model_alone_in_the_dtype_that_is_computed_in(
    folder: Path, dtype: torch.dtype
) -> None:
    mesh = Mesh(Layout(), World(rank=0, size=1, device=torch.device("cpu")))
    engine = open_engine(open_folder(folder), mesh=mesh, peers=Peers(), execution=Execution(dtype))
    alone = open_model(folder, device=torch.device("cpu")).model.state_dict()
    found = engine.model.state_dict()
    assert found.keys() == alone.keys()
    assert all(torch.equal(found[name], weight.to(dtype)) for name, weight in alone.items())


def test_all_sizes_that_cannot_be_divided_are_told(folder: Path) -> None:
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=3)
    try:
        mesh = Mesh(Layout(tensor=3), World(rank=0, size=3, device=torch.device("cpu")))
        with pytest.raises(ValueError) as caught:
            open_engine(open_folder(folder), mesh=mesh, peers=Peers(), execution=Execution())
    finally:
        dist.destroy_process_group()
    told = str(caught.value)
    assert all(f"does not divide {name}" in told for name in ("num_attention_heads = 4", "num_kv_heads = 2"))
