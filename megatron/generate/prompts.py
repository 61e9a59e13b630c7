"""Continues many prompts and records what came out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megatron.checkpoint.folder import TrainedModel
from megatron.generate.engine import continue_prompt
from megatron.generate.sampling import Sampling
from megatron.utils.files import write_text
from megatron.utils.log import progress


def read_prompts(path: Path) -> list[str]:
    """Read prompts, one a line; blank lines do not count.

    Raises:
        ValueError: the file is missing, is not UTF-8, or has no prompt.
    """
    try:
        prompts = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as UTF-8 text: {error}") from None
    if not prompts:
        raise ValueError(f"{path} holds no prompt; write one a line")
    return prompts


def continue_all(
    trained: TrainedModel,
    prompts: Sequence[str],
    *,
    maximum_tokens: int,
    sampling: Sampling,
    num_samples: int = 1,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Continue every prompt ``num_samples`` times.

    Returns:
        One record for each text: ``prompt``, ``output``, ``stop_reason`` and the number of new ``tokens``. The seed of
        text ``k`` is ``seed + k``, so a text can be made again alone.
    """
    jobs = [prompt for prompt in prompts for _ in range(num_samples)]
    records = []
    for number, prompt in enumerate(progress(jobs, description="generating", total=len(jobs), unit="text")):
        written = continue_prompt(
            trained.model,
            [trained.first_id, *trained.tokenizer.encode(prompt)],
            maximum_tokens=maximum_tokens,
            end_ids=trained.end_ids,
            sampling=sampling,
            seed=seed + number,
        )
        # Decoded together: the pieces of a character may lie on both sides of the border.
        prompt_ids = trained.tokenizer.encode(prompt)
        whole = trained.tokenizer.decode([*prompt_ids, *written.tokens])
        before = trained.tokenizer.decode(prompt_ids)
        output = whole[len(before) :] if whole.startswith(before) else trained.tokenizer.decode(written.tokens)
        records.append(
            {"prompt": prompt, "output": output, "stop_reason": written.stop_reason, "tokens": len(written.tokens)}
        )
    return records


def write_records(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Write one JSON object a line, atomically."""
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
