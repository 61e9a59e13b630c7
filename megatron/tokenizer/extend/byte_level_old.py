"""Byte-level BPE of Llama 3's kind as what is extended: new ids follow the special tokens', and merge last."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tiktoken
import tokenizers

from megatron.tokenizer.base import Tokenizer, TokenizerError, read_model_file
from megatron.tokenizer.export import SpecialTokens, merges_of, write_hf_files
from megatron.tokenizer.extend.byte_level_content import bytes_of, read_content, spelled
from megatron.tokenizer.extend.old import Encode, all_joined, transformers_encode
from megatron.tokenizer.extend.words import has_letter
from megatron.tokenizer.load import load_for_text, tokenizer_type_of
from megatron.utils.files import write_bytes, write_text

_BYTES_OF_A_LETTER = 3
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


class ByteLevelOld:
    """See :class:`megatron.tokenizer.extend.old.OldTokenizer`.

    Args:
        path: Llama 3's ``tokenizer.model``, or a ``tokenizer.json`` of the same kind, or its folder.
        tokenizer: it, if it is loaded.
        longest: a third of the bytes of the longest token to learn: letters that lack tokens take three, mostly.

    Raises:
        TokenizerError: it is of another kind.
    """

    def __init__(self, path: Path, *, tokenizer: Tokenizer | None = None, longest: int) -> None:
        path = path / "tokenizer.json" if path.is_dir() else path
        self._path = path
        self._is_json = path.name.endswith(".json")
        self.tokenizer: Tokenizer = tokenizer or load_for_text(*tokenizer_type_of(path))
        data = read_model_file(path) if self._is_json else self.tokenizer.tokenizer_json().encode()
        self._content = read_content(data, path)
        self.longest = _BYTES_OF_A_LETTER * longest
        self._first = self.tokenizer.vocab_size
        self.texts: Sequence[bytes] = list(self._content.ranks)
        self.reserved: Collection[bytes] = {text.encode("utf-8") for text in self._content.added}
        self._ids = list(self._content.ranks.values())
        self._symbol_of = {number: symbol for symbol, number in enumerate(self._ids)}
        self._tokenizer = tokenizers.Tokenizer.from_str(data.decode("utf-8"))
        self._model: Any = self._tokenizer.model
        if wrong := [text for text in self._content.added if len(self._cut(text)) == 1]:
            raise TokenizerError(
                f"{path}: the added token {wrong[0]!r} is a single word of text, so text with it would become it; "
                "rename it"
            )

    def words(self, text: str) -> Iterator[str]:
        """Yield the words that the tokenizer's own pattern cuts, in the letters of their bytes."""
        return (word for word, (start, end) in self._cut(text) if has_letter(text[start:end]))

    def readable(self, word: str) -> str:
        """Return the text of a word."""
        return bytes_of(word).decode("utf-8", errors="replace")

    def unknown_characters(self, characters: Iterable[str]) -> list[str]:
        """Return none: bytes spell every character."""
        return []

    def symbols(self, word: str, new_characters: Mapping[str, int]) -> list[list[int]]:
        """Cut a word into tokens."""
        return [[self._symbol_of[token.id] for token in self._model.tokenize(word)]]

    def joined(self, lines: Iterable[str]) -> set[bytes]:
        """Return what neighbours join to, and whole words: a word that is a token is never cut."""
        words = {word for line in lines for word, _ in self._cut(line)}
        whole: set[bytes] = set()

        def rows() -> Iterator[list[int]]:
            for word in words:
                row = self.symbols(word, {})[0]
                if len(row) > 1:
                    whole.add(bytes_of(word))
                    yield row

        return all_joined(rows(), self.texts) | whole

    def token_of(self, text: str) -> bytes:
        """Return the bytes."""
        return text.encode("utf-8")

    def show(self, token: bytes) -> str:
        """Return the text of a token; what is a part of a character is shown as bytes."""
        return token.decode("utf-8", errors="backslashreplace")

    def surface(self, token: bytes) -> str | None:
        """Return the text, None for a part of a character."""
        try:
            return token.decode("utf-8")
        except UnicodeDecodeError:
            return None

    def spellings(self, tokens: Sequence[bytes]) -> list[tuple[int, ...]]:
        """Return the old ids of each token's bytes."""
        return [tuple(token.id for token in self._model.tokenize(spelled(text))) for text in tokens]

    def unreachable(self, tokens: Sequence[bytes]) -> list[bytes]:
        """Return the tokens that no merges lead to from their bytes; as whole words they would all be found."""
        ranks = {**self._content.ranks, **{text: number for number, text in enumerate(tokens, start=self._first)}}
        # Only what is in the text of a new token can play a part in it.
        parts = {
            part
            for text in tokens
            for start in range(len(text))
            for end in range(start + 1, len(text) + 1)
            if (part := text[start:end]) in ranks
        }
        vocab = {part: ranks[part] for part in parts}
        merges = [(spelled(left), spelled(right)) for left, right in merges_of(vocab)]
        model: Any = tokenizers.models.BPE({spelled(part): number for part, number in vocab.items()}, merges)
        return self._not_found(model, tokens)

    def not_found(self, folder: Path, tokens: Sequence[bytes]) -> int:
        """Ask the merges of the ``tokenizer.json`` that was written."""
        model: Any = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).model
        model.ignore_merges = False
        return len(self._not_found(model, tokens))

    def write(self, tokens: Sequence[bytes], folder: Path, *, prepend_bos: bool) -> Tokenizer:
        """Write ``tokenizer.json``, and the settings beside it: copied, or made for Llama 3's own file."""
        if self._is_json:
            folder.mkdir(parents=True, exist_ok=True)
            for name in _SETTINGS:
                if (path := self._path.with_name(name)).is_file():
                    write_bytes(folder / name, path.read_bytes())
            write_text(folder / "tokenizer.json", self._content.extended(tokens))
        else:
            names = {number: text for text, number in self._content.added.items()}
            bos = None if self.tokenizer.bos_id is None else names[self.tokenizer.bos_id]
            special = SpecialTokens(bos=bos, eod=names[self.tokenizer.eod_id], unk=None)
            write_hf_files(folder, self._content.extended(tokens), tokens=special, prepend_bos=prepend_bos)
        return load_for_text("HFTokenizer", folder / "tokenizer.json")

    def libraries(self, folder: Path, tokens: Sequence[bytes]) -> Mapping[str, Encode]:
        """Return tiktoken (its ranks leave out the special ids), tokenizers and, if it is installed, transformers."""
        ranks = {
            **self._content.ranks,
            **{token: number for number, token in enumerate(tokens, start=self._first)},
        }
        pattern = self._content.pattern
        encoding = tiktoken.Encoding("extended", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        fast = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        fast.encode_special_tokens = True
        found: dict[str, Encode] = {
            "tiktoken": encoding.encode_ordinary,
            "tokenizers": lambda text: fast.encode(text, add_special_tokens=False).ids,
        }
        if (encode := transformers_encode(folder)) is not None:
            found["transformers"] = encode
        return found

    def kept(self, folder: Path) -> int:
        """Return how many old tokens, added ones too, are not at the same id."""
        vocab = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab(with_added_tokens=True)
        old = {spelled(text): number for text, number in self._content.ranks.items()} | dict(self._content.added)
        return sum(vocab.get(text) != number for text, number in old.items())

    def _not_found(self, model: Any, tokens: Sequence[bytes]) -> list[bytes]:
        return [
            text
            for number, text in enumerate(tokens, start=self._first)
            if [token.id for token in model.tokenize(spelled(text))] != [number]
        ]

    def _cut(self, text: str) -> list[tuple[str, tuple[int, int]]]:
        cut: list[tuple[str, tuple[int, int]]] = self._tokenizer.pre_tokenizer.pre_tokenize_str(text)
        return cut
