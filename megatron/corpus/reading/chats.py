"""Chats and instructions as they come in records, as messages."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from megatron.corpus.instructions import Message
from megatron.corpus.reading.problems import BrokenRecord, blank

# What roles are called in OpenAI's, ShareGPT's and other chats.
_ROLES: Mapping[str, str] = MappingProxyType(
    {
        "system": "system",
        "developer": "system",
        "user": "user",
        "human": "user",
        "prompter": "user",
        "assistant": "assistant",
        "gpt": "assistant",
        "bot": "assistant",
        "chatbot": "assistant",
        "model": "assistant",
        "chatgpt": "assistant",
        "bing": "assistant",
        "bard": "assistant",
        "tool": "tool",
        "function": "tool",
        "function_call": "tool",
        "observation": "tool",
    }
)
_ADVICE = "mend it, or name another field by messages_key"


def chat_messages(chat: Any, field: str) -> list[Message]:
    """Return the messages of a chat, ``[{role, content}, ...]`` or ``[{from, value}, ...]``; blank ones are left out.

    Args:
        chat: the value of a record's field.
        field: its name, for errors.

    Raises:
        BrokenRecord: it is no such list, names a role that is not known, or says nothing.
    """
    if not isinstance(chat, list):
        raise _wrong(f"field {field!r} is not a list of messages")
    messages = [_message(each, f"message {number} of {field!r}") for number, each in enumerate(chat, start=1)]
    messages = [each for each in messages if each.content and not each.content.isspace()]
    if not messages:
        raise blank("the chat")
    return messages


def _message(message: Any, place: str) -> Message:
    if not isinstance(message, dict):
        raise _wrong(f"{place} is not an object")
    role = message["role"] if "role" in message else message.get("from")
    content = message["content"] if "content" in message else message.get("value")
    if isinstance(content, list):
        content = _joined_parts(content, place)
    if not isinstance(role, str) or role.lower() not in _ROLES:
        raise _wrong(f"{place} has the role {role!r}, which is not one of {', '.join(_ROLES)}")
    if not isinstance(content, str):
        raise _wrong(f"{place} has no text in 'content' or 'value'")
    return Message(_ROLES[role.lower()], content)


def _joined_parts(parts: list[Any], place: str) -> str:
    """Return the text of a message in parts, ``[{"type": "text", "text": ...}, ...]``; a picture is no text."""
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise _wrong(f"{place} has a part that is no text")
    return "".join(text for text in texts if isinstance(text, str))


def _wrong(problem: str) -> BrokenRecord:
    return BrokenRecord("wrong_fields", problem, _ADVICE)
