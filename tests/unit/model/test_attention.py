from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import varlen

from megatron.config.architecture import Architecture
from megatron.generate.cache import KeyValueCache
from megatron.model import attention
from megatron.model.attention import Documents, attention_by_piece, attention_packed, attention_within
from megatron.model.llama import Llama

SHAPE = Architecture(64, 32, 48, 2, 4, 2, 8, 64)
LENGTHS = (3, 1, 6, 2, 8)  # two rows of 10


def dense(query: Tensor, key: Tensor, value: Tensor, offsets: Tensor) -> Tensor:
    """Attention within documents written out: every pair of tokens, and a mask. ``[tokens, heads, head_dim]``."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    places = torch.arange(query.shape[0])
    document = torch.searchsorted(offsets, places, right=True)
    seen = (document[:, None] == document[None]) & (places[:, None] >= places[None])
    scores = torch.einsum("qhd,khd->hqk", query, key) / query.shape[-1] ** 0.5
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(-1), value)


class Kernel:
    """Stands for ``varlen_attn``: the same contract, by the dense form; keeps what it was called with."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def new(  # torch 2.12 and later
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        *,
        window_size: tuple[int, int] = (-1, -1),
        enable_gqa: bool = False,
    ) -> Tensor:
        assert enable_gqa or query.shape[1] == key.shape[1]
        return self.old(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, window_size=window_size, any_heads=True)

    def old(  # torch 2.11
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        *,
        window_size: tuple[int, int] = (-1, -1),
        any_heads: bool = False,
    ) -> Tensor:
        assert any_heads or query.shape[1] == key.shape[1]
        assert window_size == (-1, 0) and isinstance(max_q, int) and max_q == max_k
        assert cu_seq_q.dtype == torch.int32 and torch.equal(cu_seq_q, cu_seq_k)
        assert all(tensor.dim() == 3 and tensor.stride(-1) == 1 for tensor in (query, key, value))
        self.calls.append({"longest": max_q, "key_heads": key.shape[1]})
        return dense(query, key, value, cu_seq_q)


