"""The files that ``train_data_paths``, ``valid_data_paths`` or ``data_path`` name: found, opened, and given names."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from megatron.data.indexed import FileCache, ShardError, ShardReader, idx_path
from megatron.data.manifest import ManifestError, Sidecar, Split, load_sidecar, sidecar_path
from megatron.utils.log import get_logger

if TYPE_CHECKING:
    from megatron.config.schema import DataConfig

logger = get_logger(__name__)

# Said after the name of a corpus by the tools that write shards, here and in GPT-NeoX.
_ENDINGS = re.compile(r"(_(train|valid|validation|val))?(_text)?(_document)?$")
_MOST_SIDECAR_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class NamedFile:
    """One shard that the configuration names by its path.

    Attributes:
        key: the key that names it, with the number of the path in its list: ``train_data_paths.3``.
        path: the path, without ``.bin``, as it was written.
        split: what it is for; ``data_path`` is for training until it is cut.
        name: the corpus.
        reader: the opened shard.
        sidecar: what ``tools/preprocess_data.py`` wrote beside it; None for the shards of others.
    """

    key: str
    path: str
    split: Split
    name: str
    reader: ShardReader
    sidecar: Sidecar | None


def open_files(data: DataConfig) -> tuple[list[NamedFile], list[str]]:
    """Open the shards that a configuration names by their paths.

    Returns:
        those that could be opened, in order, and a text for every problem.
    """
    cache = FileCache()
    files: list[NamedFile] = []
    problems: list[str] = []
    for split, paths in _paths_by_split(data).items():
        problems += _repeated(paths)
        for key, path in paths.items():
            try:
                files.append(_open(key, path, split, cache))
            except (ShardError, ManifestError) as error:
                problems.append(f"{key}: {error}")
    names = corpus_names(
        [file.path for file in files], [file.name for file in files], [file.split for file in files]
    )
    _warn_of_overlap(data)
    return [dataclasses.replace(file, name=name) for file, name in zip(files, names, strict=True)], problems


def corpus_names(paths: Sequence[str], names: Sequence[str], splits: Sequence[Split]) -> list[str]:
    """Make names unique in their split: where two are equal, as many folders as needed are put before them.

    A name that comes twice in one split is changed in both, so that held-out text keeps the name of its corpus.

    Args:
        paths: where the corpora lie, no two of a split the same.
        names: what they would be called.
        splits: what they are for.
    """
    folders = [[part for part in Path(path).parts[:-1] if part != "/"] for path in paths]
    result = list(names)
    for depth in range(1, max(map(len, folders), default=0) + 1):
        if not (twice := _twice(result, splits)):
            return result
        result = [
            "/".join((*parts[-depth:], name)) if old in twice else old
            for old, name, parts in zip(result, names, folders, strict=True)
        ]
    twice = _twice(result, splits)
    return [path if name in twice else name for name, path in zip(result, paths, strict=True)]


def _twice(names: Sequence[str], splits: Sequence[Split]) -> set[str]:
    """Return the names that come more than once in a split."""
    counts = Counter(zip(names, splits, strict=True))
    return {name for (name, _), count in counts.items() if count > 1}


def name_of(path: str) -> str:
    """Return the corpus that a shard's file name names: ``swh_Latn`` of ``swh_Latn_valid_text_document``."""
    name = Path(path).name
    return _ENDINGS.sub("", name) or name


def _paths_by_split(data: DataConfig) -> dict[Split, dict[str, str]]:
    """Return the paths of each split by the keys that name them."""
    if data.data_path is not None:
        return {"train": {"data_path": data.data_path}}
    train = {f"train_data_paths.{number}": path for number, path in enumerate(data.train_data_paths)}
    valid = {f"valid_data_paths.{number}": path for number, path in enumerate(data.valid_data_paths)}
    return {"train": train, "valid": valid}


def _repeated(paths: dict[str, str]) -> Iterator[str]:
    first: dict[Path, str] = {}
    for key, path in paths.items():
        other = first.setdefault(Path(path).resolve(), key)
        if other != key:
            yield f"{key}: {path} is listed before, as {other}: name it once, and add up the weights"


def _warn_of_overlap(data: DataConfig) -> None:
    trained = {Path(path).resolve() for path in data.train_data_paths}
    for path in data.valid_data_paths:
        if Path(path).resolve() in trained:
            logger.warning("%s is trained on and scored: its results say nothing about unseen text", path)


def _open(key: str, path: str, split: Split, cache: FileCache) -> NamedFile:
    """Open one shard and its sidecar.

    Raises:
        ShardError: it is missing, damaged or empty.
        ManifestError: its sidecar is damaged.
    """
    if not idx_path(path).exists() and (instead := _meant(path)):
        raise ShardError(f"{path}.idx: there is no such file, but {instead}.idx is there: write {instead}")
    reader = ShardReader(path, files=cache)
    if not reader.num_documents or not reader.num_tokens:
        raise ShardError(f"{path}: holds no documents, so there is nothing to read; remove it from the list")
    sidecar = _sidecar_of(path)
    name = name_of(path) if sidecar is None else sidecar.shard.name
    return NamedFile(key=key, path=path, split=split, name=name, reader=reader, sidecar=sidecar)


def _meant(path: str) -> str | None:
    """Return the prefix that may be meant by a path without an index."""
    others = (path.removesuffix(".bin").removesuffix(".idx"), f"{path}_text_document", f"{path}_document")
    return next((other for other in others if other != path and idx_path(other).exists()), None)


def _sidecar_of(path: str) -> Sidecar | None:
    place = sidecar_path(path)
    if not place.is_file():
        return None
    if place.stat().st_size > _MOST_SIDECAR_BYTES:
        logger.warning("%s is too large to be the sidecar of a shard, and is not read", place)
        return None
    try:
        return load_sidecar(place)
    except ManifestError as error:
        reason = str(error).splitlines()[0]
        raise ManifestError(f"{reason}. If it is not the sidecar of this shard, move it elsewhere") from None
