"""What may not change between the parts of one run, and the check that it has not."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from megatron.checkpoint.store import CheckpointError
from megatron.config.architecture import Architecture
from megatron.train.build import Data


def run_identity(data: Data, architecture: Architecture, *, seed: int) -> dict[str, Any]:
    """Return the facts that a checkpoint stores and that a resumed run must share: JSON values by name."""
    # Shares to nine digits: the last bits of a float depend on how it was summed.
    corpora = {corpus.shard.name: [corpus.shard.content_hash, f"{corpus.share:.9g}"] for corpus in data.mixture.trained}
    return {
        "architecture": dataclasses.asdict(architecture),
        "tokenizer": dataclasses.asdict(data.manifest.tokenizer),
        "mixture": corpora,
        "seq_length": data.order.seq_length,
        "seed": seed,
    }


def check_same_run(state: dict[str, Any], identity: dict[str, Any], checkpoint: Path) -> None:
    """Refuse to continue a checkpoint with another model, tokenizer, mixture, sequence length or seed.

    Raises:
        CheckpointError: naming everything that differs.
    """
    wanted = json.loads(json.dumps(identity))
    problems = [
        f"{name} was {state.get(name)!r}, is now {value!r}"
        for name, value in wanted.items()
        if state.get(name) != value and name != "mixture"
    ]
    problems += _mixture_problems(state.get("mixture"), wanted["mixture"])
    if not isinstance(state.get("samples"), int):
        problems.append("the number of samples consumed is missing")
    if problems:
        raise CheckpointError(
            f"{checkpoint} belongs to another run: {'; '.join(problems)}. Give another `save` folder, or change the "
            "configuration back; to start a new run from its weights, set `load` to it and `finetune: true`"
        )


def _mixture_problems(before: Any, now: dict[str, list[str]]) -> list[str]:
    if not isinstance(before, dict):
        return ["the mixture it was trained on is missing"]
    kinds = {
        "is new": [name for name in now if name not in before],
        "is gone": [name for name in before if name not in now],
        "holds other text": [name for name in now if name in before and now[name][0] != before[name][0]],
        "has another share": [name for name in now if name in before and now[name][1:] != before[name][1:]],
    }
    if set(before) == set(now) and list(before) != list(now):
        return ["the corpora are listed in another order in the manifest"]  # ties between shares are broken by it
    return [
        f"{names[0]} {what}" + (f" (so do {len(names) - 1} more corpora)" if len(names) > 1 else "")
        for what, names in kinds.items()
        if names
    ]
