"""SentencePiece BPE models as what is extended: pieces are appended, and score less than every old one."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import tokenizers

from megatron.tokenizer.base import Tokenizer, TokenizerError, read_model_file
from megatron.tokenizer.export import SPACE
from megatron.tokenizer.extend.old import Encode, all_joined, transformers_encode
from megatron.tokenizer.extend.words import words_of_one_script
from megatron.tokenizer.sentencepiece_tokenizer import SentencePieceTokenizer
from megatron.utils.files import write_bytes

_BATCH = 4096  # lines that are encoded together


class SentencePieceOld:
    """See :class:`megatron.tokenizer.extend.old.OldTokenizer`.

    Args:
        path: the ``tokenizer.model``.
        tokenizer: it, if it is loaded.
        longest: characters of the longest token to learn.

    Raises:
        TokenizerError: it is no SentencePiece BPE model with byte fallback that ``tokenizer.json`` can express.
    """

    def __init__(self, path: Path, *, tokenizer: Tokenizer | None = None, longest: int) -> None:
        self.tokenizer: Tokenizer = tokenizer or SentencePieceTokenizer(path)
        self.tokenizer.tokenizer_json()  # raises for models whose merges are not only those of pieces
        self.longest = longest
        self._model = read_model_file(path)
        self._path = path
        proto = _schema().ModelProto.FromString(self._model)
        if not proto.trainer_spec.byte_fallback:
            raise TokenizerError(
                f"{path}: has no byte fallback, so old tokens cannot spell what is new, and no rows can be made of "
                "theirs; give a model that was trained with byte_fallback, as Llama 2's was"
            )
        normal = _schema().ModelProto.SentencePiece.NORMAL
        pieces = [(number, piece) for number, piece in enumerate(proto.pieces) if piece.type == normal]
        pieces.sort(key=lambda entry: (-entry[1].score, entry[0]))
        self._ids = [number for number, _ in pieces]
        self.texts: Sequence[str] = [piece.piece for _, piece in pieces]
        self.reserved: Collection[str] = {piece.piece for piece in proto.pieces if piece.type != normal}
        self._symbol_of = {number: symbol for symbol, number in enumerate(self._ids)}
        self._least_score = min((piece.score for _, piece in pieces), default=0.0)
        self._characters = {text for text in self.texts if len(text) == 1}
        self._all_pieces = {piece.piece for piece in proto.pieces}
        self._starts_with_space = proto.normalizer_spec.add_dummy_prefix
        self._processor = _processor(self._model)
        self._as_written = sentencepiece.SentencePieceProcessor(model_proto=self._model)

    def words(self, text: str) -> Iterator[str]:
        """Yield runs of letters of one script with their spaces."""
        return words_of_one_script(f" {text}" if self._starts_with_space else text)

    def readable(self, word: str) -> str:
        """Return the word with a real space."""
        return word.replace(SPACE, " ")

    def unknown_characters(self, characters: Iterable[str]) -> list[str]:
        """Return characters that are no pieces and may be: not spaces, controls, private or unassigned ones."""
        return [
            character
            for character in characters
            if character not in self._all_pieces and unicodedata.category(character)[0] not in "CZ"
        ]

    def symbols(self, word: str, new_characters: Mapping[str, int]) -> list[list[int]]:
        """Cut a word into pieces; characters that are no pieces merge with nothing, as in SentencePiece."""
        parts: list[list[int]] = [[]]
        for is_known, group in itertools.groupby(word, key=self._characters.__contains__):
            if is_known:
                ids = self._processor.encode("".join(group).replace(SPACE, " "), out_type=int)
                parts[-1] += [self._symbol_of[number] for number in ids]
                continue
            for character in group:
                if character in new_characters:
                    parts[-1].append(new_characters[character])
                else:
                    parts.append([])
        return [part for part in parts if part]

    def joined(self, lines: Iterable[str]) -> set[str]:
        """Return what neighbours join to, and the characters that have no piece."""
        characters: set[str] = set()

        def rows() -> Iterator[list[int]]:
            left = iter(lines)
            while batch := list(itertools.islice(left, _BATCH)):
                characters.update(*batch)
                for ids in self._as_written.encode(batch, out_type=int):
                    yield [self._symbol_of.get(number, -1) for number in ids]

        return all_joined(rows(), self.texts) | (characters - self._characters)

    def token_of(self, text: str) -> str:
        """Return the piece."""
        return text.replace(" ", SPACE)

    def show(self, token: str) -> str:
        """Return the piece."""
        return token

    def surface(self, token: str) -> str:
        """Return the piece with real spaces."""
        return self.readable(token)

    def spellings(self, tokens: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the old ids of each piece's text, without a space that the piece has not."""
        return [tuple(ids) for ids in self._processor.encode([self.readable(token) for token in tokens], out_type=int)]

    def unreachable(self, tokens: Sequence[str]) -> list[str]:
        """Return the pieces that SentencePiece does not make of their text."""
        return self._not_found(self._extended(tokens), tokens)

    def not_found(self, folder: Path, tokens: Sequence[str]) -> int:
        """Ask the ``tokenizer.model`` that was written."""
        return len(self._not_found((folder / "tokenizer.model").read_bytes(), tokens))

    def write(self, tokens: Sequence[str], folder: Path, *, prepend_bos: bool) -> Tokenizer:
        """Write ``tokenizer.model`` and the Hugging Face files."""
        write_bytes(folder / "tokenizer.model", self._extended(tokens))
        tokenizer = SentencePieceTokenizer(folder / "tokenizer.model")
        tokenizer.save(folder, prepend_bos=prepend_bos)
        return tokenizer

    def libraries(self, folder: Path, tokens: Sequence[str]) -> Mapping[str, Encode]:
        """Return SentencePiece, tokenizers and, if it is installed, transformers."""
        processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        fast = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        fast.encode_special_tokens = True
        found: dict[str, Encode] = {
            "sentencepiece": lambda text: processor.encode(text, out_type=int),
            "tokenizers": lambda text: fast.encode(text, add_special_tokens=False).ids,
        }
        if (encode := transformers_encode(folder)) is not None:
            found["transformers"] = encode
        return found

    def kept(self, folder: Path) -> int:
        """Return how many old pieces are not the same, byte for byte, at the same id."""
        old = _schema().ModelProto.FromString(self._model).pieces
        new = _schema().ModelProto.FromString((folder / "tokenizer.model").read_bytes()).pieces
        fast = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        return sum(
            piece.SerializeToString() != new[number].SerializeToString() or fast.id_to_token(number) != piece.piece
            for number, piece in enumerate(old)
        )

    def _not_found(self, model: bytes, tokens: Sequence[str]) -> list[str]:
        found = _processor(model).encode([self.readable(token) for token in tokens], out_type=int)
        first = self.tokenizer.vocab_size
        return [token for number, (token, ids) in enumerate(zip(tokens, found, strict=True)) if ids != [first + number]]

    def _extended(self, tokens: Sequence[str]) -> bytes:
        """Return the model file: the old one's bytes, then the new pieces, which is how protobuf appends to a list."""
        # Llama 2's lowest score is -1e9, where the next number in single precision is 64 away.
        step = max(1.0, 2 * float(np.spacing(np.float32(abs(self._least_score)))))
        scores = self._least_score - step * np.arange(len(tokens) + 1)
        if not np.all(np.diff(scores.astype(np.float32)) < 0):
            raise TokenizerError(
                f"{self._path}: its lowest score, {self._least_score:g}, leaves no room for {len(tokens)} lower ones "
                "in single precision; scale its scores down"
            )
        more = _schema().ModelProto()
        for token, score in zip(tokens, scores[1:], strict=True):
            more.pieces.add(piece=token, score=float(score))
        data: bytes = self._model + more.SerializeToString()
        return data


def _processor(model: bytes) -> Any:
    """Return a processor that puts no space before a text; with one, hardly a piece would be found by its text."""
    proto = _schema().ModelProto.FromString(model)
    proto.normalizer_spec.add_dummy_prefix = False
    return sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())


def _schema() -> Any:
    from sentencepiece import sentencepiece_model_pb2

    return sentencepiece_model_pb2  # generated code, without types
