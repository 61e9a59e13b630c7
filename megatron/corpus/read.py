"""JSON lines of plain texts, and the folders they lie in, read strictly: the first broken line is an error.

``tools/preprocess_data.py`` and the trainer of tokenizers read this way; the corpus pipeline, which reads many formats
and counts what it leaves out, reads with :mod:`megatron.corpus.reading`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from megatron.config.corpus_schema import ReadConfig
from megatron.corpus.document import CorpusError, Document
from megatron.corpus.languages import Label, script_subtag, to_iso639_3
from megatron.corpus.reading.fields import text_only
from megatron.corpus.reading.folders import meaning_of, search, summary
from megatron.corpus.reading.formats import JSON_LINES_ENDINGS, stem
from megatron.corpus.reading.jsonl import jsonl_documents
from megatron.corpus.reading.problems import Problems, ReadCounts
from megatron.languages.script import NO_SCRIPT, main_script
from megatron.utils.log import get_logger

__all__ = ["CorpusError", "CorpusFiles", "Document", "ReadCounts", "find_corpora", "read_documents"]

#: The longest line that is read, in bytes; a longer one is a broken file or a decompression bomb.
MAX_LINE_BYTES = 256 << 20

# How many documents are looked at, and how much of each, to find the language of a corpus whose name does not tell it.
_LABEL_DOCUMENTS = 64
_LABEL_CHARACTERS = 10_000

_logger = get_logger(__name__)


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
    """Yield the texts of one file in order, as a stream.

    A UTF-8 byte order mark at the start of the file is skipped, and blank documents are left out but counted.

    Args:
        path: a JSON lines file, plain or compressed; several gzip members or zstd frames are fine.
        text_key: the field that holds the text.
        counts: filled while reading, so that nothing is left out without a count.
        max_line_bytes: the longest line, uncompressed.

    Raises:
        CorpusError: the file is missing, is cut short, or holds a line that breaks a rule; names file and line.
    """
    counts = ReadCounts() if counts is None else counts
    policy = ReadConfig(broken_records="stop", cut_short="stop", max_document_bytes=max_line_bytes)
    to_document = partial(text_only, text_key=text_key, kinds=counts.kinds)
    return jsonl_documents(to_document, "", Problems(path, policy, counts))


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
    endings = " or ".join(JSON_LINES_ENDINGS)
    if root.is_file():
        if not _is_wanted(root):
            raise CorpusError(f"{root}: not a document file; expected a name that ends in {endings}")
        return [_identify(stem(root), (root,), text_key)]
    if not root.is_dir():
        raise CorpusError(f"{root}: no such file or folder; give the folder that holds the corpora")
    unused: list[Path] = []
    corpora: dict[str, tuple[Path, ...]] = {}
    for corpus in search(root, _is_wanted, unused):
        if corpus.name in corpora:
            first = corpora[corpus.name][0]
            raise CorpusError(
                f"{root}: two corpora are named {corpus.name!r}: {first} and {corpus.paths[0]}; rename one"
            )
        corpora[corpus.name] = corpus.paths
    if not corpora:
        beside = f"; it holds {summary(unused)}, which cannot be read" if unused else "; it is empty"
        raise CorpusError(
            f"{root}: no document files in it or in its folders{beside}. Expected files that end in {endings}, "
            "as <name>/<file> or <name>.jsonl"
        )
    if unused:
        _logger.warning("%s: not read, because they are no document files: %s", root, summary(unused))
    return [_identify(name, corpora[name], text_key) for name in sorted(corpora)]


def _is_wanted(path: Path) -> bool:
    return path.name.endswith(JSON_LINES_ENDINGS)


def _identify(name: str, paths: Sequence[Path], text_key: str) -> CorpusFiles:
    """Say what a corpus is, from its name or else from its first documents."""
    meaning = meaning_of(name)
    if meaning.source is not None:
        return CorpusFiles(name, tuple(paths), meaning.source, meaning.label, meaning.pair)
    documents = (document for path in paths for document in read_documents(path, text_key=text_key))
    return CorpusFiles(name, tuple(paths), "monolingual", _label_of(islice(documents, _LABEL_DOCUMENTS)))


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
