"""Writes the prepared records of one language."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from megatron.evaluation.benchmarks.manifest import DataFile
from megatron.utils.files import atomic_write


def write_language(folder: Path, splits: Mapping[str, Iterable[Mapping[str, Any]]]) -> dict[str, DataFile]:
    """Write ``<folder>/<split>.jsonl`` for every split that has records, atomically; remove the others.

    Args:
        folder: of the language.
        splits: records by split. Of several with one ``id`` in a split, the later ones get a number: ``7``, ``7~2``.

    Returns:
        what was written, by split.
    """
    written = {}
    for split in ("train", "dev", "test"):
        path = folder / f"{split}.jsonl"
        digest, items, seen = hashlib.sha256(), 0, Counter[str]()
        lines = []
        for record in splits.get(split, ()):
            id = str(record["id"])
            seen[id] += 1
            unique = id if seen[id] == 1 else f"{id}~{seen[id]}"
            lines.append(orjson.dumps({**record, "id": unique}, option=orjson.OPT_APPEND_NEWLINE))
        if not lines:
            path.unlink(missing_ok=True)
            continue
        with atomic_write(path) as file:
            for line in lines:
                digest.update(line)
                items += 1
                file.write(line)
        written[split] = DataFile(digest.hexdigest(), items)
    return written
