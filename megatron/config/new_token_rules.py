"""The rules about the tokens of a vocabulary extension, as :mod:`megatron.config.check` runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from megatron.config.problems import Complaint


def _named_for_a_reason(
    vocab_extension: str | None, new_tokens_from: int | None, new_tokens_only_steps: int, new_tokens_lr: float | None
) -> Iterator[Complaint]:
    if new_tokens_only_steps or new_tokens_lr is not None:
        return
    for key, value in (("vocab_extension", vocab_extension), ("new_tokens_from", new_tokens_from)):
        if value is not None:
            fix = "Add `new_tokens_only_steps: 1000` or `new_tokens_lr: ...`, or remove the key."
            yield key, "has no effect without new_tokens_only_steps and new_tokens_lr", fix


def _of_which_tokens(
    vocab_extension: str | None, new_tokens_from: int | None, given: Any
) -> Iterator[Complaint]:
    if vocab_extension is not None or new_tokens_from is not None:
        return
    for key in ("new_tokens_only_steps", "new_tokens_lr"):
        if key in given:
            fix = "Name the extended tokenizer's folder as vocab_extension, or the first new id as new_tokens_from."
            yield key, "has no effect as long as it is not said which tokens are new", fix


def _first_is_in_the_vocabulary(new_tokens_from: int | None, vocab_size: int | None) -> Iterator[Complaint]:
    if new_tokens_from is not None and vocab_size is not None and new_tokens_from >= vocab_size:
        fix = "Give the number of entries that the vocabulary had before it was extended."
        yield "new_tokens_from", f"is outside the vocabulary: ids end at {vocab_size - 1}", fix


NEW_TOKEN_RULES: tuple[Callable[..., Iterator[Complaint]], ...] = (
    _named_for_a_reason,
    _of_which_tokens,
    _first_is_in_the_vocabulary,
)
"""All rules of this module."""

NEW_TOKEN_RULES_OF_ABSENCE = (_named_for_a_reason, _of_which_tokens)
"""Those that are broken because a key is not there."""
