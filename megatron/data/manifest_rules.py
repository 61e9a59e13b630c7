"""What the entries of a manifest must agree on, with themselves and with each other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from megatron.data.manifest import ShardInfo

CORPUS_CODE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}(-[a-z]{3}_[A-Z][a-z]{3})?")
"""A language and its script, or two of them."""


def shards_problems(shards: Sequence[ShardInfo]) -> Iterator[str]:
    """Yield a text for every contradiction in the entries of a manifest."""
    names = _repeated((shard.name, shard.split) for shard in shards)
    yield from (f"corpus and split '{name} ({split})' is listed twice" for name, split in names)
    yield from _file_problems(shards)
    for shard in shards:
        yield from (f"{shard.name} ({shard.split}): {problem}" for problem in _shard_problems(shard))
    if not shards:
        yield "lists no shards"


def path_problems(shard: ShardInfo) -> Iterator[str]:
    """Refuse paths that lead out of the folder: a manifest from elsewhere must not make us read other files."""
    if PurePath(shard.path).is_absolute():
        yield f"path {shard.path!r} must be relative to the manifest's folder"
    if ".." in re.split(r"[/\\]", shard.path):
        yield f"path {shard.path!r} must lead to no parent folder (..)"


def _shard_problems(shard: ShardInfo) -> Iterator[str]:
    if not CORPUS_CODE.fullmatch(shard.code):
        yield f"code {shard.code!r} is not like eng_Latn or eng_Latn-fra_Latn"
    if min(shard.documents, shard.tokens) < 1 or min(shard.words, shard.bytes, shard.unk_tokens) < 0:
        yield "needs at least one document and token, and no count below 0"
    if min(shard.first_document, shard.first_token) < 0:
        yield "first_document and first_token must not be below 0"
    yield from path_problems(shard)


def _file_problems(shards: Iterable[ShardInfo]) -> Iterator[str]:
    """Find contradictions between the shards of one file: overlapping parts, two dtypes or hashes."""
    files: dict[str, list[ShardInfo]] = {}
    for shard in shards:
        files.setdefault(str(PurePath(shard.path)), []).append(shard)
    for path, parts in files.items():
        if len(parts) == 1:
            continue
        for key in ("dtype", "content_hash"):
            values = sorted({getattr(part, key) for part in parts})
            if len(values) > 1:
                yield f"path {path!r}: its shards give it more than one {key}: {', '.join(map(repr, values))}"
        yield from _overlaps(path, parts)


def _overlaps(path: str, parts: list[ShardInfo]) -> Iterator[str]:
    for what, first, count in (("documents", "first_document", "documents"), ("tokens", "first_token", "tokens")):
        before: ShardInfo | None = None  # of the parts so far, the one that reaches furthest
        reached = 0
        for part in sorted(parts, key=lambda part: (getattr(part, first), part.name, part.split)):
            start, stop = getattr(part, first), getattr(part, first) + getattr(part, count)
            if before is not None and start < reached:
                yield (
                    f"path {path!r}: {part.name} ({part.split}) has {what} {start} to {stop}, which overlap those of "
                    f"{before.name} ({before.split}), up to {reached}; shards of one file must not overlap"
                )
            if before is None or stop > reached:
                before, reached = part, stop


def _repeated(keys: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    seen: set[tuple[str, str]] = set()
    return sorted({key for key in keys if key in seen or seen.add(key)})  # type: ignore[func-returns-value]
