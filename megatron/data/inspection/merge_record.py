"""The record beside a container: the sidecars that its parts had before, so that they can be had back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from megatron.data.indexed import ShardError, ShardReader
from megatron.data.inspection.copy_shards import Source, sidecar_of
from megatron.data.manifest import ShardInfo, Sidecar, check_shard
from megatron.utils.files import fingerprint_bytes

_RECIPE = 1  # raise it when the same shards give another container


class MergeError(ValueError):
    """Shards cannot be merged or split as asked; the message lists every reason."""


@dataclass(frozen=True)
class MergedFile:
    """The record beside a container.

    Attributes:
        made_from: :func:`fingerprint_of` the sidecars; a finished container with the same one is not written again.
        content_hash: of the container.
        sidecars: those of its shards, in order, as they were before.
    """

    made_from: str
    content_hash: str
    sidecars: tuple[Sidecar, ...]


def fingerprint_of(sidecars: Sequence[Sidecar]) -> str:
    """Return a fingerprint of all that sidecars say."""
    content = [_RECIPE, *(asdict(sidecar) for sidecar in sidecars)]
    return fingerprint_bytes(json.dumps(content, sort_keys=True).encode())


def record_path(prefix: Path) -> Path:
    """Return the path of the record beside a container."""
    return Path(f"{prefix}.merged.json")


def read_record(prefix: Path) -> MergedFile | None:
    """Return the record beside a container; None where there is none, or none that can be read."""
    try:
        return TypeAdapter(MergedFile).validate_json(record_path(prefix).read_bytes())
    except (OSError, ValidationError):
        return None


def record_problems(prefix: Path, shards: Sequence[ShardInfo]) -> Iterator[str]:
    """Compare the record beside a container, where there is one, with the entries that a manifest has for it."""
    path = record_path(prefix)
    if not path.exists():
        return
    record = read_record(prefix)
    if record is None or record.made_from != fingerprint_of(record.sidecars):
        yield f"{path}: is damaged; the manifest's shards are not concerned, but cannot be split into what they were"
        return
    before = {(sidecar.shard.name, sidecar.shard.split): sidecar.shard for sidecar in record.sidecars}
    for shard in shards:
        was = before.get((shard.name, shard.split))
        here = replace(shard, content_hash=record.content_hash)
        if was is None or here != shard or replace(_as_part(was, shard), content_hash=record.content_hash) != shard:
            yield f"{path}: does not say the same of {shard.name} ({shard.split}) as the manifest"


def _as_part(was: ShardInfo, part: ShardInfo) -> ShardInfo:
    return replace(was, path=part.path, first_document=part.first_document, first_token=part.first_token)


def sidecar_in(record: MergedFile | None, source: Source) -> Sidecar:
    """Return the sidecar that a shard had before it was merged."""
    key = (source.shard.name, source.shard.split)
    for sidecar in () if record is None else record.sidecars:
        if (sidecar.shard.name, sidecar.shard.split) == key:
            return sidecar
    return sidecar_of(source)


def is_whole(prefix: Path, entries: Sequence[ShardInfo]) -> bool:
    """Tell whether a file pair is there and consists of just these parts; nothing but the index is looked at."""
    try:
        reader = ShardReader(prefix)
        for entry in entries:
            check_shard(reader, entry)
    except ShardError:
        return False
    last = entries[-1]
    return reader.num_tokens == last.first_token + last.tokens
