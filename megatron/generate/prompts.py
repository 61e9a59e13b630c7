"""Continues many prompts and records what came out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from megatron.generate.options import GenerationOptions, Written
from megatron.tokenizer.base import Tokenizer
from megatron.utils.files import write_text


class Writer(Protocol):
    """What continues prompts: :class:`megatron.generate.writer.TextWriter`, or another back end."""

    def write(
        self, prompts: Sequence[Sequence[int]], options: GenerationOptions, *, show_progress: bool = False
    ) -> list[Written]:
        """Continue prompts, given as ids without the one that begins a text; in their order."""
        ...


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
    writer: Writer,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    options: GenerationOptions,
    *,
    num_samples: int = 1,
    show_progress: bool = True,
) -> list[dict[str, Any]]:
    """Continue every prompt ``num_samples`` times.

    Returns:
        One record for each text: ``prompt``, ``output``, ``stop_reason`` and the number of new ``tokens``. The seed of
        text ``k`` is ``seed + k``, so a text can be made again alone.
    """
    jobs = [prompt for prompt in prompts for _ in range(num_samples)]
    ids = {prompt: tokenizer.encode(prompt) for prompt in prompts}
    written = writer.write([ids[prompt] for prompt in jobs], options, show_progress=show_progress)
    return [
        {"prompt": prompt, "output": text.text, "stop_reason": text.stop_reason, "tokens": text.num_tokens}
        for prompt, text in zip(jobs, written, strict=True)
    ]


def write_records(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Write one JSON object a line, atomically."""
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
