"""Records to documents: which fields hold text, a pair of sentences, an instruction or code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from megatron.config.corpus_schema import InputConfig
from megatron.corpus.document import CorpusError, Document
from megatron.corpus.instructions import InstructionTemplate, Message
from megatron.corpus.reading.chats import chat_messages
from megatron.corpus.reading.problems import BrokenRecord, blank, listed

Record: TypeAlias = Mapping[str, Any]
#: Makes a document of a record and its id; raises :class:`BrokenRecord`.
ToDocument: TypeAlias = Callable[[Record, str], Document]

_CODE_FIELD = "content"
_CHAT_FIELDS = ("conversations",)
_PROMPT_FIELDS = ("instruction", "inputs", "question")
_CONTEXT_FIELDS = ("input", "context")
_RESPONSE_FIELDS = ("output", "targets", "completion", "answer")
_MAX_CODE_CHARACTERS = 100  # a longer one is no code
_ADVICE = "mend the file, or name the fields in the input's settings (text_key and its like)"


class RecordFields:
    """Makes documents of records, whatever kind they are of.

    The kinds are looked for in this order, after the one that the input's ``source`` names: a text; a pair; a chat; a
    prompt and its answer; code. A field without a value (null) counts as absent.

    Args:
        settings: the names of the fields, the source, and the codes of documents that carry none.
        template: turns instructions into text.
        kinds: counts the documents by kind.

    Attributes:
        names: every field that may be looked at.
    """

    def __init__(self, settings: InputConfig, template: InstructionTemplate, kinds: Counter[str]) -> None:
        self._settings, self._template, self._kinds = settings, template, kinds
        self._code_key = settings.code_key
        self._codes = language_codes(settings)
        self._chat = (settings.messages_key, *_CHAT_FIELDS)
        self._prompt = (settings.prompt_key, *_PROMPT_FIELDS)
        self._response = (settings.response_key, *_RESPONSE_FIELDS)
        pair = (settings.src_text_key, settings.tgt_text_key, settings.src_lang_key, settings.tgt_lang_key)
        instruction = (*self._chat, *self._prompt, *_CONTEXT_FIELDS, *self._response)
        self.names = (settings.text_key, settings.code_key, *pair, *instruction, "system", _CODE_FIELD)
        makers: dict[str, Callable[[Record, str], Document | None]] = {
            "monolingual": partial(self._alone, settings.text_key, "text"),
            "bilingual": self._pair,
            "instruction": self._instruction,
            "code": partial(self._alone, _CODE_FIELD, "code"),
        }
        first = settings.source if settings.source in makers else "monolingual"
        self._makers = (makers.pop(first), *makers.values())

    def document(self, record: Record, id: str) -> Document:
        """Return the document of a record.

        Raises:
            BrokenRecord: it is of no kind that is known, a field has the wrong type, or a text is blank.
            CorpusError: the settings do not fit the record.
        """
        for make in self._makers:
            document = make(record, id)
            if document is not None:
                return document
        settings = self._settings
        raise BrokenRecord(
            "wrong_fields",
            f"has neither {settings.text_key!r}, nor {settings.src_text_key!r} with {settings.tgt_text_key!r}, nor "
            f"{settings.messages_key!r}, nor {settings.prompt_key!r} with {settings.response_key!r}, nor "
            f"{_CODE_FIELD!r}; it has: {listed(record)}",
            _ADVICE,
        )

    def _alone(self, key: str, kind: str, record: Record, id: str) -> Document | None:
        text = record.get(key)
        if text is None:
            return None
        if type(text) is not str or not text or text.isspace():
            raise unusable(key, text)
        code = self._code(record)
        self._kinds[kind] += 1
        return Document(text, code, id)

    def _pair(self, record: Record, id: str) -> Document | None:
        settings = self._settings
        if record.get(settings.src_text_key) is None or record.get(settings.tgt_text_key) is None:
            return None
        text, target = _filled(record, settings.src_text_key), _filled(record, settings.tgt_text_key)
        source_code, target_code, *_ = (*self._codes, None, None)
        source_code = _code_in(record, settings.src_lang_key) or source_code
        target_code = _code_in(record, settings.tgt_lang_key) or target_code
        self._kinds["pair"] += 1
        return Document(text, source_code, id, target, target_code)

    def _instruction(self, record: Record, id: str) -> Document | None:
        messages = self._messages(record)
        if messages is None:
            return None
        code = self._code(record)
        self._kinds["instruction"] += 1
        return Document(self._template.text(messages), code, id)

    def _messages(self, record: Record) -> list[Message] | None:
        if chat := _first(record, self._chat):
            return chat_messages(record[chat], chat)
        prompt, response = _first(record, self._prompt), _first(record, self._response)
        if prompt is None or response is None:
            return None
        asked = [_filled(record, prompt)]
        asked += [_optional(record, key) for key in _CONTEXT_FIELDS if key not in (prompt, response)]
        messages = [
            Message("system", _optional(record, "system")),
            Message("user", "\n".join(text for text in asked if text)),
            Message("assistant", _filled(record, response)),
        ]
        return messages if messages[0].content else messages[1:]

    def _code(self, record: Record) -> str | None:
        """Return the language code of a document that stands alone."""
        code = record.get(self._code_key)
        if type(code) is str and 0 < len(code) <= _MAX_CODE_CHARACTERS:
            return code
        code = _code_in(record, self._code_key)
        if code is None and len(self._codes) > 1:
            raise CorpusError(
                f"{self._settings.path}: its language {self._settings.language!r} names two codes, as for pairs, but "
                "it holds texts that stand alone; give one code, or an input of its own to each kind"
            )
        return code or next(iter(self._codes), None)


def text_only(record: Record, id: str, *, text_key: str, kinds: Counter[str]) -> Document:
    """Make a document of a record that must be a text and nothing else.

    Args:
        record: the record.
        id: the document's id.
        text_key: the field that holds the text.
        kinds: counts the document as a ``text``.

    Raises:
        BrokenRecord: it has no such field, a field has the wrong type, or the text is blank.
    """
    if text_key not in record:
        raise BrokenRecord("wrong_fields", f"has no field {text_key!r}; it has: {listed(record)}", "give --jsonl-keys")
    text, code = record[text_key], record.get("original_code")
    if type(text) is not str or not text or text.isspace():
        raise unusable(text_key, text, "mend it or give --jsonl-keys")
    if code is not None and type(code) is not str:
        raise unusable("original_code", code, "mend the file")
    kinds["text"] += 1
    return Document(text, code, id)


def language_codes(settings: InputConfig) -> tuple[str, ...]:
    """Return the codes that an input's settings give its documents: none, one, or those of both sides.

    Raises:
        CorpusError: there are more than two.
    """
    codes = tuple((settings.language or "").split())
    if len(codes) > 2:
        raise CorpusError(f"{settings.path}: language {settings.language!r} names {len(codes)} codes; a pair has two")
    return codes


def unusable(key: str, value: Any, advice: str = _ADVICE) -> BrokenRecord:
    """Return what is wrong with a field that should hold a text: its type, or that it is blank."""
    if isinstance(value, str):
        return blank(f"field {key!r}")
    return BrokenRecord("wrong_fields", f"field {key!r} is not a string but {kind_of(value)}", advice)


def kind_of(value: Any) -> str:
    """Name the kind of a JSON value."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _filled(record: Record, key: str) -> str:
    value = record[key]
    if type(value) is not str or not value or value.isspace():
        raise unusable(key, value)
    return str(value)


def _optional(record: Record, key: str) -> str:
    value = record.get(key)
    return value if isinstance(value, str) and not value.isspace() else ""


def _code_in(record: Record, key: str) -> str | None:
    code = record.get(key)
    if code is not None and type(code) is not str:
        raise unusable(key, code)
    if code is not None and len(code) > _MAX_CODE_CHARACTERS:
        raise BrokenRecord("wrong_fields", f"field {key!r} is no language code but {len(code):,} characters", _ADVICE)
    return code or None


def _first(record: Record, keys: Sequence[str]) -> str | None:
    """Return the first of some fields that has a value."""
    return next((key for key in keys if record.get(key) is not None), None)
