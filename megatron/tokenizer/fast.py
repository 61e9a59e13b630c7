"""Any of the tokenizers with its batches encoded by gigatoken: the same ids, several times as fast, checked by samples.

gigatoken remembers the ids of every word that it has met. It is tried on difficult texts when it is loaded, and a few
texts of every batch are compared with the tokenizer's own ids while it runs.
"""

from __future__ import annotations

import functools
import mmap
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import xxhash

from megatron.tokenizer.base import Ids, Tokenizer, TokenizerError

_VERSION = "0.10.0"
_INSTALL = f"pip install gigatoken=={_VERSION}"

_CHECKED_FRACTION = 0.01
_CHECKED_CHARACTERS = 100_000  # of one text: books would take the time that is to be saved
_CHECK_KEY = 0x66617374  # another choice than that of the texts to hold out
_HASHED_CHARACTERS = 256
_SHOWN_CHARACTERS = 200

# gigatoken never forgets a word. Text of ever new words (Chinese, say, whose words are clauses) takes up to eight times
# its size, so what has grown by this much is loaded anew; but not too often, since something else may have grown.
_GROWTH_BYTES = 512 << 20
_GROWTH_CHARACTERS = 16_000_000
_GROWTH_BYTES_PER_CHARACTER = 8  # at most, where the system does not tell how much memory a process takes

# The letters, marks and digits that Unicode 17 added or moved to another class. gigatoken 0.10.0 knows them, tiktoken
# 0.14.0 and tokenizers 0.23.3 know Unicode 16: they disagree on where words end. A test looks at all characters.
_UNICODE_17 = (
    *((0x0295, 0x0295), (0x088F, 0x088F), (0x0C5C, 0x0C5C), (0x0CDC, 0x0CDC), (0x1ACF, 0x1AEB), (0xA7CE, 0xA7D4)),
    *((0xA7F1, 0xA7F1), (0x10940, 0x10959), (0x10EC5, 0x10EC7), (0x10EFA, 0x10EFB), (0x11B60, 0x11B67)),
    *((0x11DB0, 0x11DE9), (0x16EA0, 0x16ED3), (0x16FF2, 0x16FF6), (0x187F8, 0x187FF), (0x18D09, 0x18DF2)),
    *((0x1E6C0, 0x1E6FF), (0x2B73A, 0x2B73F), (0x2CEA2, 0x2CEAD), (0x323B0, 0x33479)),
)

# What tokenizers differ in: spaces, line ends, digits, contractions, scripts without spaces, joiners, composed letters.
_TRIALS = (
    "",
    " ",
    "\n",
    "   a  b\n\n  c \t d\r\n e   ",
    "Hello, WORLD! It's 12345678 o'clock; we'LL don't -- (really)?\nx_1 = y[0] ** 2.5e-3  # $9",
    "naïve café, cafe\u0301, Ⅷ ½ ² \u00a0x\u3000y\u200by\u200d \u2028",
    "सभी मनुष्यों 人人生而自由，在尊严 มนุษย์ทั้งหลาย 모든 인간은 እኩል ነው። أحرارًا בני אדם ᚠᛇᚻ",
    "😀👍🏽 👨‍👩‍👧 𝔘𝔫𝔦 𠀀 \U00012000 \U000f0000 \ufffd \x00\x01\x7f\x85",
    "<0x0A> <0xE3> <|x|> ▁ ▁▁a Ġ Ċ",
)


