"""Instructions and chats as text to train on, by a template.

The words that mark roles are text like any other: the tokenizers of the base models have no ids for them, and those
that have some never take them from text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from megatron.config.corpus_schema import InstructionsConfig
from megatron.corpus.document import CorpusError
from megatron.corpus.placeholders import Template, is_template, unescape

#: Who speaks in a chat.
ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Message:
    """One message of a chat.

    Attributes:
        role: one of :data:`ROLES`.
        content: what is said.
    """

    role: str
    content: str


class _Shape(NamedTuple):
    template: str
    separator: str


_ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{prompt}\n\n### Response:\n{response}"
)
#: The built-in templates. ChatML is OpenAI's; the wording of alpaca is that of tatsu-lab/stanford_alpaca.
BUILT_IN: Mapping[str, _Shape] = MappingProxyType(
    {
        "plain": _Shape("{content}", "\n\n"),
        "chatml": _Shape("<|im_start|>{role}\n{content}<|im_end|>", "\n"),
        "alpaca": _Shape(_ALPACA, "\n\n"),
    }
)
_MESSAGE_FIELDS = ("role", "content")
_TURN_FIELDS = ("prompt", "response", "system")


class InstructionTemplate:
    """Turns a chat into text.

    A template with ``{content}`` (and perhaps ``{role}``) is filled once for each message. One with ``{prompt}`` and
    ``{response}`` (and perhaps ``{system}``) is filled once for each turn: all that is said until the assistant has
    spoken. Where a turn has no answer, its text ends where the answer would begin; where the template has no place for
    the system's message, that message begins the prompt. What a role says in several messages is put together.

    Args:
        settings: the template and what stands between messages or turns.

    Raises:
        CorpusError: no template of that name, or a template with wrong placeholders.
    """

    def __init__(self, settings: InstructionsConfig) -> None:
        shape = BUILT_IN.get(settings.template)
        if shape is None and not is_template(settings.template):
            raise CorpusError(
                f"instructions.template {settings.template!r}: no such template; use {', '.join(BUILT_IN)}, or write "
                "one of your own, such as 'Question: {prompt}\\nAnswer: {response}'"
            )
        shape = shape or _Shape(settings.template, "\n\n")
        self._separator = shape.separator if settings.separator is None else unescape(settings.separator)
        setting = "instructions.template"
        fields = Template(shape.template, allowed=_MESSAGE_FIELDS + _TURN_FIELDS, setting=setting).fields
        self._per_message = not fields.isdisjoint(_MESSAGE_FIELDS)
        self._template = (
            Template(shape.template, allowed=_MESSAGE_FIELDS, required=("content",), setting=setting)
            if self._per_message
            else Template(shape.template, allowed=_TURN_FIELDS, required=("prompt", "response"), setting=setting)
        )

    def text(self, messages: Sequence[Message]) -> str:
        """Return the text of a chat."""
        if self._per_message:
            parts = [self._template.fill({"role": each.role, "content": each.content}) for each in messages]
        else:
            parts = [self._turn(turn) for turn in _turns(messages)]
        return self._separator.join(parts)

    def _turn(self, turn: Sequence[Message]) -> str:
        said = {role: "\n\n".join(each.content for each in turn if each.role == role) for role in ROLES}
        values = {"system": said["system"], "response": said["assistant"]}
        before = [said["user"], said["tool"]]
        if "system" not in self._template.fields:
            before.insert(0, said["system"])
        values["prompt"] = "\n\n".join(text for text in before if text)
        return self._template.fill(values, before=None if said["assistant"] else "response")


def _turns(messages: Sequence[Message]) -> list[list[Message]]:
    """Split a chat in front of every message that follows the assistant's and is not the assistant's."""
    turns: list[list[Message]] = []
    for message in messages:
        if not turns or (turns[-1][-1].role == "assistant" and message.role != "assistant"):
            turns.append([])
        turns[-1].append(message)
    return turns
