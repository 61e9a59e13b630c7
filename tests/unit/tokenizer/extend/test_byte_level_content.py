"""Which ``tokenizer.json`` can be extended, and why others cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from megatron.tokenizer.base import TokenizerError
from megatron.tokenizer.export import tiktoken_json
from megatron.tokenizer.extend.byte_level_content import bytes_of, read_content, spelled
from megatron.tokenizer.extend.byte_level_old import ByteLevelOld

BYTES = {bytes([byte]): byte for byte in range(256)}
CONTENT = json.loads(
    tiktoken_json({**BYTES, b"ab": 256, b"abc": 257, b"bc": 258}, special_tokens=["<eod>"], pattern=r"\w+|\W+")
)


def test_what_is_read_is_written_with_more(tmp_path: Path) -> None:
    content = read_content(json.dumps(CONTENT).encode(), tmp_path)
    assert content.size == 260
    assert content.pattern == r"\w+|\W+"
    assert json.loads(content.extended([]))["model"]["merges"] == CONTENT["model"]["merges"]
    longer = json.loads(content.extended([b"cab", b"ca"]))
    assert longer["model"]["vocab"].items() >= {"<eod>": 259, "cab": 260, "ca": 261}.items()
    # "cab" is before its own part, as its id is.
    assert longer["model"]["merges"] == [["a", "b"], ["a", "bc"], ["ab", "c"], ["b", "c"], ["c", "ab"], ["ca", "b"],
                                         ["c", "a"]]  # fmt: skip
    # What is written can be extended again, and older files write a merge as one string.
    again = read_content(content.extended([b"ca"]).encode(), tmp_path)
    assert (again.size, again.ranks[b"ca"]) == (261, 260)
    old_style = {**CONTENT, "model": {**CONTENT["model"], "merges": [" ".join(m) for m in CONTENT["model"]["merges"]]}}
    written = json.loads(read_content(json.dumps(old_style).encode(), tmp_path).extended([b"ca"]))
    assert written["model"]["merges"][-1] == "c a"


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(content: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for name in parents:
            content = content[int(name) if name.isdecimal() else name]
        content[last] = value

    return apply


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([change("model.type", "Unigram")], "no tokenizer.json with a BPE vocabulary"),
        ([change("model.byte_fallback", True)], "give that, tokenizer.model"),
        ([change("model.ignore_merges", False)], "ignore_merges is not true"),
        ([change("model.dropout", 0.1)], "dropout"),
        ([change("normalizer", {"type": "NFC"})], "cuts text in another way"),
        ([change("pre_tokenizer.pretokenizers.0.behavior", "Removed")], "cuts text in another way"),
        ([change("pre_tokenizer.pretokenizers.1.use_regex", True)], "cuts text in another way"),
        ([change("pre_tokenizer", {"type": "ByteLevel"})], "cuts text in another way"),
        ([change("model.vocab.€", 300)], "1 tokens are not spelled in the letters of bytes, such as '€'"),
        (
            [change("model.merges", [["a", "b"], ["ab", "c"], ["b", "c"]])],
            r"1 splits are no merges and 0 merges are no splits, such as a \+ bc",
        ),
        (
            [change("model.merges", [["b", "c"], ["a", "b"], ["ab", "c"], ["a", "bc"]])],
            r"not in the order of the ids of their tokens, each once: the first that differs is merge 0, b \+ c",
        ),
        ([lambda content: content["model"]["merges"].append(["a", "b"])], "each once: the first .* is merge 4"),
        ([lambda content: content["model"]["vocab"].pop("!")], "1 of the 256 single bytes are no tokens"),
    ],
)
def test_others_are_refused_with_the_reason(
    tmp_path: Path, changes: list[Callable[[dict[str, Any]], None]], message: str
) -> None:
    content = json.loads(json.dumps(CONTENT))
    for apply in changes:
        apply(content)
    with pytest.raises(TokenizerError, match=message):
        read_content(json.dumps(content).encode(), tmp_path / "tokenizer.json")


@pytest.mark.parametrize("data", [b"{", b"[]", b"\xff", b'{"model": 3}', b'{"model": {"vocab": []}}'])
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(TokenizerError, match=r"is not JSON|no tokenizer\.json"):
        read_content(data, tmp_path / "tokenizer.json")


def test_a_tokenizer_json_of_a_sentencepiece_model_is_refused(hf_folder: Path) -> None:
    with pytest.raises(TokenizerError, match=r"made from a SentencePiece model; give that, tokenizer\.model"):
        ByteLevelOld(hf_folder, longest=16)


def test_an_added_token_that_is_a_word_is_refused(tmp_path: Path) -> None:
    content = json.loads(json.dumps(CONTENT))
    content["added_tokens"][0]["content"] = "eod"
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "eod"}')
    with pytest.raises(TokenizerError, match="'eod' is a single word of text"):
        ByteLevelOld(tmp_path, longest=16)


@pytest.mark.parametrize("token", [b"\x00 a\xff", "é\n".encode()])
def test_spelling_goes_both_ways(token: bytes) -> None:
    assert bytes_of(spelled(token)) == token
