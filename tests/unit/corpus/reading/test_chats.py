import pytest

from megatron.corpus.instructions import Message
from megatron.corpus.reading.chats import chat_messages
from megatron.corpus.reading.problems import BrokenRecord


@pytest.mark.parametrize(
    ("name", "role"),
    [("user", "user"), ("human", "user"), ("GPT", "assistant"), ("developer", "system"), ("function", "tool")],
)
def test_roles_have_many_names(name, role):
    assert chat_messages([{"role": name, "content": "a"}], "messages") == [Message(role, "a")]
    assert chat_messages([{"from": name, "value": "a"}], "messages") == [Message(role, "a")]


def test_parts_of_text_are_joined_and_blank_messages_left_out():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    chat = [{"role": "system", "content": " "}, {"role": "user", "content": parts}]
    assert chat_messages(chat, "messages") == [Message("user", "ab")]


@pytest.mark.parametrize(
    ("chat", "problem"),
    [
        (None, "is not a list"),
        ({"role": "user"}, "is not a list"),
        (["a"], "message 1 of 'messages' is not an object"),
        ([{"content": "a"}], "has the role None"),
        ([{"role": "narrator", "content": "a"}], "has the role 'narrator'"),
        ([{"role": 3, "content": "a"}], "has the role 3"),
        ([{"role": "user"}], "has no text"),
        ([{"role": "user", "content": None}], "has no text"),
        ([{"role": "user", "content": [{"type": "image", "text": "a"}]}], "a part that is no text"),
        ([{"role": "user", "content": [{"type": "text"}]}], "a part that is no text"),
        ([{"role": "user", "content": ["a"]}], "a part that is no text"),
        ([{"role": "user", "content": ""}], "is blank"),
    ],
)
def test_what_is_no_chat(chat, problem):
    with pytest.raises(BrokenRecord, match=problem):
        chat_messages(chat, "messages")
