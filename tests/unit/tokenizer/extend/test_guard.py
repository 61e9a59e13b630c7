"""Whatever the pivot texts are, they keep their ids, even where they are of the languages that are learnt."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.tokenizer.extend.byte_level_old import ByteLevelOld
from megatron.tokenizer.extend.learn import choose_characters, learn, prepare
from megatron.tokenizer.extend.sentencepiece_old import SentencePieceOld
from megatron.tokenizer.extend.source import Source, in_text
from megatron.tokenizer.extend.words import count_words

WORDS = [
    "όλοι", "οι", "άνθρωποι", "γεννιούνται", "ελεύθεροι", "και", "ίσοι", "մարդիկ", "ծնվում", "են", "ազատ", "syntyvät",
    "vapaina", "ꯀꯁ", "equal", "3.14", "(και)",
]  # fmt: skip
PIVOTS = st.lists(
    st.builds(str.join, st.sampled_from(["", " "]), st.lists(st.sampled_from(WORDS), max_size=6)),
    max_size=4,
)


@functools.lru_cache
def old_tokenizer(path: Path, kind: str) -> SentencePieceOld | ByteLevelOld:
    return (SentencePieceOld if kind == "sp" else ByteLevelOld)(path, longest=16)


@pytest.mark.parametrize("kind", ["sp", "ranks"])
@given(pivots=PIVOTS)
@settings(deadline=None, max_examples=15)
def test_pivots_keep_their_ids(
    sp_model: Path, ranks_file: Path, sources: list[Source], kind: str, pivots: list[str]
) -> None:
    old = old_tokenizer(sp_model if kind == "sp" else ranks_file, kind)
    forms = [form for line in pivots for form in in_text(line)]
    forbidden = old.joined(forms)
    counts = [count_words([*source.read(), " ".join(WORDS)], old.words, max_words=100) for source in sources[2:]]
    shares = [1 / len(counts)] * len(counts)
    characters = choose_characters(
        old, counts, shares, coverage=1.0, is_allowed=lambda character: old.token_of(character) not in forbidden
    )
    lesson = prepare(old, counts, shares, characters, is_allowed=lambda word: True)
    count = len(characters) + 60
    learnt = learn(old, lesson, forbidden=forbidden, is_allowed=lambda token: True, count=count, size_multiple=1)
    assert len(set(learnt.tokens)) == len(learnt.tokens) == count
    assert not set(learnt.tokens) & set(old.texts)
    with tempfile.TemporaryDirectory() as folder:
        new = old.write(learnt.tokens, Path(folder), prepend_bos=False)
    for text in [*forms, "\n".join(pivots)]:
        assert list(new.encode(text)) == list(old.tokenizer.encode(text))


def test_without_the_guard_they_would_not(sp_model: Path, sources: list[Source]) -> None:
    old = old_tokenizer(sp_model, "sp")
    counts = [count_words(source.read(), old.words, max_words=100) for source in sources[2:]]
    shares = [0.25] * 4
    characters = choose_characters(old, counts, shares, coverage=1.0, is_allowed=lambda character: True)
    lesson = prepare(old, counts, shares, characters, is_allowed=lambda word: True)
    learnt = learn(old, lesson, forbidden=(), is_allowed=lambda token: True, count=200, size_multiple=1)
    with tempfile.TemporaryDirectory() as folder:
        new = old.write(learnt.tokens, Path(folder), prepend_bos=False)
    text = next(iter(sources[3].read()))
    assert new.encode(text) != old.tokenizer.encode(text)
