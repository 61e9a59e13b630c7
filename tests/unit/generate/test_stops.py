"""Stop strings, with tokenizers whose tokens are pieces, single bytes, and characters that several tokens share."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from megatron.generate.stops import StopWatch, added_text, before_stop
from megatron.tokenizer.base import Tokenizer

SAME_TOKENIZER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


def found_at(tokenizer: Tokenizer, prompt: list[int], new: list[int], stop: list[str]) -> int | None:
    """Return after how many tokens the watch ends the text."""
    watch = StopWatch(tokenizer, prompt, stop)
    return next((count for count, token in enumerate(new, start=1) if watch.found(token)), None)


def truly_at(tokenizer: Tokenizer, prompt: list[int], new: list[int], stop: list[str]) -> int | None:
    """Return the same by decoding the whole text after each token."""
    for count in range(1, len(new) + 1):
        if before_stop(added_text(tokenizer, prompt, new[:count]), stop) is not None:
            return count
    return None


@SAME_TOKENIZER
@given(seed=st.integers(0, 10_000), prompt=st.integers(0, 30), length=st.integers(1, 120), readable=st.booleans())
def test_a_text_ends_at_the_first_token_that_completes_a_stop(
    tokenizer: Tokenizer, seed: int, prompt: int, length: int, readable: bool
) -> None:
    chance = random.Random(seed)
    ids = [chance.randrange(3, tokenizer.vocab_size) for _ in range(prompt + length)]
    if readable:
        ids = [token for token in ids if not tokenizer.byte_token_mask()[token]] or ids
    before, new = ids[:prompt], ids[prompt:] or [5]
    text = added_text(tokenizer, before, new)
    start = chance.randrange(len(text)) if text else 0
    stop = [text[start : start + chance.randrange(1, 6)] or "x", "never comes"]
    assert found_at(tokenizer, before, new, stop) == truly_at(tokenizer, before, new, stop)


@pytest.mark.parametrize("text", ["born free\nand equal", "人人生而自由\n在尊严", "one. two. three.", "naïve é 😀 end"])
@pytest.mark.parametrize("stop", ["\n", "free", "自由", ". t", "😀", " "])
def test_stops_are_found_across_tokens(tokenizer: Tokenizer, text: str, stop: str) -> None:
    prompt, ids = tokenizer.encode("All human beings"), tokenizer.encode(text)
    count = found_at(tokenizer, prompt, ids, [stop])
    assert count == truly_at(tokenizer, prompt, ids, [stop])
    if stop.strip() in text and stop.strip():
        assert count is not None
    if count is not None:
        assert stop not in (before_stop(added_text(tokenizer, prompt, ids[:count]), [stop]) or "")


def test_what_the_prompt_ends_with_does_not_end_the_text(tokenizer: Tokenizer) -> None:
    prompt = tokenizer.encode("free\nequal:\n")
    assert found_at(tokenizer, prompt, tokenizer.encode("born"), ["\n", "equal"]) is None


def test_a_character_on_the_border_of_the_prompt(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("😀 free")
    assert len(ids) > 4  # the emoji is spread over several
    found = found_at(tokenizer, ids[:2], ids[2:], ["free"])
    assert found == truly_at(tokenizer, ids[:2], ids[2:], ["free"]) and found is not None


def test_the_first_of_several_stops_counts() -> None:
    assert before_stop("one two three", ["three", "two"]) == "one "
    assert before_stop("one two three", ["four"]) is None


def test_a_token_costs_the_same_in_a_long_text(tokenizer: Tokenizer) -> None:
    decoded: list[int] = []

    class Counting:
        def decode(self, ids: list[int]) -> str:
            decoded.append(len(ids))
            return tokenizer.decode(ids)

    watch = StopWatch(Counting(), tokenizer.encode("All"), ["never"])  # type: ignore[arg-type]
    for token in tokenizer.encode("All human beings are born free. ") * 40:
        watch.found(token)
    assert max(decoded) < 80  # tokens, of a text of more than a thousand characters
