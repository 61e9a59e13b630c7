"""Translation models of Hugging Face with an encoder and a decoder, such as NLLB-200 or OPUS-MT."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from megatron.evaluation.benchmarks.manifest import BenchmarkDataError, sha256_of

_BATCH_TEXTS = 16


class Seq2SeqTranslator:
    """Translates with a model in a folder; nothing is downloaded, and no code or pickle in the folder is run.

    Args:
        folder: ``config.json``, ``*.safetensors`` and the tokenizer's files.
        codes: corpus code to the model's code, where they differ (``kor_Kore: kor_Hang``); a model that knows no
            language codes, as of a single pair, is asked without.
        device: of torch.
        maximum_tokens: most tokens of a translation.
        beams: of beam search.

    Attributes:
        name: the folder's name and the hash of its configuration.

    Raises:
        BenchmarkDataError: transformers is missing, or the folder holds no such model.
    """

    def __init__(
        self,
        folder: Path,
        *,
        codes: Mapping[str, str] | None = None,
        device: str = "cpu",
        maximum_tokens: int = 512,
        beams: int = 1,
    ) -> None:
        try:
            transformers: Any = importlib.import_module("transformers")
        except ImportError:
            raise BenchmarkDataError(
                "translating with a Hugging Face model needs transformers: pip install transformers"
            ) from None
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = transformers.AutoModelForSeq2SeqLM.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, KeyError) as error:
            raise BenchmarkDataError(f"{folder} holds no translation model that can be opened: {error}") from None
        self._model = model.eval().to(device)
        self._codes, self._device = codes or {}, device
        self._options = {"max_new_tokens": maximum_tokens, "num_beams": beams, "do_sample": False}
        self.name = f"seq2seq {folder.name} {sha256_of(folder / 'config.json')}, {maximum_tokens} tokens, {beams} beams"

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """Return the translations; None for all of a language that the model has no code for."""
        import torch

        options = dict(self._options)
        if getattr(self._tokenizer, "src_lang", None) is not None:
            own = [self._codes.get(code, code) for code in (source, target)]
            ids = [self._tokenizer.convert_tokens_to_ids(code) for code in own]
            if any(id is None or id == self._tokenizer.unk_token_id for id in ids):
                return [None] * len(texts)
            self._tokenizer.src_lang = own[0]
            options["forced_bos_token_id"] = ids[1]
        # A text that is longer than the model reads is not translated in part.
        lengths = [len(ids) for ids in self._tokenizer(list(texts))["input_ids"]]
        fitting = [number for number, length in enumerate(lengths) if length <= self._tokenizer.model_max_length]
        found: list[str | None] = [None] * len(texts)
        for start in range(0, len(fitting), _BATCH_TEXTS):
            numbers = fitting[start : start + _BATCH_TEXTS]
            given = self._tokenizer([texts[number] for number in numbers], return_tensors="pt", padding=True)
            tensors = {key: given[key].to(self._device) for key in ("input_ids", "attention_mask")}
            with torch.inference_mode():
                written = self._model.generate(**tensors, **options)
            decoded = self._tokenizer.batch_decode(written, skip_special_tokens=True)
            for number, text in zip(numbers, decoded, strict=True):
                found[number] = text.strip() or None
        return found
