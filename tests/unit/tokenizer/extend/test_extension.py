"""``extension.json``: what is written is read again, and what is not one is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from megatron.tokenizer.base import TokenizerError
from megatron.tokenizer.extend.extension import Extension

EXTENSION = Extension(
    old_fingerprint="old", new_fingerprints=["new", "same"], old_size=10, spellings=[(1, 2), (9,), (0, 0, 3)]
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    EXTENSION.save(tmp_path)
    assert Extension.load(tmp_path) == Extension.load(tmp_path / "extension.json") == EXTENSION
    assert EXTENSION.new_size == 13


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 1}, "format 2"),
        ({"old_fingerprint": 3}, "old_fingerprint is not a string"),
        ({"new_fingerprints": "new"}, "new_fingerprints is not a list of strings"),
        ({"new_fingerprints": []}, "new_fingerprints is not a list of strings"),
        ({"new_fingerprints": ["new", 3]}, "new_fingerprints is not a list of strings"),
        ({"old_size": True}, "old_size is True"),
        ({"spellings": []}, "spellings is not a list"),
        ({"spellings": [[1], []]}, "spelling 1 is not a list"),
        ({"spellings": [[1], [10]]}, "spelling 1 has 10"),
        ({"spellings": [["1"]]}, "spelling 0 has '1'"),
    ],
)
def test_what_is_no_extension_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    EXTENSION.save(tmp_path)
    file = tmp_path / "extension.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(TokenizerError, match=message):
        Extension.load(tmp_path)


def test_a_file_that_is_not_there_or_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"cannot be read.*extend_tokenizer"):
        Extension.load(tmp_path)
    (tmp_path / "extension.json").write_bytes(b"\xff{")
    with pytest.raises(TokenizerError, match="is not JSON"):
        Extension.load(tmp_path)