def heads(tokens: int, query_heads: int, key_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    query, key, value = (
        torch.randn(tokens, count, 16, generator=generator, dtype=torch.float64).requires_grad_()
        for count in (query_heads, key_heads, key_heads)
    )
    return query, key, value


def by_old_kernel(documents: Documents, *tensors: Tensor) -> Tensor:
    return attention_packed(documents.packing, *tensors, kernel=Kernel().old)


def by_new_kernel(documents: Documents, *tensors: Tensor) -> Tensor:
    return attention_packed(documents.packing, *tensors, kernel=Kernel().new)


@pytest.mark.parametrize("way", [attention_by_piece, by_old_kernel, by_new_kernel])
@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_every_way_equals_the_dense_form(way: Callable[..., Tensor], key_heads: int) -> None:
    documents = Documents.of(LENGTHS)
    ours, wanted = heads(20, 4, key_heads), heads(20, 4, key_heads)
    direction = torch.randn(20, 4, 16, dtype=torch.float64)
    out, expected = way(documents, *ours), dense(*wanted, documents.offsets)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    out.backward(direction)
    expected.backward(direction)
    for mine, theirs in zip(ours, wanted, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("signature", ["old", "new"])
def test_a_device_with_the_kernel_gives_the_same_logits(signature: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Llama(SHAPE)
    model.init_weights(seed=0)
    tokens = torch.randint(0, 64, (2, 10), generator=torch.Generator().manual_seed(0))
    documents = Documents.of(LENGTHS)
    expected = model(tokens, pattern=documents)
    kernel = Kernel()
    monkeypatch.setattr(attention, "fits_packed_kernel", lambda query: True)
    monkeypatch.setattr(varlen, "varlen_attn", getattr(kernel, signature))
    torch.testing.assert_close(model(tokens, pattern=documents), expected, rtol=0, atol=1e-6)
    assert kernel.calls == [{"longest": 8, "key_heads": 4 if signature == "old" else 2}] * SHAPE.num_hidden_layers


@pytest.mark.parametrize("key_heads", [1, 4])
def test_the_kernel_of_this_torch_takes_what_it_is_given(key_heads: int) -> None:
    # On the meta device nothing is computed, but the arguments are those of the real one.
    query = torch.empty(20, 4, 16, dtype=torch.bfloat16, device="meta")
    key = torch.empty(20, key_heads, 16, dtype=torch.bfloat16, device="meta")
    documents = Documents.of(LENGTHS, device=torch.device("meta"))
    out = attention_packed(documents.packing, query, key, key, kernel=varlen.varlen_attn)
    assert out.shape == query.shape and out.dtype == query.dtype


def test_a_cpu_goes_piece_by_piece_in_every_dtype() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        query, key, value = (tensor.detach().to(dtype).view(2, 10, -1, 16) for tensor in heads(20, 4, 2))
        out = attention_within(Documents.of(LENGTHS), query, key, value)
        q, k, v = heads(20, 4, 2)
        wanted = dense(q, k, v, Documents.of(LENGTHS).offsets)
        assert out.dtype == dtype
        torch.testing.assert_close(out.double(), wanted.view_as(out), rtol=0, atol=3e-2)


def test_documents_know_their_offsets() -> None:
    documents = Documents.of(LENGTHS)
    assert documents.offsets.tolist() == [0, 3, 4, 10, 12, 20] and documents.offsets.dtype == torch.int32
    assert documents.packing[2:] == (8, 8)
    moved = dataclasses.replace(documents, offsets=documents.offsets.clone())
    assert moved.lengths == LENGTHS


@pytest.mark.parametrize(
    ("offsets", "lengths", "words"),
    [
        (torch.tensor([0, 3]), (3,), "torch.int64"),
        (torch.tensor([0, 3], dtype=torch.int32), (2, 1), r"int32 \[3\]"),
        (torch.tensor([0, 3, 3], dtype=torch.int32), (3, 0), "document 1 of the batch has 0 tokens"),
    ],
)
def test_wrong_documents_are_refused(offsets: Tensor, lengths: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Documents(offsets, lengths)


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        ((10, 9), "2 documents have 19 tokens, but the batch has 2 x 10 = 20"),
        ((10, 11), "21 tokens"),
        ((), "0 documents have 0 tokens"),
        ((4, 12, 4), "crosses the end of a row of 10 tokens"),
        ((20,), "crosses the end of a row"),
    ],
)
def test_documents_that_do_not_fit_the_tokens_are_refused(lengths: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Llama(SHAPE)(torch.zeros(2, 10, dtype=torch.int64), pattern=Documents.of(lengths))


def test_documents_on_another_device_are_refused() -> None:
    documents = Documents.of(LENGTHS, device=torch.device("meta"))
    with pytest.raises(ValueError, match="on meta, the tokens on cpu"):
        Llama(SHAPE)(torch.zeros(2, 10, dtype=torch.int64), pattern=documents)


def test_documents_and_a_cache_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="documents and cache"):
        tokens = torch.zeros(2, 10, dtype=torch.int64)
        Llama(SHAPE)(tokens, cache=KeyValueCache(places=2), pattern=Documents.of(LENGTHS))


@pytest.mark.parametrize(
    "positions",
    [torch.zeros(10, dtype=torch.int64), torch.zeros(2, 9, dtype=torch.int64), torch.zeros(2, 10)],
)
def test_wrong_positions_are_refused(positions: Tensor) -> None:
    with pytest.raises(ValueError, match=r"must be int64 \[2, 10\]"):
        Llama(SHAPE)(torch.zeros(2, 10, dtype=torch.int64), positions=positions)


def test_logits_of_some_places_are_those_of_all() -> None:
    model = Llama(SHAPE)
    model.init_weights(seed=0)
    tokens = torch.randint(0, 64, (2, 10), generator=torch.Generator().manual_seed(0))
    at = torch.tensor([9, 0, 4])
    torch.testing.assert_close(model(tokens, at=at), model(tokens)[:, at], rtol=0, atol=1e-6)


def test_without_gradients_the_same_logits_come_out() -> None:
    model = Llama(SHAPE)
    model.init_weights(seed=0)
    tokens = torch.randint(0, 64, (2, 10), generator=torch.Generator().manual_seed(0))
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 1e-2)):
        with_gradients = model.to(dtype)(tokens)
        with torch.no_grad():
            torch.testing.assert_close(model(tokens), with_gradients, rtol=0, atol=tolerance)
