"""The folders that raw text lies in.

The layout is MaLA's: ``<name>/<files>``, ``<name>.jsonl`` or ``<group>/<name>/<files>``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from megatron.corpus.languages import Label, parse_label, parse_pair
from megatron.corpus.reading.formats import stem
from megatron.languages.script import NO_SCRIPT

#: The label of what is in no language, such as code.
NO_LANGUAGE = Label("zxx", NO_SCRIPT)

_NAMED_SOURCE = re.compile(r"(code|instruction|book|paper)s?(?:-(.*))?", re.DOTALL)
# Files that say something about others; they lie beside Arrow files.
_DESCRIPTIONS = frozenset(("dataset_info.json", "state.json", "dataset_dict.json"))


class CorpusFolder(NamedTuple):
    """Files that belong together.

    Attributes:
        name: folder or file name without its ending.
        paths: its files, sorted.
        group: the folder that its folder lies in, where that is not the root.
    """

    name: str
    paths: tuple[Path, ...]
    group: str = ""


class Meaning(NamedTuple):
    """What the name of a corpus says.

    Attributes:
        source: ``monolingual``, ``bilingual``, ``code``, ``instruction``, ``book`` or ``paper``; None when nothing.
        label: the language and script.
        pair: the two sides of a language pair.
    """

    source: str | None
    label: Label | None
    pair: tuple[Label, Label] | None


def meaning_of(name: str) -> Meaning:
    """Read the name of a corpus: a code, a pair of codes, or a source alone, in the plural or before ``-something``.

    The label of a source is ``zxx_Zyyy`` unless the part after the dash is a code.
    """
    if pair := parse_pair(name):
        return Meaning("bilingual", None, pair)
    if label := parse_label(name):
        return Meaning("monolingual", label, None)
    if source := _NAMED_SOURCE.fullmatch(name):
        return Meaning(source[1], parse_label(source[2] or "") or NO_LANGUAGE, None)
    return Meaning(None, None, None)


def search(
    root: Path,
    wanted: Callable[[Path], bool],
    unused: list[Path],
    *,
    is_one: Callable[[Sequence[Path]], bool] = lambda files: False,
) -> list[CorpusFolder]:
    """Find the corpora below a folder, sorted by path; hidden files are left out.

    Args:
        root: the folder. It is one corpus itself when it holds files and is named by a code or a pair of codes.
        wanted: tells the files that can be read.
        unused: visible files of other kinds are added to it, and those that lie too deep.
        is_one: tells files right in the root that are one corpus from those that are a corpus each.
    """
    files, folders = _entries(root, wanted, unused)
    name = root.resolve().name
    if files and (is_one(files) or parse_label(name) or parse_pair(name)):
        unused.extend(_contents(folders))
        return [CorpusFolder(name, tuple(files))]
    found = [CorpusFolder(stem(file), (file,)) for file in files]
    for folder in folders:
        inner_files, inner_folders = _entries(folder, wanted, unused)
        if inner_files:
            found.append(CorpusFolder(folder.name, tuple(inner_files)))
            unused.extend(_contents(inner_folders))
            continue
        for inner in inner_folders:
            deep_files, deep_folders = _entries(inner, wanted, unused)
            unused.extend(_contents(deep_folders))
            if deep_files:
                found.append(CorpusFolder(inner.name, tuple(deep_files), folder.name))
    return found


def summary(paths: Sequence[Path]) -> str:
    """List the kinds of some files: ``3 x .csv, 1 x .md``."""
    kinds = Counter("".join(path.suffixes) or "without an ending" for path in paths)
    return ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items()))


def _entries(folder: Path, wanted: Callable[[Path], bool], unused: list[Path]) -> tuple[list[Path], list[Path]]:
    """Return the wanted files and the subfolders of a folder, sorted by name; hidden ones are left out."""
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    folders = [path for path in visible if path.is_dir()]
    files = [path for path in visible if not path.is_dir()]
    unused.extend(path for path in files if not wanted(path) and path.name not in _DESCRIPTIONS)
    return [path for path in files if wanted(path)], folders


def _contents(folders: Sequence[Path]) -> Iterator[Path]:
    """Yield the visible files right inside folders that lie too deep to be read."""
    for folder in folders:
        yield from (path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith("."))
