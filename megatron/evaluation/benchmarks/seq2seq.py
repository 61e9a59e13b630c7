"""Translation models of Hugging Face with an encoder and a decoder, such as NLLB-200 or OPUS-MT."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from megatron.evaluation.benchmarks.manifest import BenchmarkDataError
from megatron.evaluation.benchmarks.translators import Translation, Untranslated
from megatron.utils.files import fingerprint_bytes, fingerprint_file

_BATCH_TEXTS = 16
# What a folder may hold beside what is read: notes, and weights as pickles or of other frameworks.
_NOT_READ = frozenset({".md", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".ot", ".onnx"})


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
        name: the folder's name, a hash of all bytes of its configuration, tokenizer and weights, and what else decides
            the translations: limits, and codes that are the model's own.

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
        if not folder.is_dir():
            raise BenchmarkDataError(f"{folder} is no folder; give one that holds a translation model")
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = transformers.AutoModelForSeq2SeqLM.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, KeyError) as error:
            raise BenchmarkDataError(f"{folder} holds no translation model that can be opened: {error}") from None
        # A translation that reaches the limit must show that it has no end.
        model.generation_config.forced_eos_token_id = None
        self._model = model.eval().to(device)
        self._codes, self._device = codes or {}, device
        self._options = {"max_new_tokens": maximum_tokens, "num_beams": beams, "do_sample": False}
        told = "".join(f", {ours}={own}" for ours, own in sorted(self._codes.items()) if ours != own)
        self.name = f"seq2seq {folder.name} {_contents(folder)}, {maximum_tokens} tokens, {beams} beams{told}"

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translation]:
        """Return the translations; none of a language that the model has no code for."""
        import torch

        options = dict(self._options)
        if getattr(self._tokenizer, "src_lang", None) is not None:
            own = [self._codes.get(code, code) for code in (source, target)]
            ids = [self._tokenizer.convert_tokens_to_ids(code) for code in own]
            if any(id is None or id == self._tokenizer.unk_token_id for id in ids):
                return [Untranslated.MISSING] * len(texts)
            self._tokenizer.src_lang = own[0]
            options["forced_bos_token_id"] = ids[1]
        # A text that is longer than the model reads is not translated in part.
        lengths = [len(ids) for ids in self._tokenizer(list(texts))["input_ids"]]
        fitting = [number for number, length in enumerate(lengths) if length <= self._tokenizer.model_max_length]
        found: list[Translation] = [Untranslated.MISSING] * len(texts)
        for start in range(0, len(fitting), _BATCH_TEXTS):
            numbers = fitting[start : start + _BATCH_TEXTS]
            given = self._tokenizer([texts[number] for number in numbers], return_tensors="pt", padding=True)
            tensors = {key: given[key].to(self._device) for key in ("input_ids", "attention_mask")}
            with torch.inference_mode():
                written = self._model.generate(**tensors, **options)
            decoded = self._tokenizer.batch_decode(written, skip_special_tokens=True)
            for number, text, ids in zip(numbers, decoded, written.tolist(), strict=True):
                is_whole = self._has_end(ids)
                found[number] = text.strip() or Untranslated.MISSING if is_whole else Untranslated.CUT_OFF
        return found

    def _has_end(self, ids: Sequence[int]) -> bool:
        """Return whether what was written ends by itself; its first id, which may be the same, begins it."""
        given = self._model.generation_config.eos_token_id
        ends = given if isinstance(given, list) else [given]
        return any(id in ends for id in ids[1:])


def _contents(folder: Path) -> str:
    """Return the hash of all bytes of the files that a model and its tokenizer may be read from."""
    files = sorted(
        path for path in folder.iterdir()
        if path.is_file() and not path.name.startswith(".") and path.suffix.lower() not in _NOT_READ
    )  # fmt: skip
    return fingerprint_bytes("".join(f"{fingerprint_file(path)} {path.name}\n" for path in files).encode())
