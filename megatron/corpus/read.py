"""Reading raw text: JSON lines files, plain or compressed, and the folders they lie in.

One JSON object a line with the text in one field (``text``) and, optionally, the code its author gave the language
(``original_code``). Files are read as streams: memory is bounded by the longest line, whatever the file's size.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import orjson
import zstandard

from megatron.corpus.languages import Label, parse_label, parse_pair, script_subtag, to_iso639_3
from megatron.corpus.script import NO_SCRIPT, main_script
from megatron.utils.log import get_logger

#: The endings of files that can be read.
DOCUMENT_SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst")

#: The longest line that is read, in bytes; a longer one is a broken file or a decompression bomb.
MAX_LINE_BYTES = 256 << 20

_CHUNK_BYTES = 1 << 20
# A zstd block of 4 bytes can stand for 128 KiB, so this much compressed data becomes 128 MiB at the most.
_ZSTD_INPUT_BYTES = 4096
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# How many documents are looked at, and how much of each, to find the language of a corpus whose name does not tell it.
_LABEL_DOCUMENTS = 64
_LABEL_CHARACTERS = 10_000

_NAMED_SOURCE = re.compile(r"(code|instruction|book|paper)s?(?:-(.*))?", re.DOTALL)
_NO_LANGUAGE = Label("zxx", NO_SCRIPT)

_logger = get_logger(__name__)


class CorpusError(ValueError):
    """Raw text that cannot be read: says which file and line, which rule, and what to change."""


@dataclass(frozen=True)
class Document:
    """One text.

    Attributes:
        text: the text, never blank.
        original_code: the language code that the file gives it (ISO 639 or BCP 47, not interpreted), or None.
    """

    text: str
    original_code: str | None = None


@dataclass
class ReadCounts:
    """What a reader has met so far: every line of a file is in exactly one of these.

    Attributes:
        documents: documents handed out.
        blank: documents left out because their text is empty or only white space.
        empty_lines: lines without any JSON.
    """

    documents: int = 0
    blank: int = 0
    empty_lines: int = 0


@dataclass(frozen=True)
class CorpusFiles:
    """The files of one corpus.

    Attributes:
        name: folder or file name without its ending.
        paths: its files, sorted.
        source: ``monolingual``, ``bilingual``, ``code``, ``instruction``, ``book`` or ``paper``.
        label: its language and script; None for a language pair.
        pair: the two sides of a language pair, else None.
    """

    name: str
    paths: tuple[Path, ...]
    source: str
    label: Label | None
    pair: tuple[Label, Label] | None = None

    @property
    def code(self) -> str:
        """The corpus code: ``xxx_Ssss``, or ``xxx_Ssss-yyy_Ssss`` for a pair."""
        labels = (self.label,) if self.label is not None else self.pair or ()
        return "-".join(label.code for label in labels)


def read_documents(
    path: Path,
    *,
    text_key: str = "text",
    counts: ReadCounts | None = None,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> Iterator[Document]:
    """Yield the documents of one file in order, as a stream.

    A UTF-8 byte order mark at the start of the file is skipped, and blank documents are left out but counted.

    Args:
        path: a ``.jsonl``, ``.jsonl.gz`` or ``.jsonl.zst`` file; several gzip members or zstd frames are fine.
        text_key: the field that holds the text.
        counts: filled while reading, so that nothing is left out without a count.
        max_line_bytes: the longest line, uncompressed.

    Raises:
        CorpusError: the file is missing, is cut short, or holds a line that breaks a rule; names file and line.
    """
    counts = ReadCounts() if counts is None else counts
    for number, line in enumerate(_lines(path, max_line_bytes), start=1):
        if number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line or line.isspace():
            counts.empty_lines += 1
            continue
        document = _parse(line, path, number, text_key)
        if not document.text or document.text.isspace():
            counts.blank += 1
            continue
        counts.documents += 1
        yield document


def find_corpora(root: Path, *, text_key: str = "text") -> list[CorpusFiles]:
    """Find the corpora below a folder and say what each one is, sorted by name.

    A subfolder that holds document files is one corpus (MaLA's layout, ``<root>/<code>/*.jsonl``); so is a document
    file that lies in the root itself (``<root>/<code>.jsonl``). A subfolder that holds only folders is a group, and
    its folders are corpora; nothing deeper is looked at. ``root`` may also be one file, or one corpus's folder when it
    is named by a code. Hidden files are skipped; other files are counted in a warning.

    The name says what a corpus is: ``xxx_Ssss`` a language, ``xxx_Ssss-yyy_Ssss`` a language pair, ``code``,
    ``instruction``, ``book`` or ``paper`` (alone, in the plural, or before ``-something``) that source, whose label is
    ``zxx_Zyyy`` unless the part after the dash is a code. Any other name: the language is the most frequent
    ``original_code`` of the first documents, mapped to ISO 639-3 (``und`` when unknown), and the script is that of
    their text.

    Raises:
        CorpusError: nothing to read below ``root``, two corpora of one name, or unreadable documents.
    """
    if root.is_file():
        if not root.name.endswith(DOCUMENT_SUFFIXES):
            raise CorpusError(f"{root}: not a document file; expected a name that ends in {_suffixes()}")
        return [_identify(_stem(root), (root,), text_key)]
    if not root.is_dir():
        raise CorpusError(f"{root}: no such file or folder; give the folder that holds the corpora")
    unused: list[Path] = []
    found = _search(root, unused)
    corpora: dict[str, tuple[Path, ...]] = {}
    for name, paths in found:
        if name in corpora:
            raise CorpusError(f"{root}: two corpora are named {name!r}: {corpora[name][0]} and {paths[0]}; rename one")
        corpora[name] = paths
    if not corpora:
        beside = f"; it holds {_summary(unused)}, which cannot be read" if unused else "; it is empty"
        raise CorpusError(
            f"{root}: no document files in it or in its folders{beside}. Expected files that end in {_suffixes()}, "
            "as <name>/<file> or <name>.jsonl"
        )
    if unused:
        _logger.warning("%s: not read, because they are no document files: %s", root, _summary(unused))
    return [_identify(name, corpora[name], text_key) for name in sorted(corpora)]


# ---- lines -----------------------------------------------------------------------------------------------------------


def _lines(path: Path, max_line_bytes: int) -> Iterator[bytes]:
    """Yield lines without their line feed; long lines are put together once, not once per chunk."""
    parts: list[bytes] = []
    size_bytes = 0
    number = 1
    for chunk in _chunks(path):
        for index, piece in enumerate(chunk.split(b"\n")):
            if index:
                yield b"".join(parts)
                parts, size_bytes, number = [], 0, number + 1
            parts.append(piece)
            size_bytes += len(piece)
            if size_bytes > max_line_bytes:
                _fail(path, number, f"the line is longer than {max_line_bytes:,} bytes", "split the document")
    if size_bytes:
        yield b"".join(parts)


def _chunks(path: Path) -> Iterator[bytes]:
    """Yield the uncompressed bytes of a file in pieces, and turn every way a file can be broken into one error."""
    try:
        if path.name.endswith((".gz", ".zst")) and path.stat().st_size == 0:
            raise EOFError  # even a file without any text has a header; gzip's reader takes this for an empty file
        if path.name.endswith(".zst"):
            yield from _zstd_chunks(path)
        elif path.name.endswith(".gz"):
            with gzip.open(path, "rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    yield chunk
        else:
            with path.open("rb") as raw:
                while chunk := raw.read(_CHUNK_BYTES):
                    yield chunk
    except EOFError:
        raise CorpusError(f"{path}: the compressed file is cut short; fetch or write it again") from None
    except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise CorpusError(f"{path}: the compressed data is broken ({error}); fetch or write it again") from error
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error


def _zstd_chunks(path: Path) -> Iterator[bytes]:
    """Decompress all frames of a file. Small inputs at a time, because one call returns all that its input stands for.

    The library's own stream reader does not tell the end of a frame from the end of a file that was cut short.
    """
    context = zstandard.ZstdDecompressor()
    frame = context.decompressobj()
    inside = False
    with path.open("rb") as file:
        while data := file.read(_ZSTD_INPUT_BYTES):
            while data:
                inside = True
                yield frame.decompress(data)
                data = b""
                if frame.eof:
                    data, inside = frame.unused_data, False
                    frame = context.decompressobj()
    if inside:
        raise EOFError


# ---- documents -------------------------------------------------------------------------------------------------------


def _parse(line: bytes, path: Path, number: int, text_key: str) -> Document:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        _explain(line, error, path, number)
    if not isinstance(record, dict):
        _fail(path, number, f"not a JSON object but {_kind(record)}", 'write one {"text": ...} a line')
    if text_key not in record:
        fields = ", ".join(record) or "no fields"
        _fail(path, number, f"has no field {text_key!r}; it has: {fields}", "give --jsonl-keys")
    text = record[text_key]
    if not isinstance(text, str):
        _fail(path, number, f"field {text_key!r} is not a string but {_kind(text)}", "mend it or give --jsonl-keys")
    code = record.get("original_code")
    if code is not None and not isinstance(code, str):
        _fail(path, number, f"field 'original_code' is not a string but {_kind(code)}", "mend the file")
    return Document(text, code)


def _explain(line: bytes, error: orjson.JSONDecodeError, path: Path, number: int) -> NoReturn:
    """Say why a line is not JSON: most often because it is not UTF-8, which JSON has to be."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as broken:
        _fail(
            path,
            number,
            f"not UTF-8 at byte offset {broken.start} of the line ({broken.reason})",
            "convert the file to UTF-8",
        )
    if "surrogate" in str(error):
        _fail(path, number, f"a lone surrogate escape (\\ud800 to \\udfff) is no character: {error}", "mend the text")
    _fail(path, number, f"not JSON: {error}", "write one JSON object a line")


def _fail(path: Path, number: int, problem: str, advice: str) -> NoReturn:
    raise CorpusError(f"{path}, line {number}: {problem}; {advice}")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


# ---- folders ---------------------------------------------------------------------------------------------------------


def _search(root: Path, unused: list[Path]) -> list[tuple[str, tuple[Path, ...]]]:
    """Return the name and files of every corpus below ``root``; files of other kinds are added to ``unused``."""
    files, folders = _entries(root, unused)
    if files and (parse_label(root.resolve().name) or parse_pair(root.resolve().name)):
        unused.extend(_contents(folders))
        return [(root.resolve().name, tuple(files))]
    found: list[tuple[str, tuple[Path, ...]]] = [(_stem(file), (file,)) for file in files]
    for folder in folders:
        inner_files, inner_folders = _entries(folder, unused)
        if inner_files:
            found.append((folder.name, tuple(inner_files)))
            unused.extend(_contents(inner_folders))
            continue
        for inner in inner_folders:
            deep_files, deep_folders = _entries(inner, unused)
            unused.extend(_contents(deep_folders))
            if deep_files:
                found.append((inner.name, tuple(deep_files)))
    return found


def _entries(folder: Path, unused: list[Path]) -> tuple[list[Path], list[Path]]:
    """Return the document files and the subfolders of a folder, sorted by name; hidden ones are left out."""
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    folders = [path for path in visible if path.is_dir()]
    files = [path for path in visible if not path.is_dir()]
    unused.extend(path for path in files if not path.name.endswith(DOCUMENT_SUFFIXES))
    return [path for path in files if path.name.endswith(DOCUMENT_SUFFIXES)], folders


def _contents(folders: Sequence[Path]) -> Iterator[Path]:
    """Yield the visible files right inside folders that lie too deep to be read."""
    for folder in folders:
        yield from (path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith("."))


def _identify(name: str, paths: tuple[Path, ...], text_key: str) -> CorpusFiles:
    """Say what a corpus is, from its name or else from its first documents."""
    if pair := parse_pair(name):
        return CorpusFiles(name, paths, "bilingual", None, pair)
    if label := parse_label(name):
        return CorpusFiles(name, paths, "monolingual", label)
    if source := _NAMED_SOURCE.fullmatch(name):
        return CorpusFiles(name, paths, source[1], parse_label(source[2] or "") or _NO_LANGUAGE)
    documents = (document for path in paths for document in read_documents(path, text_key=text_key))
    return CorpusFiles(name, paths, "monolingual", _label_of(islice(documents, _LABEL_DOCUMENTS)))


def _label_of(documents: Iterable[Document]) -> Label:
    """Return the language that most of these documents claim, with the script of their text."""
    codes: Counter[str] = Counter()
    texts: list[str] = []
    for document in documents:
        codes.update([document.original_code] if document.original_code else [])
        texts.append(document.text[:_LABEL_CHARACTERS])
    code = codes.most_common(1)[0][0] if codes else ""
    script = main_script(" ".join(texts))
    return Label(to_iso639_3(code), script if script != NO_SCRIPT else script_subtag(code) or NO_SCRIPT)


def _stem(path: Path) -> str:
    return path.name[: -len(next(suffix for suffix in DOCUMENT_SUFFIXES if path.name.endswith(suffix)))]


def _suffixes() -> str:
    return " or ".join(DOCUMENT_SUFFIXES)


def _summary(paths: Sequence[Path]) -> str:
    """List the kinds of some files: ``3 x .arrow, 1 x .md``."""
    kinds = Counter("".join(path.suffixes) or "without an ending" for path in paths)
    return ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items()))
