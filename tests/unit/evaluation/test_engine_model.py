from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from megatron.checkpoint.folder import open_folder
from megatron.config.layout import Layout
from megatron.data.indexed import ShardWriter
from megatron.data.manifest import ShardInfo, TokenizerInfo
from megatron.evaluation.bits_per_byte import HeldOutSet
from megatron.evaluation.engine_model import EngineModel, identity_of, open_engine_model
from megatron.evaluation.language_model import Request
from megatron.evaluation.metrics.likelihood import text_metrics
from megatron.evaluation.texts import score_texts
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.process import Peers, World


def opened(folder: Path, dtype: torch.dtype = torch.float32, **options: int) -> EngineModel:
    mesh = Mesh(Layout(), World(rank=0, size=1, device=torch.device("cpu")))
    return open_engine_model(open_folder(folder), mesh=mesh, peers=Peers(), execution=Execution(dtype), **options)


def requests(model: EngineModel, texts: list[str]) -> list[Request]:
    encoded = [model.tokenizer.encode(text) for text in texts]
    return [Request(ids[: len(ids) // 3], ids[len(ids) // 3 :]) for ids in encoded]


def test_likelihoods_are_those_of_transformers(small_hf: Path, texts: list[str]) -> None:
    transformers = pytest.importorskip("transformers")
    ours = opened(small_hf)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(small_hf, dtype=torch.float64)
    wanted = [request for request in requests(ours, texts) if len(request.context) + len(request.continuation) < 64]
    assert len(wanted) > 5
    for request, found in zip(wanted, ours.likelihoods(wanted), strict=True):
        ids = torch.tensor([[ours.first_id, *request.context, *request.continuation]])
        with torch.no_grad():
            chances = torch.log_softmax(theirs(ids).logits[0, :-1], -1)[len(request.context) :]
        answer = torch.tensor(request.continuation)
        assert found.nats == pytest.approx(-chances.gather(1, answer[:, None]).sum().item(), rel=1e-5)
        assert found.is_greedy == bool((chances.argmax(1) == answer).all())


def test_batches_change_no_score_and_order_is_kept(small_hf: Path, texts: list[str]) -> None:
    wanted = requests(opened(small_hf), texts)
    whole = [found.nats for found in opened(small_hf).likelihoods(wanted)]
    one_by_one = [found.nats for found in opened(small_hf, batch_tokens=1).likelihoods(wanted)]
    backwards = [found.nats for found in opened(small_hf).likelihoods(wanted[::-1])][::-1]
    assert one_by_one == pytest.approx(whole, rel=1e-6) and backwards == pytest.approx(whole, rel=1e-6)
    assert len(set(whole)) == len(whole)


def test_the_labels_of_a_question_cost_their_own_tokens(small_hf: Path) -> None:
    model, read = opened(small_hf), []
    model.engine.model.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].numel()))
    questions = [[*range(10 * number, 10 * number + 40)] for number in range(1, 6)]
    wanted = [Request(question, [label]) for question in questions for label in (5, 6, 7, 8)]
    together = model.likelihoods(wanted)
    assert sum(read) == 5 * (40 + 4)
    alone = [found for request in wanted for found in model.likelihoods([request])]
    assert [found.nats for found in together] == pytest.approx([found.nats for found in alone], rel=1e-5)
    assert [found.is_greedy for found in together] == [found.is_greedy for found in alone]


def test_a_model_that_knows_nothing_takes_the_logarithm_of_its_vocabulary(small_hf: Path, texts: list[str]) -> None:
    model = opened(small_hf)
    torch.nn.init.zeros_(model.engine.model.head_weight)
    wanted = requests(model, texts)
    for request, found in zip(wanted, model.likelihoods(wanted), strict=True):
        bits = found.nats / math.log(2) / len(request.continuation)
        assert bits == pytest.approx(math.log2(model.tokenizer.vocab_size), rel=1e-6)


def test_a_broken_model_has_no_score(small_hf: Path, texts: list[str]) -> None:
    model = opened(small_hf)
    torch.nn.init.constant_(model.engine.model.head_weight, math.nan)
    with pytest.raises(ValueError, match=r"11 of 11 likelihoods are no numbers.*fp32"):
        model.likelihoods(requests(model, texts))


def test_what_is_longer_than_a_window_is_scored_whole(small_hf: Path, texts: list[str]) -> None:
    model = opened(small_hf, window_tokens=16)
    torch.nn.init.zeros_(model.engine.model.head_weight)
    ids = model.tokenizer.encode(" ".join(texts))
    assert len(ids) > 200
    [long, short] = model.likelihoods([Request(ids[:7], ids[7:]), Request(ids[:-2], ids[-2:])])
    unit = math.log(model.tokenizer.vocab_size)
    assert long.nats == pytest.approx((len(ids) - 7) * unit) and short.nats == pytest.approx(2 * unit)
    with pytest.raises(ValueError, match=r"window_tokens = 65 must be from 1 to 64"):
        opened(small_hf, window_tokens=65)


def test_weights_are_kept_in_the_dtype_that_is_computed_in(small_hf: Path, texts: list[str]) -> None:
    exact, rounded = opened(small_hf), opened(small_hf, torch.bfloat16)
    assert {parameter.dtype for parameter in rounded.engine.model.parameters()} == {torch.bfloat16}
    assert rounded.engine.model.model.rotation_cos.dtype == torch.float32
    wanted = requests(exact, texts)
    pairs = zip(exact.likelihoods(wanted), rounded.likelihoods(wanted), strict=True)
    assert all(one.nats != other.nats and other.nats == pytest.approx(one.nats, rel=0.05) for one, other in pairs)


def test_identity_is_that_of_the_files(small_hf: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(small_hf, tmp_path / "copy")
    same = identity_of(open_folder(small_hf), name="x", precision="fp32")
    (copy / "README.md").write_text("says nothing about the weights")
    assert identity_of(open_folder(copy), name="x", precision="fp32") == same and json.dumps(same)
    assert identity_of(open_folder(copy), name="x", precision="bfloat16") != same
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert identity_of(open_folder(copy), name="x", precision="fp32") != same


@pytest.mark.parametrize("window_tokens", [16, 64])
def test_training_and_evaluation_score_texts_alike(
    small_hf: Path, texts: list[str], tmp_path: Path, window_tokens: int
) -> None:
    model = opened(small_hf, window_tokens=window_tokens)
    tokenizer = model.tokenizer
    assert max(len(tokenizer.encode(text)) for text in texts) > 16
    with ShardWriter(tmp_path / "valid", dtype=np.uint16) as writer:
        for text in texts:
            ids = [tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eod_id]
            writer.add_document(np.array(ids, dtype=np.uint16))
    shard = ShardInfo(
        name="all", path="valid", split="valid", source="monolingual", language="mul", script="Zyyy",
        documents=len(texts), words=1, tokens=writer.num_tokens, bytes=sum(len(text.encode()) for text in texts),
        unk_tokens=0, dtype="uint16", content_hash=writer.content_hash,
    )  # fmt: skip
    held_out = HeldOutSet(
        folder=tmp_path, shards=[shard], tokenizer=TokenizerInfo.of(tokenizer, prepend_bos=True),
        seq_length=window_tokens,
    )  # fmt: skip
    [trained] = held_out.score(model.engine, batch_tokens=100)
    metrics = text_metrics(score_texts(model, texts))
    assert metrics["nats"] == pytest.approx(trained.nats, rel=1e-6)
    assert (metrics["bytes"], metrics["tokens"]) == (trained.bytes, trained.tokens)
