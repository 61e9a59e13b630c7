"""Texts of many prompts at once: each is what its prompt, and its seed, give alone."""

from __future__ import annotations

import logging
import random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from megatron.config.architecture import Architecture
from megatron.generate.cache import KeyValueCache
from megatron.generate.options import GenerationOptions
from megatron.generate.prompts import continue_all
from megatron.generate.sampling import Sampling
from megatron.generate.stops import added_text, before_stop
from megatron.generate.writer import TextWriter
from megatron.model.llama import Llama
from megatron.parallel.engine import Engine
from megatron.tokenizer.base import Tokenizer

SHAPE = Architecture(
    vocab_size=300,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=96,
    initializer_range=0.3,
)
SAME_MODEL = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
RANDOM = Sampling(temperature=1.0, top_p=0.9)


@pytest.fixture(scope="session")
def model() -> Llama:
    """Double precision: sums in another order then never make another choice."""
    model = Llama(SHAPE).double()
    model.init_weights(seed=3)
    return model.eval()


def written_plainly(model: Llama, prompt: list[int], *, count: int, end_ids: tuple[int, ...] = ()) -> list[int]:
    """Continue ids greedily with nothing kept between tokens."""
    new: list[int] = []
    while len(new) < count:
        with torch.no_grad():
            token = int(model(torch.tensor([[*prompt, *new]]))[0, -1].argmax())
        if token in end_ids:
            break
        new.append(token)
    return new


def some_prompts(*lengths: int, seed: int = 0) -> list[list[int]]:
    chance = random.Random(seed)
    return [[chance.randrange(3, SHAPE.vocab_size) for _ in range(length)] for length in lengths]


def writer(model: Llama, tokenizer: Tokenizer | None = None, **settings: Any) -> TextWriter:
    engine = Engine.alone(model, dtype=model.head_weight.dtype)
    return TextWriter(engine, tokenizer, **({"first_id": 1, "end_ids": [2]} | settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("new", [[], [3]])
def test_a_cache_grows_and_forgets(new: list[int]) -> None:
    chance = torch.Generator().manual_seed(0)
    cache, texts = KeyValueCache(places=3), [torch.randn(length, 3, 2, 8, generator=chance) for length in (70, 2, 9)]
    cache.begin([70, 2, 9], device=torch.device("cpu"))
    cache.attend(0, *torch.cat(texts).transpose(0, 1).unsqueeze(1))
    cache.drop(0)  # the last text takes its place
    kept = [texts[2], texts[1]]
    for _ in range(120):  # past what there was room for
        positions = cache.begin(new, device=torch.device("cpu"))
        assert positions.tolist() == [len(kept[0]), len(kept[1]), *range(sum(new))]
        tokens = torch.randn(2 + sum(new), 3, 2, 8, generator=chance)
        kept = [torch.cat((text, tokens[row : row + 1])) for row, text in enumerate(kept)]
        mixed = cache.attend(0, *tokens.transpose(0, 1).unsqueeze(1))[0]
        for row, text in enumerate(kept):
            query, key, value = text.permute(1, 2, 0, 3)
            wanted = torch.nn.functional.scaled_dot_product_attention(query[:, -1:], key, value)
            torch.testing.assert_close(mixed[row], wanted[:, 0], rtol=0, atol=1e-6)
        if new:
            query, key, value = tokens[2:].permute(1, 2, 0, 3)
            wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            torch.testing.assert_close(mixed[2:], wanted.transpose(0, 1), rtol=0, atol=1e-6)
            cache.drop(2)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_greedy_texts_are_those_without_a_cache(model: Llama, batch_size: int) -> None:
    prompts = some_prompts(5, 0, 1, 17, 5, 40, 2)
    ends = tuple(range(2, 12))  # many, so that texts end at different times
    texts = writer(model, end_ids=ends, batch_size=batch_size).write_ids(prompts, GenerationOptions(30))
    for prompt, text in zip(prompts, texts, strict=True):
        assert text.tokens == written_plainly(model, [1, *prompt], count=30, end_ids=ends)
        assert text.stop_reason == ("length" if len(text.tokens) == 30 else "end")
    assert {text.stop_reason for text in texts} == {"end", "length"}


@SAME_MODEL
@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=7),
    batch_size=st.integers(1, 5),
    seed=st.integers(0, 1000),
    sampling=st.sampled_from([Sampling(), RANDOM, Sampling(1.0), Sampling(2.0, top_k=5)]),
)
def test_a_text_depends_on_its_prompt_and_seed_alone(
    model: Llama, lengths: list[int], batch_size: int, seed: int, sampling: Sampling
) -> None:
    prompts, ends = some_prompts(*lengths, seed=seed), range(2, 20)
    options = GenerationOptions(12, sampling=sampling, seed=seed)
    together = writer(model, end_ids=ends, batch_size=batch_size).write_ids(prompts, options)
    for index, prompt in enumerate(prompts):
        alone = GenerationOptions(12, sampling=sampling, seed=seed + index)
        assert writer(model, end_ids=ends).write_ids([prompt], alone) == [together[index]]


