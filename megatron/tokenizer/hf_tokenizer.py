"""Hugging Face tokenizers: a ``tokenizer.json`` and the configuration files beside it."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers

from megatron.tokenizer import export
from megatron.tokenizer.base import (
    Ids,
    NoEndTokenError,
    TokenizerError,
    byte_mask,
    check_eod,
    read_model_file,
    token_of_eod,
)
from megatron.utils.files import fingerprint_bytes

_CONFIG_FILES = ("tokenizer_config.json", "special_tokens_map.json")
# What else a model's users rely on; the rest of a tokenizer_config.json belongs to one class of one library version.
_KEPT_SETTINGS = ("chat_template", "model_max_length", "pad_token", "padding_side", "additional_special_tokens")

_BYTE_PIECE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class HFTokenizer:
    """A ``tokenizer.json`` behind the :class:`~megatron.tokenizer.base.Tokenizer` protocol.

    Args:
        path: the file, or the folder that holds ``tokenizer.json``.
        eod_token: the token that ends documents; when None, ``eos_token`` of ``tokenizer_config.json`` or
            ``special_tokens_map.json`` in the same folder.
        eod_id: that token by its id, instead of ``eod_token``.

    Raises:
        TokenizerError: the file cannot be read, or nothing says which token ends documents.
    """

    kind = "HFTokenizer"

    def __init__(self, path: Path, *, eod_token: str | None = None, eod_id: int | None = None) -> None:
        path = path / "tokenizer.json" if path.is_dir() else path
        data = read_model_file(path)
        self.fingerprint = fingerprint_bytes(data)
        self._tokenizer = _parse(data, path)
        self._settings = _read_settings(path.parent)
        vocab = self._tokenizer.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocab.values()) + 1
        unk_token = getattr(self._tokenizer.model, "unk_token", None) or self._token("unk_token")
        self.unk_id: int | None = vocab.get(unk_token or "")
        self._bos_token = self._token("bos_token")
        self.bos_id: int | None = vocab.get(self._bos_token or "")
        if eod_id is not None:
            token = self._tokenizer.id_to_token(eod_id) if 0 <= eod_id < self.vocab_size else None
            eod_token = token_of_eod(eod_id, token, unk_id=self.unk_id, path=path)
        self._eod_token = eod_token if eod_token is not None else self._token("eos_token")
        if self._eod_token is None:
            raise NoEndTokenError(
                f"{path}: nothing says which token ends documents: no eos_token in {' or '.join(_CONFIG_FILES)} "
                "beside it. Copy tokenizer_config.json there, or give --eod-token"
            )
        self.eod_id = check_eod(vocab.get(self._eod_token), unk_id=self.unk_id, wanted=repr(self._eod_token), path=path)

    def encode(self, text: str) -> list[int]:
        """Return the ids of one text."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Return the ids of several texts as int32 arrays."""
        # One text a call: a longer batch would start the library's own threads, one per core in every worker process.
        encode = self._tokenizer.encode_batch_fast
        return [np.array(encode([text], add_special_tokens=False)[0].ids, dtype=np.int32) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``; special tokens give no text."""
        return self._tokenizer.decode([int(token) for token in ids], skip_special_tokens=True)

    def byte_token_mask(self) -> npt.NDArray[np.bool_]:
        """Return which ids stand for a part of a character; shape ``[vocab_size]``."""
        return self._byte_token_mask

    def tokenizer_json(self) -> str:
        """Return the content of the file, without its truncation and padding."""
        return self._tokenizer.to_str()

    def save(self, folder: Path, *, prepend_bos: bool) -> None:
        """Write the same ``tokenizer.json``, except that it adds the special tokens asked for and no others."""
        unk_token = None if self.unk_id is None else self._tokenizer.id_to_token(self.unk_id)
        tokens = export.SpecialTokens(bos=self._bos_token, eod=self._eod_token, unk=unk_token)
        kept = {key: self._settings[key] for key in _KEPT_SETTINGS if key in self._settings}
        export.write_hf_files(folder, self.tokenizer_json(), tokens=tokens, prepend_bos=prepend_bos, extra=kept)

    @functools.cached_property
    def _byte_token_mask(self) -> npt.NDArray[np.bool_]:
        vocab = self._tokenizer.get_vocab(with_added_tokens=False)
        # A decoder's state is its JSON; a byte-level one may be a part of a sequence.
        decoder = self._tokenizer.decoder
        if decoder is not None and b'"ByteLevel"' in decoder.__getstate__():
            return byte_mask(self.vocab_size, ((token, _byte_level(text)) for text, token in vocab.items()))
        pieces: list[int] = []
        if getattr(self._tokenizer.model, "byte_fallback", False):
            pieces = [token for text, token in vocab.items() if _BYTE_PIECE.fullmatch(text)]
        mask = np.zeros(self.vocab_size, dtype=np.bool_)
        mask[pieces] = True
        mask.flags.writeable = False
        return mask

    def _token(self, name: str) -> str | None:
        """Return a special token from the configuration files, which write it as a string or as an object."""
        value = self._settings.get(name)
        content = value.get("content") if isinstance(value, dict) else value
        return content if isinstance(content, str) else None


def _parse(data: bytes, path: Path) -> tokenizers.Tokenizer:
    try:
        tokenizer = tokenizers.Tokenizer.from_str(data.decode("utf-8"))
    except Exception as error:  # the library raises plain Exception
        raise TokenizerError(f"{path}: is no tokenizer.json ({error}); check tokenizer_type") from error
    # As the file comes, `</s>` in a text becomes the end-of-document id, and long texts may be cut.
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _read_settings(folder: Path) -> dict[str, Any]:
    """Merge the configuration files beside a ``tokenizer.json``; the first one wins."""
    settings: dict[str, Any] = {}
    for name in reversed(_CONFIG_FILES):
        path = folder / name
        if not path.is_file():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise TokenizerError(f"{path}: is not JSON ({error}); mend it or delete it and give --eod-token") from error
        if not isinstance(content, dict):
            raise TokenizerError(f"{path}: is not a JSON object; mend it or delete it and give --eod-token")
        settings.update({key: value for key, value in content.items() if value is not None})
    return settings


def _byte_level(text: str) -> bytes:
    """Return the bytes that a token of a byte-level vocabulary is spelled for; what is no spelling stays as it is."""
    byte_of = _bytes_of_letters()
    try:
        return bytes(byte_of[character] for character in text)
    except KeyError:
        return text.encode("utf-8")


@functools.cache
def _bytes_of_letters() -> dict[str, int]:
    return {letter: byte for byte, letter in enumerate(export.byte_letters())}
