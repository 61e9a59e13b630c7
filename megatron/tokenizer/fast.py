"""Any of the tokenizers with its batches encoded by gigatoken, several times as fast, and checked while it runs."""

from __future__ import annotations

import itertools
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from megatron.tokenizer.base import Ids, Tokenizer, TokenizerError

_INSTALL = "pip install gigatoken==0.10.0"
_CHECKED_FRACTION = 0.01
_CHECK_KEY = 0x66617374  # another choice than that of the texts to hold out
_SHOWN_CHARACTERS = 200
# The libraries have Unicode tables of different years: which of the newest characters are letters and digits, and so
# where words end, differs. Found by trying every code point: Tolong Siki's digits and U+16FF4 to U+16FF6. The planes
# from U+30000 on still grow (U+32581 is a letter to gigatoken only), are unassigned, or are for private use.
_NEW_CHARACTERS = re.compile("[\U00011db0-\U00011def\U00016ff0-\U00016fff\U00030000-\U0010ffff]")


class FastTokenizer:
    """A tokenizer whose ``encode_batch`` gives the same ids, faster; all else is the tokenizer's own.

    Of every batch some texts, about one in a hundred and at least one, are also encoded by the tokenizer itself, and
    the ids must be equal. The choice depends on the texts alone.

    Args:
        tokenizer: what to speed up; it must be possible to :meth:`~megatron.tokenizer.base.Tokenizer.save` it.

    Raises:
        TokenizerError: gigatoken is not installed, or has no such kind of tokenizer.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._engine = _load_engine(tokenizer)
        self.kind = tokenizer.kind
        self.fingerprint = tokenizer.fingerprint
        self.vocab_size = tokenizer.vocab_size
        self.eod_id = tokenizer.eod_id
        self.bos_id = tokenizer.bos_id
        self.unk_id = tokenizer.unk_id

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
        # All ids back to back and the place where each text begins; the arrays below are views of one copy.
        layout = self._engine.encode_batch(list(texts), parallel=False).layout
        ids = np.asarray(layout.content.data).astype(np.int32)
        offsets = np.asarray(layout.offsets.data).tolist()
        arrays = [ids[start:end] for start, end in itertools.pairwise(offsets)]
        new = [place for place, text in enumerate(texts) if _has_new_characters(text)]
        for place, array in zip(new, self._tokenizer.encode_batch([texts[place] for place in new]), strict=True):
            arrays[place] = array
        self._check(texts, arrays)
        return arrays

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``."""
        return self._tokenizer.decode(ids)

    def byte_token_mask(self) -> npt.NDArray[np.bool_]:
        """Return which ids stand for a part of a character; shape ``[vocab_size]``."""
        return self._tokenizer.byte_token_mask()

    def save(self, folder: Path, *, prepend_bos: bool) -> None:
        """Write the files of the tokenizer."""
        self._tokenizer.save(folder, prepend_bos=prepend_bos)

    def _check(self, texts: Sequence[str], arrays: Sequence[Ids]) -> None:
        """Compare the ids of the texts with the smallest hashes."""
        places = checked_places(texts)
        expected_arrays = self._tokenizer.encode_batch([texts[place] for place in places])
        for place, expected in zip(places, expected_arrays, strict=True):
            if not np.array_equal(arrays[place], expected):
                text = texts[place]
                shown = repr(text[:_SHOWN_CHARACTERS]) + (" ..." if len(text) > _SHOWN_CHARACTERS else "")
                raise TokenizerError(
                    f"gigatoken and {self.kind} give different ids ({_first_difference(arrays[place], expected)}) for "
                    f"the text {shown}; run without fast"
                )


def checked_places(texts: Sequence[str]) -> list[int]:
    """Return the places of the texts to check: those with the smallest hashes, one in a hundred, at least one.

    Args:
        texts: not empty.
    """
    hashes = [xxhash.xxh3_64_intdigest(text.encode("utf-8", "replace"), seed=_CHECK_KEY) for text in texts]
    count = max(1, round(len(texts) * _CHECKED_FRACTION))
    places: list[int] = np.argsort(np.array(hashes, dtype=np.uint64), kind="stable")[:count].tolist()
    return places


def _has_new_characters(text: str) -> bool:
    return not text.isascii() and _NEW_CHARACTERS.search(text) is not None


def _first_difference(ids: Ids, expected: Ids) -> str:
    both = min(len(ids), len(expected))
    places = np.flatnonzero(ids[:both] != expected[:both])
    place = int(places[0]) if len(places) else both
    return f"from token {place} on"


def _load_engine(tokenizer: Tokenizer) -> Any:
    """Return gigatoken's tokenizer for one of ours, without special tokens: text is only ever text."""
    try:
        import gigatoken
    except ImportError as error:
        raise TokenizerError(f"fast needs gigatoken, which is not installed: {_INSTALL}") from error
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder), prepend_bos=False)
        content = json.loads((Path(folder) / "tokenizer.json").read_text(encoding="utf-8"))
    content["added_tokens"] = [token for token in content.get("added_tokens", []) if not token["special"]]
    try:
        return gigatoken.Tokenizer.from_json(json.dumps(content))
    except ValueError as error:
        raise TokenizerError(f"gigatoken cannot do this {tokenizer.kind} ({error}); run without fast") from error
