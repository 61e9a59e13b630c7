"""The files of all inputs, and what their names say about them. No file is opened: there may be many thousands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from megatron.config.corpus_schema import InputConfig
from megatron.corpus.document import CorpusError
from megatron.corpus.languages import Label
from megatron.corpus.reading.fields import language_codes
from megatron.corpus.reading.folders import CorpusFolder, meaning_of, search, summary
from megatron.corpus.reading.formats import ENDINGS, FileFormat, format_of, stem
from megatron.corpus.reading.moses import moses_side, pair_up
from megatron.utils.log import get_logger

# `train-00000-of-00004.parquet`, `data-00001-of-00002.arrow`: such files are the parts of one corpus.
_NUMBERED = re.compile(r".*\d{3,}-of-\d{3,}", re.DOTALL)
_SPLITS = frozenset(("train", "valid", "validation", "dev", "test"))

_logger = get_logger(__name__)


@dataclass(frozen=True)
class InputFile:
    """One file of an input; the two files of a Moses pair are one.

    Attributes:
        input_number: the input, from 0.
        name: where it lies in its input; unique there.
        corpus: the name of its corpus: of its folder, or of itself where it lies in the input's folder. A Moses pair is
            a corpus of its own, ``NAME.en-sw``.
        format: how to read it.
        paths: the file, or both.
        source: ``monolingual``, ``bilingual``, ``code``, ``instruction``, ``book`` or ``paper``, as the input says, or
            else the name of the corpus or of its group, or else the format.
        label: the label that the name of the corpus is or holds.
        pair: likewise for a pair.
        size_bytes: bytes on disk.
    """

    input_number: int
    name: str
    corpus: str
    format: FileFormat
    paths: tuple[Path, ...]
    source: str
    label: Label | None
    pair: tuple[Label, Label] | None
    size_bytes: int


def find_inputs(inputs: Sequence[InputConfig]) -> list[InputFile]:
    """Find the files of all inputs, in the order of the inputs and sorted by corpus and name in each.

    The layout is MaLA's (see :class:`megatron.config.corpus_schema.InputConfig`). Files right in an input's folder are
    a corpus each, unless they are numbered parts (``train-00000-of-00004.parquet``) or the folder is named by a code;
    folders called ``train``, ``validation`` and the like belong to the folder that they lie in. Hidden files are
    skipped; files that are of no use are counted in a warning.

    Raises:
        CorpusError: an input is not there or has nothing to read; a file is in two inputs, or twice in one; or half of
            a Moses pair is missing.
    """
    found: list[InputFile] = []
    owners: dict[Path, int] = {}
    for number, settings in enumerate(inputs):
        files = _files_of(number, settings)
        for path in (path for file in files for path in file.paths):
            real = path.resolve()
            if real in owners:
                raise CorpusError(
                    f"{path}: comes up twice, in input {owners[real] + 1} ({inputs[owners[real]].path}) and in input "
                    f"{number + 1} ({settings.path}); a file can be read once"
                )
            owners[real] = number
        found += files
    return found


def _files_of(number: int, settings: InputConfig) -> list[InputFile]:
    root, codes = Path(settings.path), language_codes(settings)
    unused: list[Path] = []
    try:
        corpora = _corpora(root, settings, unused)
        files = [_described(number, root, settings, *each) for each in _grouped(corpora, root, settings, codes, unused)]
    except OSError as error:
        place = error.filename or root
        raise CorpusError(f"{place}: cannot be read ({error.strerror or error}); check the path") from error
    if not files:
        beside = f"it holds {summary(unused)}, which cannot be read" if unused else "it is empty"
        endings = ", ".join(ending for endings in ENDINGS.values() for ending in endings)
        raise CorpusError(
            f"{root}: no files to read in it or in its folders; {beside}. Expected files that end in {endings} or are "
            "the two halves of a Moses pair, as <name>/<file>, or give their `format`"
        )
    if unused:
        _logger.warning("%s: not read, because no format is known for them: %s", root, summary(unused))
    return sorted(files, key=lambda file: (file.corpus, file.name))


def _corpora(root: Path, settings: InputConfig, unused: list[Path]) -> list[CorpusFolder]:
    """Return the files of an input, in their folders."""
    if root.is_dir():
        wanted = partial(_is_wanted, wanted=settings.format)
        return search(root, wanted, unused, is_one=_are_numbered)
    if not root.is_file():
        raise CorpusError(f"{root}: no such file or folder; give what holds the text")
    if _format_of_input(root, settings) != "moses":
        return [CorpusFolder(stem(root), (root,))]
    side = moses_side(root, marked=False)
    if side is None:
        raise CorpusError(f"{root}: a file of the Moses format is called NAME.xx-yy.xx or NAME.xx")
    beside = {path: moses_side(path, marked=False) for path in sorted(root.parent.iterdir())}
    return [CorpusFolder(side.stem, tuple(path for path, other in beside.items() if other and other.stem == side.stem))]


class _Group(NamedTuple):
    """Files that are read together: their corpus, the folder whose name may say more, the format and the files."""

    corpus: str
    folder: str
    format: FileFormat
    paths: tuple[Path, ...]


def _grouped(
    corpora: Sequence[CorpusFolder], root: Path, settings: InputConfig, codes: Sequence[str], unused: list[Path]
) -> Iterator[_Group]:
    """Yield what is read together; files of the Moses format that belong to no pair are added to ``unused``."""
    halves: dict[Path, list[Path]] = {}
    for corpus in corpora:
        name, folder = corpus.name, corpus.group
        if name in _SPLITS and root not in (corpus.paths[0], corpus.paths[0].parent):
            name, folder = corpus.group or root.resolve().name, ""
        for path in corpus.paths:
            file_format = _format_of_input(path, settings)
            if file_format == "moses":
                halves.setdefault(path.parent, []).append(path)
            else:
                yield _Group(name, folder, file_format, (path,))
    for parent, paths in halves.items():
        pairs, alone = pair_up(paths, codes)
        unused.extend(alone)
        yield from (_Group(name, parent.name, "moses", both) for name, both in pairs)


def _described(
    number: int,
    root: Path,
    settings: InputConfig,
    corpus: str,
    folder: str,
    file_format: FileFormat,
    paths: tuple[Path, ...],
) -> InputFile:
    meaning = meaning_of(corpus)
    if meaning.source is None and folder:
        meaning = meaning_of(folder)
    parallel = file_format in ("moses", "tmx")
    source = settings.source or meaning.source or ("bilingual" if parallel else "monolingual")
    first = paths[0].relative_to(root) if root.is_dir() else Path(paths[0].name)
    name = first.with_name(corpus) if file_format == "moses" else first
    return InputFile(
        input_number=number,
        name=name.as_posix(),
        corpus=corpus,
        format=file_format,
        paths=paths,
        source=source,
        label=None if parallel else meaning.label,
        pair=meaning.pair,
        size_bytes=sum(path.stat().st_size for path in paths),
    )


def _is_wanted(path: Path, wanted: str) -> bool:
    return format_of(path, wanted) is not None


def _format_of_input(path: Path, settings: InputConfig) -> FileFormat:
    """Return the format of a file; a given one holds for an input that is one file, whatever its name."""
    found = format_of(path, settings.format)
    if found is not None:
        return found
    if settings.format == "auto":
        endings = ", ".join(ending for endings in ENDINGS.values() for ending in endings)
        raise CorpusError(f"{path}: its format is not known by its name ({endings}); give the input a `format`")
    return settings.format


def _are_numbered(paths: Iterable[Path]) -> bool:
    return all(_NUMBERED.fullmatch(stem(path)) for path in paths)
