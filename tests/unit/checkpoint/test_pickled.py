from __future__ import annotations

import argparse
import os
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from megatron.checkpoint.convert.pickled import read_pickled
from megatron.checkpoint.convert.source import ConversionError


class Scaler:
    def __init__(self, scale: float) -> None:
        self.scale = scale


class Runs:
    """Asks for a function to be called when it is read."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def test_tensors_are_read_and_objects_are_not(tmp_path: Path) -> None:
    tensor = torch.randn(4, 3, dtype=torch.bfloat16)
    found = {
        "module": {"weight": tensor}, "args": argparse.Namespace(secret=1), "scaler": Scaler(3.0), "iteration": 7,
        "random": random.getstate(), "numpy": np.random.get_state(), "number": np.float64(2.0),
    }  # fmt: skip
    torch.save(found, tmp_path / "x.pt")
    read = read_pickled(tmp_path / "x.pt")
    assert torch.equal(read["module"]["weight"], tensor) and read["iteration"] == 7
    assert not hasattr(read["args"], "secret") and not hasattr(read["scaler"], "scale")


@pytest.mark.parametrize("function", ["system", "eval", "Path.write_text"])
def test_nothing_is_run(function: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    calls = {
        "system": Runs(os.system, f"touch {mark}"),
        "eval": Runs(eval, f"open({str(mark)!r}, 'w')"),
        "Path.write_text": Runs(Path.write_text, mark, "x"),
    }
    torch.save({"weight": torch.ones(2), "more": calls[function]}, tmp_path / "x.pt")
    try:
        assert read_pickled(tmp_path / "x.pt")["weight"].sum() == 2
    except ConversionError as error:
        assert "asks for code to be run" in str(error)
    assert not mark.exists()


def test_what_is_no_such_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"a": torch.ones(1000)}, path)
    whole = path.read_bytes()
    for data in (b"", b"hello", whole[:2000], whole[:-30]):
        path.write_bytes(data)
        with pytest.raises(ConversionError, match=r"is no whole file that torch.save has written"):
            read_pickled(path)
    torch.save([1, 2], path)
    with pytest.raises(ConversionError, match="holds a list, not a dictionary"):
        read_pickled(path)
    torch.save({"a": 1}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ConversionError, match=r"PyTorch 1.6 or later"):
        read_pickled(path)


def test_a_file_that_would_unfold_is_not_read(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1000)}, tmp_path / "x.pt")
    packed = zipfile.ZipFile(tmp_path / "y.pt", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "x.pt") as old, packed as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(ConversionError, match=r"is packed, which torch.save never does"):
        read_pickled(tmp_path / "y.pt")


def test_what_others_trust_is_not_trusted(tmp_path: Path) -> None:
    """megatron.core tells PyTorch to trust parts of numpy and argparse as soon as it is imported."""
    torch.save({"args": argparse.Namespace(secret=1), "numpy": np.random.get_state()}, tmp_path / "x.pt")
    with torch.serialization.safe_globals([argparse.Namespace, np.ndarray]):
        assert not hasattr(read_pickled(tmp_path / "x.pt")["args"], "secret")
        assert {argparse.Namespace, np.ndarray} <= set(torch.serialization.get_safe_globals())
    kept = read_pickled(tmp_path / "x.pt", {"argparse.Namespace": argparse.Namespace})["args"]
    assert kept.secret == 1
