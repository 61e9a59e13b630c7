import logging

import orjson
import pytest

from megatron.corpus.document import CorpusError, Document


@pytest.fixture
def one(tmp_path, read):
    """Return a function that reads one record and returns its document, or why it was dropped."""

    def run(record, **settings):
        path = tmp_path / "a.jsonl"
        path.write_bytes(orjson.dumps(record) + b"\n")
        found, counts = read(path, **settings)
        if not found:
            ((reason, place),) = counts.examples
            return f"{reason}: {place.partition(': ')[2]}"
        assert sum(counts.kinds.values()) == 1
        return next(iter(counts.kinds)), found[0]

    return run


def document(*values):
    text, code, target, target_code = (*values, None, None, None)[:4]
    return Document(text, code, "a.jsonl:1", target, target_code)


@pytest.mark.parametrize(
    ("record", "kind", "expected"),
    [
        ({"text": "a", "original_code": "sw", "url": "u"}, "text", document("a", "sw")),
        ({"text": "a", "original_code": None}, "text", document("a")),
        ({"text": "a", "original_code": ""}, "text", document("a")),
        ({"text": "a", "src_text": "b", "tgt_text": "c"}, "text", document("a")),
        ({"text": None, "content": "x = 1", "lang": "Python"}, "code", document("x = 1")),
        (
            {"src_text": "a", "tgt_text": "b", "src_lang": "eng_Latn", "tgt_lang": "swh_Latn"},
            "pair",
            document("a", "eng_Latn", "b", "swh_Latn"),
        ),
        ({"src_text": "a", "tgt_text": "b"}, "pair", document("a", None, "b", None)),
        ({"prompt": "a?", "response": "b"}, "instruction", document("a?\n\nb")),
        ({"instruction": "a", "input": "x", "output": "b"}, "instruction", document("a\nx\n\nb")),
        ({"instruction": "a", "input": "", "output": "b"}, "instruction", document("a\n\nb")),
        ({"instruction": "a", "context": "x", "response": "b"}, "instruction", document("a\nx\n\nb")),
        ({"inputs": "a", "targets": "b", "original_code": "fr"}, "instruction", document("a\n\nb", "fr")),
        ({"system": "s", "question": "a", "answer": "b"}, "instruction", document("s\n\na\n\nb")),
        ({"prompt": "a", "completion": "b"}, "instruction", document("a\n\nb")),
        ({"messages": [{"role": "user", "content": "a"}]}, "instruction", document("a")),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            "instruction",
            document("a\n\nb"),
        ),
    ],
)
def test_kinds_are_told_by_their_fields(one, record, kind, expected):
    assert one(record) == (kind, expected)


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"src_text": "a"}, "wrong_fields: has neither 'text', nor 'src_text' with 'tgt_text', nor 'messages', nor "),
        ({"src_text": "a", "tgt_text": None}, "wrong_fields: has neither"),
        ({"src_text": "a", "tgt_text": 3}, "wrong_fields: field 'tgt_text' is not a string but a number"),
        ({"src_text": "a", "tgt_text": " "}, "blank: field 'tgt_text' is blank"),
        ({"src_text": "a", "tgt_text": "b", "src_lang": 1}, "wrong_fields: field 'src_lang' is not a string"),
        ({"prompt": "a"}, "wrong_fields: has neither"),
        ({"prompt": "a", "response": ["b"]}, "wrong_fields: field 'response' is not a string but a list"),
        ({"prompt": "", "response": "b"}, "blank: field 'prompt' is blank"),
        ({"messages": "a"}, "wrong_fields: field 'messages' is not a list of messages"),
        ({"messages": []}, "blank: the chat is blank"),
        ({"content": {}}, "wrong_fields: field 'content' is not a string but an object"),
        ({}, "wrong_fields: has neither 'text'"),
    ],
)
def test_what_cannot_be_used(one, record, problem):
    assert one(record).startswith(problem)


def test_the_error_lists_the_fields_that_there_are(one):
    assert one({"body": "a", "id": 1}).endswith("it has: body, id")


def test_fields_may_have_other_names(one):
    assert one({"body": "a", "lang": "sw"}, text_key="body", code_key="lang") == ("text", document("a", "sw"))
    keys = {"src_text_key": "en", "tgt_text_key": "sw", "src_lang_key": "l1", "tgt_lang_key": "l2"}
    assert one({"en": "a", "sw": "b", "l1": "e", "l2": "s"}, **keys) == ("pair", document("a", "e", "b", "s"))
    assert one({"q": "a", "input": "x", "a": "b"}, prompt_key="q", response_key="a")[1].text == "a\nx\n\nb"
    assert one({"input": "a", "output": "b"}, prompt_key="input")[1].text == "a\n\nb"
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert one({"chat": chat}, messages_key="chat")[1].text == "a\n\nb"


def test_the_source_says_which_kind_comes_first(one):
    record = {"text": "whole", "src_text": "a", "tgt_text": "b", "prompt": "p", "response": "r", "content": "c"}
    kinds = {source: one(record, source=source)[0] for source in ("bilingual", "instruction", "code", "book")}
    assert kinds == {"bilingual": "pair", "instruction": "instruction", "code": "code", "book": "text"}


def test_codes_for_what_carries_none(one):
    assert one({"text": "a"}, language="sw")[1] == document("a", "sw")
    assert one({"text": "a", "original_code": "fr"}, language="sw")[1] == document("a", "fr")
    assert one({"prompt": "a", "response": "b"}, language="sw")[1].original_code == "sw"
    pair = {"src_text": "a", "tgt_text": "b", "tgt_lang": "fr"}
    assert one(pair, language="en sw")[1] == document("a", "en", "b", "fr")
    assert one(pair | {"tgt_lang": None}, language="en")[1] == document("a", "en", "b", None)
    with pytest.raises(CorpusError, match="names two codes"):
        one({"text": "a"}, language="en sw")
    with pytest.raises(CorpusError, match="names 3 codes"):
        one({"text": "a"}, language="en sw fr")


def test_templates_are_applied_when_instructions_are_read(one):
    assert one({"prompt": "a", "response": "b"}, template="Q: {prompt} A: {response}")[1].text == "Q: a A: b"


def test_instructions_that_count_as_text_are_warned_of(one, caplog):
    with caplog.at_level(logging.WARNING, logger="megatron.corpus.reading.read"):
        one({"text": "a"})
        one({"prompt": "a", "response": "b"}, source="instruction")
        assert not caplog.text
        one({"prompt": "a", "response": "b"})
    assert "counts as monolingual text, but holds 1 instructions" in caplog.text


def test_errors_do_not_quote_without_end(one):
    assert len(one({f"{'x' * 1000}{number}": number for number in range(1000)})) < 600
    assert len(one({"messages": [{"role": "x" * 100_000, "content": "a"}]})) < 600
    assert "is no language code but 101 characters" in one({"text": "a", "original_code": "x" * 101})
    assert one({"text": "a", "original_code": "x" * 100})[0] == "text"
