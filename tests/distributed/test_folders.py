"""A run saves while it is opened by several processes: all of them take the checkpoint that the main one found."""

from __future__ import annotations

import shutil
from pathlib import Path

import folders
import torch
from processes import spawn

from megatron.checkpoint.convert.run import Conversion, convert
from megatron.checkpoint.folder import open_folder
from tests.language_models import sentencepiece_tokenizer, tiny_hf_folder

TEXTS = ["".join(map(chr, range(33, 127))), *(f"{number} and {number * 7}" for number in range(40))]


def test_all_processes_open_the_checkpoint_that_the_main_one_found(tmp_path: Path) -> None:
    hf = tiny_hf_folder(tmp_path, sentencepiece_tokenizer(tmp_path, TEXTS), positions=32)
    early, late = (tmp_path / f"seen by {rank}" for rank in range(2))
    list(convert(Conversion("hf", str(hf), "native", str(early / "global_step2"), checked=False)))
    # The second process looks when there is one more.
    shutil.copytree(early, late)
    shutil.copytree(early / "global_step2", late / "global_step3")
    assert str(open_folder(late).place).endswith("global_step3"), "alone it would take that"
    spawn(folders.work, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first["place"] == second["place"] == str(early / "global_step2")
    assert first["told"] == second["told"] == f"{tmp_path / 'absent'} is no folder", "none waits for another"
