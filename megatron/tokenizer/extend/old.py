"""What extending needs of the tokenizer that is extended, whatever its kind."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from megatron.tokenizer.base import Tokenizer

Text = TypeVar("Text", str, bytes)
Encode = Callable[[str], Sequence[int]]

INSTALL_TRANSFORMERS = "pip install transformers==5.23.0"


class OldTokenizer(Protocol[Text]):
    """A tokenizer that is to be extended.

    Words are strings in the vocabulary's own spelling: with ``▁`` for a space, or in the letters of bytes. Symbols are
    numbers of ``texts``.

    Attributes:
        tokenizer: itself.
        texts: the text of each token that text can become, in the order of learning.
        reserved: the texts of all other tokens, such as ``<s>``; no new token can have one.
    """

    tokenizer: Tokenizer
    texts: Sequence[Text]
    reserved: Collection[Text]

    @property
    def longest(self) -> int:
        """Characters or bytes of the longest token to learn."""

    def words(self, text: str) -> Iterable[str]:
        """Return the words of a text in which new tokens may lie."""

    def readable(self, word: str) -> str:
        """Return the text of a word."""

    def unknown_characters(self, characters: Iterable[str]) -> list[str]:
        """Return those of some characters that could become tokens of their own, which the vocabulary has not."""

    def symbols(self, word: str, new_characters: Mapping[str, int]) -> list[list[int]]:
        """Cut a word as the old tokenizer does.

        Args:
            word: see :meth:`words`.
            new_characters: the symbols of characters that become tokens; other unknown ones cut the word in parts.
        """

    def joined(self, lines: Iterable[str]) -> set[Text]:
        """Return what must not become a token lest one of these lines changes: all that neighbours join to."""

    def token_of(self, text: str) -> Text:
        """Return the token that has this text."""

    def show(self, token: Text) -> str:
        """Return a token for people to read."""

    def surface(self, token: Text) -> str | None:
        """Return the text of a token, None for one that has no text of its own: a part of a character."""

    def spellings(self, tokens: Sequence[Text]) -> list[tuple[int, ...]]:
        """Return the old ids of each token's text."""

    def unreachable(self, tokens: Sequence[Text]) -> list[Text]:
        """Return the tokens that their own text does not become in the vocabulary extended by all of them."""

    def not_found(self, folder: Path, tokens: Sequence[Text]) -> int:
        """Return how many tokens their own text does not become, by the files of a folder."""

    def write(self, tokens: Sequence[Text], folder: Path, *, prepend_bos: bool) -> Tokenizer:
        """Write the extended tokenizer; the tokens get the ids from ``vocab_size`` on, in order.

        Returns:
            It, loaded again.
        """

    def libraries(self, folder: Path, tokens: Sequence[Text]) -> Mapping[str, Encode]:
        """Return what encodes with the files of a folder, by library; all must agree."""

    def kept(self, folder: Path) -> int:
        """Return how many old tokens have another id or text in the files of a folder."""


def transformers_encode(folder: Path) -> Encode | None:
    """Return how transformers' ``AutoTokenizer`` encodes with the files of a folder; None without transformers."""
    try:
        from transformers import AutoTokenizer, PreTrainedTokenizerFast
    except ImportError:
        return None
    if (folder / "tokenizer_config.json").is_file():
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    else:  # nothing says of which class it is
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))

    def encode(text: str) -> Sequence[int]:
        ids: Sequence[int] = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return ids

    return encode


def all_joined(rows: Iterable[Sequence[int]], texts: Mapping[int, Text] | Sequence[Text]) -> set[Text]:
    """Return the concatenation of every two neighbours in rows of symbols; -1 joins with nothing."""
    pairs: set[tuple[int, int]] = set()
    for row in rows:
        pairs.update(itertools.pairwise(row))
    return {texts[left] + texts[right] for left, right in pairs if left >= 0 and right >= 0}


def without(tokens: Sequence[Text], dropped: Collection[Text]) -> list[Text]:
    """Return the tokens that are not among some others, in order."""
    gone = frozenset(dropped)
    return [token for token in tokens if token not in gone]
