"""Llama 3's ``tokenizer.model``: byte-level BPE ranks in tiktoken's text format."""

from __future__ import annotations

import base64
import binascii
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tiktoken

from megatron.tokenizer import export
from megatron.tokenizer.base import Ids, TokenizerError, byte_mask, check_eod, read_model_file, token_of_eod
from megatron.utils.files import fingerprint_bytes

#: How Llama 3 cuts a text into words before BPE (llama3's ``tokenizer.py``): contractions, letters with one sign before
#: them, up to three digits, signs, line ends, other white space.
LLAMA3_PATTERN = "|".join(
    [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
_BOS, _EOD = "<|begin_of_text|>", "<|end_of_text|>"
_NUM_SPECIAL_TOKENS = 256


def llama3_special_tokens() -> list[str]:
    """Return the 256 special tokens of Meta's Llama 3 release, whose ids follow those of the ranks."""
    reserved = [f"<|reserved_special_token_{number}|>" for number in range(_NUM_SPECIAL_TOKENS - 5)]
    named = [_BOS, _EOD, *reserved[:4], "<|start_header_id|>", "<|end_header_id|>", reserved[4], "<|eot_id|>"]
    return [*named, *reserved[5:]]


class TiktokenTokenizer:
    """A tiktoken ranks file with Llama 3's word pattern and special tokens.

    Args:
        path: the file, one ``<base64 bytes> <rank>`` a line.
        eod_token: the special token that ends documents; ``<|end_of_text|>`` (Llama 3: 128001) when None.
        eod_id: that special token by its id, instead of ``eod_token``.

    Raises:
        TokenizerError: the file is no ranks file, or there is no such special token.
    """

    kind = "TiktokenTokenizer"

    def __init__(self, path: Path, *, eod_token: str | None = None, eod_id: int | None = None) -> None:
        data = read_model_file(path)
        self.fingerprint = fingerprint_bytes(data)
        self._ranks = _parse_ranks(data, path)
        self._special = {token: len(self._ranks) + number for number, token in enumerate(llama3_special_tokens())}
        self._encoding = tiktoken.Encoding(
            path.name, pat_str=LLAMA3_PATTERN, mergeable_ranks=self._ranks, special_tokens=self._special
        )
        self.vocab_size = len(self._ranks) + len(self._special)
        self.unk_id: int | None = None
        self.bos_id: int | None = self._special[_BOS]
        if eod_id is not None:
            token = next((token for token, special_id in self._special.items() if special_id == eod_id), None)
            eod_token = token_of_eod(eod_id, token, unk_id=None, path=path)
        self._eod_token = _EOD if eod_token is None else eod_token
        self.eod_id = check_eod(
            self._special.get(self._eod_token), unk_id=None, wanted=repr(self._eod_token), path=path
        )

    def encode(self, text: str) -> list[int]:
        """Return the ids of one text."""
        return self._encoding.encode_ordinary(text)

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Return the ids of several texts as int32 arrays."""
        return [self._encoding.encode_to_numpy(text, disallowed_special=()).astype(np.int32) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``; special tokens give no text."""
        num_ranks = len(self._ranks)
        return self._encoding.decode([token for token in map(int, ids) if token < num_ranks])

    def byte_token_mask(self) -> npt.NDArray[np.bool_]:
        """Return which ids stand for a part of a character; shape ``[vocab_size]``."""
        return self._byte_token_mask

    def tokenizer_json(self) -> str:
        """Return the content of ``tokenizer.json``."""
        return export.tiktoken_json(self._ranks, special_tokens=list(self._special), pattern=LLAMA3_PATTERN)

    def save(self, folder: Path, *, prepend_bos: bool) -> None:
        """Write ``tokenizer.json`` and its two configuration files."""
        tokens = export.SpecialTokens(bos=_BOS, eod=self._eod_token, unk=None)
        export.write_hf_files(folder, self.tokenizer_json(), tokens=tokens, prepend_bos=prepend_bos)

    @functools.cached_property
    def _byte_token_mask(self) -> npt.NDArray[np.bool_]:
        return byte_mask(self.vocab_size, ((rank, data) for data, rank in self._ranks.items()))


def _parse_ranks(data: bytes, path: Path) -> dict[bytes, int]:
    """Read ``<base64> <rank>`` lines; ranks are 0, 1, 2, ... and every single byte has one."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise TokenizerError(
                f"{path}, line {number}: is not '<base64> <rank>' ({error}); TiktokenTokenizer reads Llama 3's "
                "tokenizer.model. For a SentencePiece model use SPMTokenizer"
            ) from error
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise TokenizerError(f"{path}: the ranks are not 0 to {len(ranks) - 1}, each once; the file is damaged")
    if missing := [byte for byte in range(256) if bytes([byte]) not in ranks]:
        raise TokenizerError(f"{path}: {len(missing)} of the 256 single bytes have no rank; the file is damaged")
    return ranks
