"""The peer of the data benchmarks: megatron-core's ``BlendedDataset`` over ``GPTDataset``, as Megatron builds them."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

FLAGS = (
    "create_attention_mask=False, reset_position_ids=False, reset_attention_mask=False, eod_mask_loss=False, "
    "mmap_bin_files=True, add_extra_token_to_sequence=True"
)
"""How the datasets are set: the cheapest per sample, and what Megatron trains with when its kernels make the mask."""


def peer_name() -> str:
    """Return the name and version of the peer."""
    try:
        return f"megatron-core {importlib.metadata.version('megatron-core')}"
    except importlib.metadata.PackageNotFoundError:
        return "megatron-core"


def has_peer() -> bool:
    """Return whether megatron-core and its compiled part are installed."""
    try:
        from megatron.core.datasets import helpers_cpp  # noqa: F401
    except ImportError:
        return False
    return True


def build_blend(
    prefixes: list[Path],
    weights: list[float],
    *,
    samples: int,
    seq_length: int,
    vocab_size: int,
    eod_id: int,
    cache: Path,
) -> Any:
    """Build the training dataset of a blend, as the only process of a run.

    Args:
        prefixes: shards without ``.bin``.
        weights: one for each of them.
        samples: length of the run.
        seq_length: tokens per sample.
        vocab_size: of the tokenizer.
        eod_id: of the tokenizer.
        cache: folder of its index files, which are built where they are missing.
    """
    import torch
    from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig

    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    config = GPTDatasetConfig(
        random_seed=1234,
        sequence_length=seq_length,
        blend=([str(prefix) for prefix in prefixes], weights),
        split="1,0,0",
        tokenizer=SimpleNamespace(vocab_size=vocab_size, eod=eod_id, pad=-1, unique_identifiers={"class": "none"}),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
        mmap_bin_files=True,
        path_to_cache=str(cache),
    )
    dataset = BlendedMegatronDatasetBuilder(GPTDataset, [samples, 0, 0], lambda: True, config).build()[0]
    torch.distributed.destroy_process_group()
    return dataset
