from __future__ import annotations

from pathlib import Path

import pytest

from megatron.utils.tool import counts_by_name, paths_of


def test_counts_by_name() -> None:
    assert counts_by_name(["a=1", "b_Latn=20"], option="--x") == {"a": 1, "b_Latn": 20}
    with pytest.raises(ValueError, match=r"--x a= =3 c=-1 d: give NAME=COUNT"):
        counts_by_name(["ok=1", "a=", "=3", "c=-1", "d"], option="--x")


def test_paths_have_commas_or_blanks_between(tmp_path: Path) -> None:
    (tmp_path / "a,b").mkdir()
    here = str(tmp_path / "a,b")
    assert paths_of(["a,b", "c", here, ""]) == [Path("a"), Path("b"), Path("c"), Path(here)]
