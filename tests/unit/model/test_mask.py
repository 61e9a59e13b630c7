from __future__ import annotations

import pytest
import torch

from megatron.model.attention import Documents
from megatron.model.mask import Mask


@pytest.mark.parametrize("key_heads", [4, 2, 1])
def test_a_mask_of_documents_is_attention_within_documents(key_heads: int) -> None:
    torch.manual_seed(0)
    query = torch.randn(2, 6, 4, 8, dtype=torch.float64)
    key, value = torch.randn(2, 2, 6, key_heads, 8, dtype=torch.float64).unbind(0)
    documents = Documents.of([2, 4, 6])
    visible = torch.zeros(2, 6, 6, dtype=torch.bool)
    for row, start, length in ((0, 0, 2), (0, 2, 4), (1, 0, 6)):
        visible[row, start : start + length, start : start + length] = torch.ones(length, length).tril().bool()
    mask = Mask(visible)
    mask.check(torch.Size((2, 6)), torch.device("cpu"))
    torch.testing.assert_close(mask.attend(query, key, value), documents.attend(query, key, value))
    assert mask.mapped(lambda tensor: tensor[:1]).visible.shape == (1, 6, 6)


def test_a_mask_that_does_not_fit_is_refused() -> None:
    visible = torch.ones(2, 6, 6, dtype=torch.bool)
    for wrong, shape in ((visible, (2, 5)), (visible, (1, 6)), (visible.float(), (2, 6))):
        with pytest.raises(ValueError, match=r"must be bool \[\d, \d, \d\]"):
            Mask(wrong).check(torch.Size(shape), torch.device("cpu"))
    with pytest.raises(ValueError, match="the mask is on cpu, the tokens on meta"):
        Mask(visible).check(torch.Size((2, 6)), torch.device("meta"))
