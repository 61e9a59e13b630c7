"""Which tokens are new: characters that languages need, then what is learnt on top of the old segmentation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from megatron.tokenizer.base import TokenizerError
from megatron.tokenizer.extend.grow import grow
from megatron.tokenizer.extend.old import OldTokenizer, without
from megatron.tokenizer.extend.words import WordCounts, weighed
from megatron.utils.log import counter, get_logger

Text = TypeVar("Text", str, bytes)

_ROUNDS = 8
_logger = get_logger(__name__)


@dataclass(frozen=True)
class Lesson(Generic[Text]):
    """What is learnt from.

    Attributes:
        words: distinct words as symbols.
        weights: int64 ``[words]``.
        texts: of each symbol: the old tokens, then the new characters.
        characters: the new characters, as tokens.
    """

    words: Sequence[Sequence[int]]
    weights: npt.NDArray[np.int64]
    texts: Sequence[Text]
    characters: Sequence[Text]


@dataclass(frozen=True)
class Learnt(Generic[Text]):
    """The new tokens in the order of their ids, and how many were dropped on the way, by reason."""

    tokens: Sequence[Text]
    num_characters: int
    dropped: dict[str, int]


def choose_characters(
    old: OldTokenizer[Text],
    counts: Sequence[WordCounts],
    shares: Sequence[float],
    *,
    coverage: float,
    is_allowed: Callable[[str], bool],
) -> list[str]:
    """Return the unknown characters that corpora need to have this part of their text covered, the weightiest first."""
    weights: dict[str, float] = defaultdict(float)
    for count, share in zip(counts, shares, strict=True):
        total, seen = count.characters.total(), 0
        needed: list[str] = []
        for character, times in sorted(count.characters.items(), key=lambda item: (-item[1], item[0])):
            if seen >= coverage * total:
                break
            seen += times
            needed.append(character)
        for character in old.unknown_characters(needed):
            weights[character] += share * count.characters[character] / total
    allowed = {character: weight for character, weight in weights.items() if weight > 0 and is_allowed(character)}
    return sorted(allowed, key=lambda character: (-allowed[character], character))


def prepare(
    old: OldTokenizer[Text],
    counts: Sequence[WordCounts],
    shares: Sequence[float],
    characters: Sequence[str],
    *,
    is_allowed: Callable[[str], bool],
) -> Lesson[Text]:
    """Cut the words of all corpora as the old tokenizer does.

    Args:
        old: the tokenizer.
        counts: of each corpus.
        shares: of each corpus.
        characters: those that become tokens.
        is_allowed: whether a word may be learnt from.
    """
    symbols = {character: number for number, character in enumerate(characters, start=len(old.texts))}

    def parts() -> Iterator[tuple[float, list[list[int]], list[int]]]:
        for count, share in zip(counts, shares, strict=True):
            rows, times = [], []
            for word, number in count.words.items():
                if is_allowed(old.readable(word)):
                    cut = old.symbols(word, symbols)
                    rows += cut
                    times += [number] * len(cut)
            yield share, rows, times

    words, weights = weighed(parts())
    tokens = [old.token_of(character) for character in characters]
    return Lesson(words, weights, list(old.texts) + tokens, tokens)


def learn(
    old: OldTokenizer[Text],
    lesson: Lesson[Text],
    *,
    forbidden: Collection[Text],
    is_allowed: Callable[[Text], bool],
    count: int,
    size_multiple: int,
    title: str = "learn",
) -> Learnt[Text]:
    """Return ``count`` new tokens, behind a bar with this title, that are all found again in their own text.

    A token can be learnt inside of a word and yet not be found alone: its text is then cut in another way. Such tokens
    are dropped, with what can be made of them only, and more are learnt instead.

    Raises:
        TokenizerError: the texts do not give that many; says how many they give.
    """
    characters: list[Text] = list(lesson.characters[:count])
    banned: set[Text] = set(forbidden)
    banned.update(old.reserved)
    dropped = defaultdict[str, int](int)
    tokens: list[Text] = []
    for _ in range(_ROUNDS):
        spare = count // 50 + 8
        found: list[Text] = _grown(old, lesson, banned, count - len(characters) + spare, title)
        tokens = without(characters + found, [token for token in found if not is_allowed(token)])
        dropped["other scripts"] += (refused := len(characters) + len(found) - len(tokens))
        while gone := old.unreachable(tokens):
            dropped["unreachable"] += len(gone)
            tokens = without(tokens, gone)
        if len(tokens) >= count:
            return Learnt(tokens[:count], len(characters), dict(dropped))
        if not (again := set(found) - set(tokens)):
            break
        banned |= again
        _logger.info("%d tokens dropped (%d of them for their script); learning others", len(again), refused)
    size = old.tokenizer.vocab_size
    fitting = max((size + len(tokens)) // size_multiple * size_multiple - size, 0)
    advice = f"--new-tokens {fitting} or less, or more text" if fitting else "more text, or a smaller --size-multiple"
    raise TokenizerError(f"the texts give {len(tokens):,} new tokens, not {count:,}: give {advice}")


def _grown(
    old: OldTokenizer[Text], lesson: Lesson[Text], forbidden: Collection[Text], count: int, title: str
) -> list[Text]:
    done = len(lesson.characters)
    with counter(done + count, description=f"{title}, some to spare", unit="token") as advance:
        advance(done, "")
        return grow(
            lesson.words,
            lesson.weights,
            lesson.texts,
            forbidden=forbidden,
            count=count,
            longest=old.longest,
            advance=lambda more: advance(more, ""),
        )
