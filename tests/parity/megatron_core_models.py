"""Run by test_megatron_core_checkpoint.py, as one process of each tensor parallel part: Megatron-Core on a CPU.

It asks for a GPU here and there. What it asks is answered otherwise in this process, so that pytest's stays as it is.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from megatron.checkpoint.convert.megatron_arguments import arguments_of
from megatron.config.architecture import Architecture, RopeScaling


def model_of(shape: Architecture, padded_vocab_size: int) -> Any:
    """Return Megatron-Core's model of a shape, with random weights."""
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.transformer import TransformerConfig

    torch.manual_seed(5)
    config = TransformerConfig(
        num_layers=shape.num_hidden_layers,
        hidden_size=shape.hidden_size,
        ffn_hidden_size=shape.intermediate_size,
        num_attention_heads=shape.num_attention_heads,
        num_query_groups=shape.num_key_value_heads,
        kv_channels=shape.head_dim,
        layernorm_epsilon=shape.rms_norm_eps,
        tensor_model_parallel_size=dist.get_world_size(),
        init_method_std=0.3,
        use_cpu_initialization=True,
        normalization="RMSNorm",
        gated_linear_unit=True,
        activation_func=torch.nn.functional.silu,
        add_bias_linear=False,
        attention_dropout=0.0,
        hidden_dropout=0.0,
        bias_activation_fusion=False,
        masked_softmax_fusion=False,
        persist_layer_norm=False,
        gradient_accumulation_fusion=False,
        apply_rope_fusion=False,
    )
    model = GPTModel(
        config,
        get_gpt_layer_local_spec(normalization="RMSNorm"),
        vocab_size=padded_vocab_size,
        max_sequence_length=shape.max_position_embeddings,
        position_embedding_type="rope",
        rotary_base=int(shape.rope_theta),
        rope_scaling=shape.rope_scaling is not None,
        rope_scaling_factor=shape.rope_scaling.factor if shape.rope_scaling else 8.0,
        share_embeddings_and_output_weights=shape.tie_word_embeddings,
        parallel_output=False,
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
    return model.eval()


def logits_of(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Return what a model computes, as float32 [batch, position, token]."""
    length = tokens.shape[1]
    mask = torch.ones(length, length, dtype=torch.bool).triu(1)[None, None]  # true where nothing is seen
    with torch.no_grad():
        return model(tokens, torch.arange(length).expand_as(tokens), mask)


def main() -> None:
    """Save a model for every case, and load what was converted; write what they compute into the case's folder."""
    folder = Path(os.environ["CASES"])
    # Since a process without a GPU has none of these.
    torch.cuda.synchronize = lambda *args, **kwargs: None  # type: ignore[assignment]
    torch.cuda.current_device = lambda: "cpu"  # type: ignore[assignment, return-value]
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=int(os.environ["RANK"]), world_size=int(os.environ["SIZE"])
    )
    from megatron.core import dist_checkpointing, parallel_state
    from megatron.core.tensor_parallel.random import CudaRNGStatesTracker

    CudaRNGStatesTracker.fork = lambda self, name="": contextlib.nullcontext()
    parallel_state.initialize_model_parallel(dist.get_world_size(), 1)
    tokens = torch.load(folder / "tokens.pt", weights_only=True)
    for path in sorted(folder.glob("*/shape.json")):
        values, case = json.loads(path.read_text()), path.parent
        padded, metadata = values.pop("padded_vocab_size"), values.pop("metadata")
        if values["rope_scaling"]:
            values["rope_scaling"] = RopeScaling(**values["rope_scaling"])
        shape = Architecture(**values)
        model = model_of(shape, padded)
        results = {"saved": logits_of(model, tokens)}
        (case / "theirs" / "iter_0000007").mkdir(parents=True, exist_ok=True)
        dist.barrier()
        state = model.sharded_state_dict(metadata=metadata)
        state["args"] = argparse.Namespace(**vars(arguments_of(shape)))
        dist_checkpointing.save(state, str(case / "theirs" / "iter_0000007"))
        model = model_of(shape, padded)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(torch.nan)
        loaded = dist_checkpointing.load(model.sharded_state_dict(), str(case / "ours" / "release"))
        arguments = loaded.pop("args")
        assert (loaded.pop("checkpoint_version"), loaded.pop("iteration")) == (3.0, 0)
        assert arguments.num_layers == shape.num_hidden_layers
        model.load_state_dict(loaded)
        results["loaded"] = logits_of(model, tokens)
        if dist.get_rank() == 0:
            (case / "theirs" / "latest_checkpointed_iteration.txt").write_text("7")
            torch.save(results, case / "logits.pt")
            torch.save({k: v for k, v in model.state_dict().items() if v is not None}, case / "state.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    main()