def test_single_precision_chooses_the_same_tokens() -> None:
    model = Llama(SHAPE)
    model.init_weights(seed=3)
    prompts = some_prompts(9, 3, 20)
    texts = writer(model, batch_size=2).write_ids(prompts, GenerationOptions(40))
    assert [text.tokens for text in texts] == [
        written_plainly(model, [1, *prompt], count=40, end_ids=(2,)) for prompt in prompts
    ]


def test_random_texts_differ_between_seeds_and_are_the_same_again(model: Llama) -> None:
    [prompt] = some_prompts(6)
    options = GenerationOptions(20, sampling=RANDOM, seed=4)
    texts = writer(model).write_ids([prompt] * 4, options)
    assert len({tuple(text.tokens) for text in texts}) == 4
    assert writer(model, batch_size=1).write_ids([prompt] * 4, options) == texts


def test_stop_strings_end_texts(model: Llama, tokenizer: Tokenizer) -> None:
    prompts = [[token for token in prompt if token < 250] for prompt in some_prompts(4, 9, 0)]
    whole = writer(model, tokenizer, end_ids=[]).write(prompts, GenerationOptions(40))
    stops = tuple(text.text[len(text.text) // 2 :][:3] for text in whole)
    for prompt, text, cut in zip(
        prompts, whole, writer(model, tokenizer, end_ids=[]).write(prompts, GenerationOptions(40, stops)), strict=True
    ):
        assert cut.stop_reason == "stop" and cut.text == before_stop(text.text, stops)
        assert cut.num_tokens < text.num_tokens == 40 and text.stop_reason == "length"
        [again] = writer(model, tokenizer, end_ids=[]).write_ids([prompt], GenerationOptions(40, stops))
        assert len(again.tokens) == cut.num_tokens
        assert before_stop(added_text(tokenizer, prompt, again.tokens), stops) == cut.text
        assert before_stop(added_text(tokenizer, prompt, again.tokens[:-1]), stops) is None


def test_a_text_fills_the_positions_exactly(model: Llama) -> None:
    room = SHAPE.max_position_embeddings
    prompts = some_prompts(room - 11, 3)
    [longest, _] = writer(model, end_ids=[]).write_ids(prompts, GenerationOptions(10))
    assert longest.tokens == written_plainly(model, [1, *prompts[0]], count=10)
    words = rf"2 of 3 prompts.*longest is prompt 2.* {room - 9} tokens and 10.*{room} positions"
    with pytest.raises(ValueError, match=words):
        writer(model).write_ids(some_prompts(3, room - 10, room - 9), GenerationOptions(10))


def test_nothing_to_write(model: Llama) -> None:
    assert writer(model).write_ids([], GenerationOptions(10)) == []


def test_weights_are_as_before_also_after_an_error(model: Llama) -> None:
    model = Llama(SHAPE)
    model.init_weights(seed=3)
    before = {name: (id(weight), weight.clone()) for name, weight in model.named_parameters()}
    engine = Engine.alone(model, dtype=torch.bfloat16)
    TextWriter(engine, None, first_id=1, end_ids=[2]).write_ids([[5, 6]], GenerationOptions(5))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="on the way"), engine.reading():
        assert model.head_weight.dtype == torch.bfloat16
        raise RuntimeError("on the way")
    for name, weight in model.named_parameters():
        assert id(weight) == before[name][0] and torch.equal(weight, before[name][1])
    assert not any("forward" in vars(module) for module in model.modules())


def test_the_speed_is_shown(model: Llama, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="megatron"):
        writer(model, end_ids=[]).write_ids(some_prompts(3, 4), GenerationOptions(6), show_progress=True)
    assert "2 texts, 12 tokens in" in caplog.text and "tokens/s" in caplog.text


def test_records_keep_the_order_and_the_seed_of_each_text(model: Llama, tokenizer: Tokenizer) -> None:
    options = GenerationOptions(5, sampling=RANDOM, seed=7)
    # Prompts of one character keep within the small vocabulary of the model.
    prompts = [prompt for prompt in ("a", "", "e") if max(tokenizer.encode(prompt), default=0) < SHAPE.vocab_size]
    records = continue_all(writer(model, tokenizer), tokenizer, prompts, options, num_samples=2, show_progress=False)
    assert [record["prompt"] for record in records] == [prompt for prompt in prompts for _ in range(2)]
    last = GenerationOptions(5, sampling=RANDOM, seed=7 + len(records) - 1)
    [again] = writer(model, tokenizer).write([tokenizer.encode(prompts[-1])], last)
    assert records[-1] == {
        "prompt": prompts[-1], "output": again.text, "stop_reason": again.stop_reason, "tokens": again.num_tokens,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "words"), [({"maximum_tokens": 0}, "maximum_tokens = 0"), ({"maximum_tokens": 1, "stop": ("",)}, "empty")]
)
def test_impossible_options_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GenerationOptions(**wrong)


def test_no_texts_at_a_time_are_refused(model: Llama) -> None:
    with pytest.raises(ValueError, match="batch_size = 0"):
        writer(model, batch_size=0)
