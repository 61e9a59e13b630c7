"""TMX: translation units as XML, read as a stream.

Nothing that a file asks for is fetched or expanded: the DOCTYPE line of TMX is passed over, and a DOCTYPE that declares
anything itself, as an attack with entities has to, is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.parsers import expat

from megatron.corpus.document import CorpusError, Document
from megatron.corpus.reading.problems import BrokenRecord, Problems, blank

# What these elements hold is mark-up of the original document, not text.
_CODES_INSIDE = frozenset(("bpt", "ept", "it", "ph", "ut"))
_MAX_DEPTH = 100
_MAX_CODE_CHARACTERS = 100


class _Segment(NamedTuple):
    code: str
    text: str


class _Unit(NamedTuple):
    segments: list[_Segment]
    too_long: bool
    unknown_entity: str


def tmx_documents(codes: Sequence[str], name: str, problems: Problems) -> Iterator[Document]:
    """Yield the pairs of a TMX file.

    Args:
        codes: the codes of the two sides to take from units that have more, compared without case, ``_`` as ``-``, and
            where that finds nothing by their language alone (``en`` for ``en-GB``); without them, units have two sides
            and the order is the file's.
        name: begins the documents' ids, ``<name>:<unit>``.
        problems: the file, plain or compressed, and what to do with units that cannot be used.

    Raises:
        CorpusError: the file is no XML, declares entities, or cannot be read; or a unit is broken and the policy is to
            stop there. What comes after broken XML cannot be read, whatever the policy.
    """
    for number, unit in enumerate(_units(problems), start=1):
        try:
            first, second = _sides(unit, codes, problems)
        except BrokenRecord as broken:
            problems.drop(number, broken)
            continue
        problems.counts.kinds["pair"] += 1
        yield Document(first.text, first.code or None, f"{name}:{number}", second.text, second.code or None)


def _units(problems: Problems) -> Iterator[_Unit]:
    parser = _Parser(problems.policy.max_document_bytes)
    try:
        for chunk in problems.chunks():
            yield from parser.feed(chunk)
        if not problems.is_cut:
            parser.close()
    except CorpusError:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:  # the latter two: an encoding that is not known
        raise CorpusError(f"{problems.path}: not well-formed XML ({error}); mend or fetch it again") from None
    except _Refused as refused:
        raise CorpusError(f"{problems.path}: {refused}") from None


def _sides(unit: _Unit, codes: Sequence[str], problems: Problems) -> tuple[_Segment, _Segment]:
    if unit.too_long:
        raise problems.too_long()
    if unit.unknown_entity:
        problem = f"holds the entity &{unit.unknown_entity}; which is not defined"
        raise BrokenRecord("wrong_fields", problem, "write the character in its place")
    segments = unit.segments
    if len(codes) == 2:
        segments = [found for code in codes if (found := _find(segments, code)) is not None]
    if len(segments) != 2:
        has = ", ".join(segment.code or "without a code" for segment in unit.segments) or "none"
        problem = f"has not two sides; its segments: {has}"
        raise BrokenRecord("wrong_fields", problem, "name the two codes to take by the input's language")
    if not all(segment.text.strip() for segment in segments):
        raise blank("a side of the unit")
    return segments[0], segments[1]


def _find(segments: Sequence[_Segment], code: str) -> _Segment | None:
    wanted = code.lower().replace("_", "-")
    tags = [segment.code.lower().replace("_", "-") for segment in segments]
    for found in (tags, [tag.partition("-")[0] for tag in tags]):
        if wanted in found:
            return segments[found.index(wanted)]
    return None


class _Refused(Exception):  # noqa: N818 - it never leaves this module
    pass


class _Parser:
    """Collects translation units (``tu``) from an XML parser that is fed piece by piece."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._fed_bytes = 0
        self._units: list[_Unit] = []
        self._open: list[str] = []  # the names of the elements that we are in
        self._segments: list[_Segment] = []
        self._code = ""
        self._text: list[str] = []
        self._size = 0  # characters of the unit so far
        self._entity = ""
        self._in_text = False
        parser = self._parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.SkippedEntityHandler = self._skipped

    def feed(self, data: bytes) -> list[_Unit]:
        """Parse on, and return the units that have ended."""
        self._parser.Parse(data, False)
        self._fed_bytes += len(data)
        # An element or comment that goes on and on is kept by the parser until it ends.
        if self._fed_bytes - self._parser.CurrentByteIndex > self._max_bytes + len(data):
            raise _Refused(f"holds a tag or comment longer than {self._max_bytes:,} bytes; mend or fetch it again")
        units, self._units = self._units, []
        return units

    def close(self) -> None:
        """Say that nothing follows; raises ``ExpatError`` when something is still open."""
        self._parser.Parse(b"", True)

    def _doctype(self, name: str, system: str | None, public: str | None, has_internal_subset: bool) -> None:
        if has_internal_subset:
            raise _Refused("its DOCTYPE declares entities or attributes, which TMX does not need; remove the DOCTYPE")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._open.append(name)
        if len(self._open) > _MAX_DEPTH:
            raise _Refused(f"its elements are nested more than {_MAX_DEPTH} deep; this is no TMX")
        if name == "tu":
            self._segments, self._size, self._entity = [], 0, ""
        elif name == "tuv":
            self._code = (attributes.get("xml:lang") or attributes.get("lang") or "")[:_MAX_CODE_CHARACTERS]
        elif name == "seg":
            self._text = []
        self._in_text = "seg" in self._open and _CODES_INSIDE.isdisjoint(self._open)

    def _end(self, name: str) -> None:
        self._open.pop()
        self._in_text = "seg" in self._open and _CODES_INSIDE.isdisjoint(self._open)
        if name == "seg":
            self._segments.append(_Segment(self._code, "".join(self._text)))
            self._text = []
        elif name == "tu":
            self._units.append(_Unit(self._segments, self._size > self._max_bytes, self._entity))
            self._segments = []

    def _characters(self, data: str) -> None:
        if self._in_text:
            self._size += len(data)
            if self._size <= self._max_bytes:
                self._text.append(data)

    def _skipped(self, name: str, is_parameter_entity: bool) -> None:
        if self._in_text:
            self._entity = name
