from __future__ import annotations

import pytest

from megatron.utils.tool import counts_by_name


def test_counts_by_name() -> None:
    assert counts_by_name(["a=1", "b_Latn=20"], option="--x") == {"a": 1, "b_Latn": 20}
    with pytest.raises(ValueError, match=r"--x a= =3 c=-1 d: give NAME=COUNT"):
        counts_by_name(["ok=1", "a=", "=3", "c=-1", "d"], option="--x")
