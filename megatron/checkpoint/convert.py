"""Writes a checkpoint of ours as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

import torch

from megatron.checkpoint.folder import open_checkpoint
from megatron.checkpoint.hf import save_model

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def native_to_hf(source: Path, target: Path, *, dtype: torch.dtype) -> str:
    """Write weights, configuration and tokenizer, ready for ``AutoModelForCausalLM`` and ``AutoTokenizer``.

    Args:
        source: a ``global_step<N>`` folder, or a run's ``save`` folder, whose newest complete checkpoint is taken.
        target: folder to write; made when missing.
        dtype: dtype of the stored weights.

    Returns:
        The checkpoint that was taken.

    Raises:
        ValueError: there is no usable checkpoint.
    """
    trained = open_checkpoint(source, device=torch.device("cpu"))
    weights = {name: parameter.detach() for name, parameter in trained.model.named_parameters()}
    save_model(
        weights,
        trained.model.architecture,
        target,
        dtype=dtype,
        bos_id=trained.tokenizer.bos_id,
        eos_id=trained.end_ids[0],
    )
    trained.tokenizer.save(target, prepend_bos=trained.prepend_bos)
    return str(trained.place)