class FastTokenizer:
    """A tokenizer whose ``encode_batch`` gives the same ids, faster; all else is the tokenizer's own.

    Of every batch about one text in a hundred, at least one, is also encoded by the tokenizer itself (of a long text
    its beginning), and the ids must be equal. The choice depends on the texts alone. Texts with characters that the
    libraries class differently are encoded by the tokenizer itself.

    Args:
        tokenizer: what to speed up.

    Raises:
        TokenizerError: gigatoken is not installed, or cannot do this tokenizer exactly.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.kind = tokenizer.kind
        self.fingerprint = tokenizer.fingerprint
        self.vocab_size = tokenizer.vocab_size
        self.eod_id = tokenizer.eod_id
        self.bos_id = tokenizer.bos_id
        self.unk_id = tokenizer.unk_id
        try:
            content = orjson.loads(tokenizer.tokenizer_json())
        except TokenizerError as error:
            raise TokenizerError(f"fast cannot be used with this {self.kind}: {error}; run without fast") from error
        added = content.get("added_tokens") or []
        # Without the special tokens, so that their spelling in a text is only text.
        content["added_tokens"] = [token for token in added if not token["special"]]
        self._content = orjson.dumps(content)
        self._engine: Any = None
        self._engine_characters = 0  # encoded since it was loaded
        self._loaded_bytes: int | None = None  # the memory of the process then
        trials = [text for token in added for text in (f"a {token['content']} b", f"a{token['content']}b")]
        self._compare([*_TRIALS, *trials], self._encode([*_TRIALS, *trials]))

    def encode(self, text: str) -> list[int]:
        """Return the ids of one text."""
        return self._tokenizer.encode(text)

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Return the ids of several texts as int32 arrays, on one thread.

        Raises:
            TokenizerError: a text that was checked has other ids than the tokenizer gives.
        """
        if not texts:
            return []
        arrays = self._encode(texts)
        if places := places_of_new_characters(texts):
            own = self._tokenizer.encode_batch([texts[place] for place in places])
            for place, array in zip(places, own, strict=True):
                arrays[place] = array
        self._check(texts, arrays)
        return arrays

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``."""
        return self._tokenizer.decode(ids)

    def byte_token_mask(self) -> npt.NDArray[np.bool_]:
        """Return which ids stand for a part of a character; shape ``[vocab_size]``."""
        return self._tokenizer.byte_token_mask()

    def tokenizer_json(self) -> str:
        """Return the content of ``tokenizer.json``."""
        return self._tokenizer.tokenizer_json()

    def save(self, folder: Path, *, prepend_bos: bool) -> None:
        """Write the files of the tokenizer."""
        self._tokenizer.save(folder, prepend_bos=prepend_bos)

    def _encode(self, texts: Sequence[str]) -> list[Ids]:
        """Encode with gigatoken alone, on this thread."""
        if self._engine is None or self._has_grown():
            self._engine = None  # the old one goes before the new one comes
            self._engine = _load_engine(self._content, self.kind)
            self._engine_characters, self._loaded_bytes = 0, resident_bytes()
        self._engine_characters += sum(map(len, texts))
        # Its encode_batch forgets the words of SentencePiece models after each call, and starts threads if it may.
        encode = self._engine.encode
        return [encode(text).view(np.int32) for text in texts]

    def _has_grown(self) -> bool:
        """Whether gigatoken has taken too much memory since it was loaded."""
        if self._engine_characters < _GROWTH_CHARACTERS:
            return False
        now, before = resident_bytes(), self._loaded_bytes
        if now is None or before is None:
            return self._engine_characters * _GROWTH_BYTES_PER_CHARACTER > _GROWTH_BYTES
        return now - before > _GROWTH_BYTES

    def _check(self, texts: Sequence[str], arrays: Sequence[Ids]) -> None:
        """Compare the ids of a sample of the texts with the tokenizer's own."""
        places = checked_places(texts)
        whole = [place for place in places if len(texts[place]) <= _CHECKED_CHARACTERS]
        self._compare([texts[place] for place in whole], [arrays[place] for place in whole])
        beginnings = [texts[place][:_CHECKED_CHARACTERS] for place in places if len(texts[place]) > _CHECKED_CHARACTERS]
        beginnings = [text for text in beginnings if not places_of_new_characters([text])]
        if beginnings:
            self._compare(beginnings, self._encode(beginnings))

    def _compare(self, texts: Sequence[str], arrays: Sequence[Ids]) -> None:
        for text, ids, expected in zip(texts, arrays, self._tokenizer.encode_batch(texts), strict=True):
            if not np.array_equal(ids, expected):
                shown = repr(text[:_SHOWN_CHARACTERS]) + (" ..." if len(text) > _SHOWN_CHARACTERS else "")
                raise TokenizerError(
                    f"gigatoken and {self.kind} give different ids for the text {shown}: "
                    f"{_first_difference(ids, expected)}; run without fast"
                )


def resident_bytes() -> int | None:
    """Return the memory that this process takes; None where the system does not tell (it is Linux that does)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * mmap.PAGESIZE


def checked_places(texts: Sequence[str]) -> list[int]:
    """Return the places of the texts to check: one in a hundred, at least one, by the hash of how they begin.

    Args:
        texts: not empty.
    """
    beginnings = (text[:_HASHED_CHARACTERS].encode("utf-8", "replace") for text in texts)
    hashes = [xxhash.xxh3_64_intdigest(beginning, seed=_CHECK_KEY) for beginning in beginnings]
    count = max(1, round(len(texts) * _CHECKED_FRACTION))
    places: list[int] = np.argsort(np.array(hashes, dtype=np.uint64), kind="stable")[:count].tolist()
    return places


def places_of_new_characters(texts: Sequence[str]) -> list[int]:
    """Return the places of the texts with characters that gigatoken puts into another class than the tokenizers do."""
    # A look-up of all 16-bit units at once is ten times as fast as a search, and nearly always enough.
    units = np.frombuffer("".join(texts).encode("utf-16-le", "surrogatepass"), dtype="<u2")
    if not _units_of_new_characters()[units].any():
        return []
    new = re.compile(f"[{''.join(f'{chr(first)}-{chr(last)}' for first, last in _UNICODE_17)}]")
    return [place for place, text in enumerate(texts) if new.search(text)]


@functools.cache
def _units_of_new_characters() -> npt.NDArray[np.bool_]:
    """Return which UTF-16 units stand for such characters, or may begin one; shape ``[65536]``."""
    marked = np.zeros(1 << 16, dtype=np.bool_)
    for first, last in _UNICODE_17:
        low, high = (int.from_bytes(chr(code).encode("utf-16-le")[:2], "little") for code in (first, last))
        marked[low : high + 1] = True
    return marked


def _first_difference(ids: Ids, expected: Ids) -> str:
    both = min(len(ids), len(expected))
    places = np.flatnonzero(ids[:both] != expected[:both])
    place = int(places[0]) if len(places) else both
    shown = slice(place, place + 5)
    return f"from token {place} on {ids[shown].tolist()} and {expected[shown].tolist()}"


def _load_engine(content: bytes, kind: str) -> Any:
    """Return gigatoken's tokenizer for the content of a ``tokenizer.json``."""
    try:
        import gigatoken
    except ImportError as error:
        raise TokenizerError(f"fast needs gigatoken, which is not installed: {_INSTALL}") from error
    try:
        return gigatoken.Tokenizer.from_json(content)
    except (ValueError, RuntimeError) as error:
        reason = str(error).split("\n")[0]
        raise TokenizerError(f"gigatoken cannot do this {kind}: {reason}; run without fast") from error
