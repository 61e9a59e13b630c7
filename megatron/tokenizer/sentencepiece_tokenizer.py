"""SentencePiece models, such as Llama 2's ``tokenizer.model``."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import sentencepiece

from megatron.tokenizer import export
from megatron.tokenizer.base import Ids, TokenizerError, check_eod, read_model_file, token_of_eod
from megatron.utils.files import atomic_write, fingerprint_bytes


class SentencePieceTokenizer:
    """A SentencePiece model behind the :class:`~megatron.tokenizer.base.Tokenizer` protocol.

    Args:
        path: the ``tokenizer.model`` file.
        eod_token: the piece that ends documents; the model's own ``eos`` (Llama 2: ``</s>``, id 2) when None.
        eod_id: that piece by its id, instead of ``eod_token``.

    Raises:
        TokenizerError: the file is no SentencePiece model, or has no such piece.
    """

    kind = "SPMTokenizer"

    def __init__(self, path: Path, *, eod_token: str | None = None, eod_id: int | None = None) -> None:
        self._model = read_model_file(path)
        self.fingerprint = fingerprint_bytes(self._model)
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=self._model)
        except (RuntimeError, ValueError) as error:
            raise TokenizerError(f"{path}: is no SentencePiece model ({error}); check tokenizer_type") from error
        processor = self._processor
        self.vocab_size: int = processor.get_piece_size()
        self.unk_id: int | None = _id_or_none(processor.unk_id())
        self.bos_id: int | None = _id_or_none(processor.bos_id())
        if eod_id is not None:
            piece = self._piece(eod_id) if 0 <= eod_id < self.vocab_size else None
            eod_token = token_of_eod(eod_id, piece, unk_id=self.unk_id, path=path)
        found = processor.eos_id() if eod_token is None else processor.piece_to_id(eod_token)
        wanted = repr(eod_token) if eod_token is not None else "eos"
        self.eod_id = check_eod(found, unk_id=self.unk_id, wanted=wanted, path=path)

    def encode(self, text: str) -> list[int]:
        """Return the ids of one text."""
        ids: list[int] = self._processor.encode(text, out_type=int)
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Return the ids of several texts as int32 arrays."""
        arrays: list[Ids] = self._processor.encode(list(texts), out_type="numpy", num_threads=1)
        return arrays

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``; control pieces such as ``</s>`` give no text."""
        text: str = self._processor.decode(list(map(int, ids)))
        return text

    def byte_token_mask(self) -> npt.NDArray[np.bool_]:
        """Return which ids are byte pieces, ``<0x00>`` to ``<0xFF>``; shape ``[vocab_size]``."""
        return self._byte_token_mask

    def tokenizer_json(self) -> str:
        """Return the content of ``tokenizer.json``."""
        return export.sentencepiece_json(self._model, tokens=self._special_tokens())

    def save(self, folder: Path, *, prepend_bos: bool) -> None:
        """Write ``tokenizer.json``, its two configuration files and the unchanged ``tokenizer.model``."""
        tokens = self._special_tokens()
        export.write_hf_files(folder, self.tokenizer_json(), tokens=tokens, prepend_bos=prepend_bos)
        with atomic_write(folder / "tokenizer.model") as file:
            file.write(self._model)

    @functools.cached_property
    def _byte_token_mask(self) -> npt.NDArray[np.bool_]:
        mask = np.array([self._processor.is_byte(token) for token in range(self.vocab_size)], dtype=np.bool_)
        mask.flags.writeable = False
        return mask

    def _special_tokens(self) -> export.SpecialTokens:
        bos, eod, unk = (self._piece(token) for token in (self.bos_id, self.eod_id, self.unk_id))
        return export.SpecialTokens(bos=bos, eod=eod, unk=unk)

    def _piece(self, token: int | None) -> str | None:
        return None if token is None else self._processor.id_to_piece(token)


def _id_or_none(token: int) -> int | None:
    """SentencePiece says -1 for a special token that the model does not have."""
    return token if token >= 0 else None
