from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from megatron.evaluation.metrics import bertscore as module
from megatron.evaluation.metrics.bertscore import bertscore, bertscore_signature, default_layers
from megatron.evaluation.metrics.texts import MetricError, MetricSettings, Texts, warn_once


def texts(folder: Path, *items: tuple[str, list[str]], language: str = "eng_Latn", **settings: Any) -> Texts:
    outputs, references = zip(*items, strict=True)
    return Texts(outputs, references, language, MetricSettings(bertscore_model=folder, **settings))


def test_values_are_those_of_bert_score(encoder: Path) -> None:
    from bert_score import BERTScorer

    items = [("a small cat", ["the small cat", "a dog"]), ("some words.", ["other words."]), ("same", ["same"])]
    peer = BERTScorer(model_type=str(encoder), num_layers=3)
    peer._tokenizer.model_max_length = 38
    _, _, expected = peer.score([output for output, _ in items], [references for _, references in items])
    assert 0 < expected.min() < 0.999 and expected.max() == pytest.approx(1)
    assert bertscore(texts(encoder, *items)) == pytest.approx(expected.double().mean().item(), abs=1e-6)
    assert bertscore(texts(encoder, *items, bertscore_layers=1)) != pytest.approx(expected.double().mean().item())


def test_empty_outputs_count_as_nothing(encoder: Path) -> None:
    full = bertscore(texts(encoder, ("a cat", ["the cat"])))
    assert bertscore(texts(encoder, ("a cat", ["the cat", " "]), (" ", ["the cat"]))) == pytest.approx(full / 2)
    assert bertscore(texts(encoder, ("", ["the cat"]))) == 0.0
    assert math.isnan(bertscore(texts(encoder, ("a cat", [" "]), ("a cat", []))))


def test_texts_longer_than_the_encoder_are_cut(encoder: Path) -> None:
    long = "letters " * 50
    assert bertscore(texts(encoder, (long, [long]))) == pytest.approx(1)


def test_a_language_that_the_encoder_cannot_read_gets_no_score(
    encoder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    warn_once.cache_clear()
    # Unknown tokens match each other: without the guard two unlike sentences are a perfect match.
    amharic = ("የሰው ልጅ ሁሉ", ["ሲወለድ ነጻና በክብርና"])
    for _ in range(2):
        assert math.isnan(bertscore(texts(encoder, amharic, language="amh_Ethi")))
    [record] = [record for record in caplog.records if record.name.startswith("megatron")]
    assert record.message == (
        "amh_Ethi: bertscore is not computed: 100.0% of the tokens are unknown to tiny, and 5% may be"
    )
    few = ("a cat " * 4 + "ሁ", ["the cat " * 3])  # 1 of 34 letters
    assert 0 < bertscore(texts(encoder, few)) < 1
    many = ("a cat ሁ", ["the cat ሁ"])
    assert math.isnan(bertscore(texts(encoder, many)))


def test_without_an_encoder_there_is_no_score_and_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    warn_once.cache_clear()
    for _ in range(2):
        assert math.isnan(bertscore(Texts(["a"], [["a"]], "eng_Latn")))
    [record] = caplog.records
    assert "bertscore_model names no folder" in record.message


def test_the_layers_of_known_encoders_are_those_of_bert_score() -> None:
    peer = pytest.importorskip("bert_score.utils", reason="the extra [bertscore] is not installed")
    for name, layers in (("bert-base-multilingual-cased", 12), ("xlm-roberta-base", 12), ("xlm-roberta-large", 24)):
        assert default_layers(layers) == peer.model2layers[name]


def test_folders_without_an_encoder_are_refused(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(MetricError, match=r"config\.json cannot be read"):
        bertscore(texts(tmp_path, ("a", ["a"])))
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(MetricError, match="not an object"):
        bertscore(texts(tmp_path, ("a", ["a"])))
    (tmp_path / "config.json").write_text(json.dumps({"num_hidden_layers": 2}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(MetricError, match=r"holds no model\.safetensors"):
        bertscore(texts(tmp_path, ("a", ["a"])))
    with pytest.raises(MetricError, match="4 is more than the 3 layers"):
        bertscore(texts(encoder, ("a", ["a"]), bertscore_layers=4))
    taken_for_another = tmp_path / "set5"
    shutil.copytree(encoder, taken_for_another)
    with pytest.raises(MetricError, match="takes every path with 't5' in it for a T5"):
        bertscore(texts(taken_for_another, ("a", ["a"])))


def test_the_signature_names_the_weights(encoder: Path) -> None:
    found = bertscore_signature(None, MetricSettings(bertscore_model=encoder))
    assert found.startswith("bertscore|model:tiny|weights:") and "|layers:3|" in found
    assert bertscore_signature(None, MetricSettings()) == "bertscore|model:none"


def test_a_missing_package_is_named(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bert_score", None)
    module._open.cache_clear()
    with pytest.raises(MetricError, match=r"pip install bert-score==0\.3\.13"):
        bertscore(texts(encoder, ("a", ["a"])))
