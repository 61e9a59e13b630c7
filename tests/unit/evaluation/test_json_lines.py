from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from megatron.evaluation.json_lines import FileError, read_json_lines
from megatron.utils.files import fingerprint_file

TEXT = st.text(st.characters(codec="utf-8"))
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)


def number_of(record: dict[str, Any]) -> int:
    if "n" not in record:
        raise ValueError("there is no n")
    return int(record["n"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(TEXT, TEXT | NUMBERS)))
def test_what_is_written_is_read(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps(record) for record in records) + b"\n\r\n \n")
    found, fingerprint = read_json_lines(path, dict)
    assert found == [json.loads(orjson.dumps(record)) for record in records]
    assert fingerprint == fingerprint_file(path)


def test_all_that_is_wrong_is_told_by_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"n": 1}\n\n[1]\n{"n": 2\n{"m": 1}\n"x"\n')
    with pytest.raises(FileError) as caught:
        read_json_lines(path, number_of)
    told = [problem.removeprefix(f"{path}, ") for problem in caught.value.problems]
    assert told[0] == "line 3: no object" and told[1].startswith("line 4: no JSON (")
    assert told[2:] == ["line 5: there is no n", "line 6: no object"] and str(path) in str(caught.value)
    path.write_bytes(b"{}\n" * 10)
    with pytest.raises(FileError) as caught:
        read_json_lines(path, number_of)
    assert len(caught.value.problems) == 9 and caught.value.problems[8] == f"{path}: 2 more problems like these"


def test_files_that_are_missing_too_large_or_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.jsonl"
    with pytest.raises(FileError, match=r"x\.jsonl cannot be read \(No such file"):
        read_json_lines(path, dict)
    with pytest.raises(FileError, match=r"cannot be read \(Is a directory"):
        read_json_lines(tmp_path, dict)
    path.write_bytes(b'{"n": 1}\n')
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_json_lines(path, number_of, sha256=right)[0] == [1]
    with pytest.raises(FileError, match=r"x\.jsonl is not the file that its manifest describes"):
        read_json_lines(path, number_of, sha256="0" * 64)
    with path.open("wb") as file:
        file.truncate((1 << 20) + 1)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("read"))
    with pytest.raises(FileError, match=r"x\.jsonl is larger than 1 MiB"):
        read_json_lines(path, dict, most_bytes=1 << 20)
