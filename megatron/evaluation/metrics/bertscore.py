"""BERTScore (Zhang et al., 2020, arXiv 1904.09675) with an encoder that lies on disk, where it can read the language.

An encoder turns what it cannot read into its unknown token, and unknown tokens match each other perfectly: scores of
languages that it knows least would be the highest. Such languages get no score.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from megatron.evaluation.metrics.texts import MetricError, MetricSettings, Texts, answered, warn_once
from megatron.utils.files import fingerprint_file

_INSTALL = "pip install bert-score==0.3.13 transformers"
_MAX_CONFIG_BYTES = 1 << 20
_MAX_UNKNOWN_RATE = 0.05
_BATCH_TEXTS = 64
_NAMES_OF_T5 = ("t5", "mt5", "umt5")


def bertscore(texts: Texts) -> float:
    """Return the mean over items of BERTScore F1, 0..1, without rescaling; of several references the nearest counts.

    Empty outputs count as 0. Not a number, with the reason logged once, without ``settings.bertscore_model`` and where
    more than 5% of the tokens of outputs and references are unknown to the encoder.

    Raises:
        MetricError: the package is not installed, or the folder holds no encoder.
    """
    settings = texts.settings
    if settings.bertscore_model is None:
        warn_once("bertscore is not computed: bertscore_model names no folder, and nothing is downloaded")
        return math.nan
    items = [(output, [text for text in references if text.strip()]) for output, references in answered(texts)]
    items = [(output, references) for output, references in items if references]
    if not items:
        return math.nan
    scorer = _open(settings.bertscore_model, _layers(settings))
    rate = unknown_rate(scorer._tokenizer, [text for output, references in items for text in (output, *references)])
    if rate > _MAX_UNKNOWN_RATE:
        warn_once(
            f"{texts.language}: bertscore is not computed: {rate:.1%} of the tokens are unknown to "
            f"{settings.bertscore_model.name}, and {_MAX_UNKNOWN_RATE:.0%} may be"
        )
        return math.nan
    written = [(output, references) for output, references in items if output.strip()]
    if not written:
        return 0.0
    _, _, scores = scorer.score(*map(list, zip(*written, strict=True)), batch_size=_BATCH_TEXTS)
    return float(scores.double().sum()) / len(items)


def unknown_rate(tokenizer: Any, texts: Sequence[str]) -> float:
    """Return the share of unknown tokens, 0..1, that a tokenizer of transformers makes of texts; 0 without tokens."""
    ids = tokenizer(list(texts), add_special_tokens=False, truncation=True)["input_ids"]
    total = sum(map(len, ids))
    return sum(row.count(tokenizer.unk_token_id) for row in ids) / total if total else 0.0


def default_layers(num_layers: int) -> int:
    """Return whose hidden states are compared, of an encoder with ``num_layers``.

    For 12 and 24 layers these are the 9 and 17 that bert-score's authors chose for multilingual BERT and XLM-R.
    """
    return math.ceil(17 * num_layers / 24)


def check_bertscore(settings: MetricSettings) -> None:
    """Raise MetricError when an encoder is named that cannot be used."""
    if settings.bertscore_model is not None:
        _layers(settings)
        _import_bert_score()


def bertscore_signature(_script: str | None, settings: MetricSettings) -> str:
    """Return which encoder is used, and how; it reads the whole file of weights once."""
    if settings.bertscore_model is None:
        return "bertscore|model:none"
    weights = _fingerprint(_weights(settings.bertscore_model))
    return (
        f"bertscore|model:{settings.bertscore_model.name}|weights:{weights}|layers:{_layers(settings)}"
        f"|idf:no|rescale:no|unk:{_MAX_UNKNOWN_RATE}|version:{_import_bert_score().__version__}"
    )


def _layers(settings: MetricSettings) -> int:
    """Check the folder of the encoder, and return the number of layers to use."""
    assert settings.bertscore_model is not None
    config = _read_config(settings.bertscore_model)
    _weights(settings.bertscore_model)
    there = config.get("num_hidden_layers", config.get("num_layers"))
    if not isinstance(there, int) or there < 1:
        raise MetricError(f"bertscore_model: config.json of {settings.bertscore_model} does not say num_hidden_layers")
    wanted = default_layers(there) if settings.bertscore_layers is None else settings.bertscore_layers
    if wanted > there:
        raise MetricError(f"bertscore_layers: {wanted} is more than the {there} layers of {settings.bertscore_model}")
    # bert-score goes by the name, and would read other weights into a T5 without a word.
    if "t5" in str(settings.bertscore_model) and config.get("model_type") not in _NAMES_OF_T5:
        raise MetricError(
            f"bertscore_model: bert-score takes every path with 't5' in it for a T5; rename {settings.bertscore_model}"
        )
    return wanted


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        with path.open("rb") as file:
            config = orjson.loads(file.read(_MAX_CONFIG_BYTES))
    except (OSError, orjson.JSONDecodeError) as error:
        raise MetricError(f"bertscore_model: {path} cannot be read ({error}); name a folder of an encoder") from None
    if not isinstance(config, dict):
        raise MetricError(f"bertscore_model: {path} is not an object; name a folder of an encoder")
    return config


def _weights(folder: Path) -> Path:
    """Return the file of weights; one that is pickled is not opened."""
    path = folder / "model.safetensors"
    if not path.is_file():
        raise MetricError(f"bertscore_model: {folder} holds no model.safetensors; save the encoder in that format")
    return path


@functools.lru_cache(maxsize=1)
def _fingerprint(path: Path) -> str:
    return fingerprint_file(path)


@functools.lru_cache(maxsize=1)
def _open(folder: Path, layers: int) -> Any:
    """Load the encoder, on a GPU where there is one."""
    scorer = _import_bert_score().BERTScorer(model_type=str(folder), num_layers=layers)
    tokenizer, positions = scorer._tokenizer, _read_config(folder).get("max_position_embeddings")
    if isinstance(positions, int) and tokenizer.model_max_length > positions:
        # Tokenizers without a limit of their own say 10^30. Encoders of RoBERTa's kind keep two positions for padding.
        tokenizer.model_max_length = positions - 2
    return scorer


def _import_bert_score() -> Any:
    try:
        import bert_score
    except ImportError as error:
        raise MetricError(f"bertscore cannot be computed without bert-score ({error}): {_INSTALL}") from None
    return bert_score
