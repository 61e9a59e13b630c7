"""Where products in 8 bits are refused: matrices, machines and installations that have none."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from megatron.config.architecture import Architecture
from megatron.config.float8_rules import side_problems
from megatron.model.llama import Llama
from megatron.parallel.float8 import check_float8, has_float8, use_float8

ABLE, ODD = Architecture(64, 64, 96, 2, 8, 4, 8, 64), Architecture(64, 72, 104, 2, 9, 3, 8, 64)


def test_sides_that_do_not_fit_are_listed_together() -> None:
    with pytest.raises(ValueError, match="multiples of 16") as error:
        use_float8(Llama(ODD), "rowwise")
    for size in ("hidden_size = 72 (all)", "x head_dim = 72 (q_", "x head_dim = 24 (k_", "intermediate_size = 104 (g"):
        assert size in str(error.value)
    assert list(side_problems(ODD)) == [str(error.value)] and not list(side_problems(ABLE))


@pytest.fixture
def without_torchao(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    plain = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("torchao"):
            raise ImportError(f"No module named {name!r}")
        return plain(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    yield


@pytest.mark.usefixtures("without_torchao")
def test_without_the_package_the_install_line_is_named() -> None:
    with pytest.raises(ValueError, match=r"pip install torchao==\d"):
        use_float8(Llama(ABLE), "rowwise")


def test_a_device_without_such_products_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the CPU has no matrix products in 8 bits.*H100.*Remove `fp8`"):
        check_float8(torch.device("cpu"))


@pytest.mark.parametrize(
    ("capability", "architecture", "able"),
    [
        ((8, 0), None, False),  # A100
        ((8, 6), None, False),
        ((8, 9), None, True),  # L40
        ((9, 0), None, True),  # H100
        ((10, 0), None, True),  # B200
        ((9, 0), "gfx90a:sramecc+:xnack-", False),  # MI250, whose capability looks like an H100's
        ((9, 4), "gfx942:sramecc+:xnack-", True),  # MI300
        ((9, 5), "gfx950", True),  # MI350
    ],
)
def test_which_gpus_have_them(capability: tuple[int, int], architecture: str | None, able: bool) -> None:
    assert has_float8(capability, architecture) is able
