"""Copying shards, or parts of them, into new files: tokens byte for byte, with an index that is computed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from megatron.data.indexed import FileCache, ShardReader, bin_path
from megatron.data.joining import Span, join_spans
from megatron.data.manifest import (
    Manifest,
    ManifestError,
    ShardInfo,
    Sidecar,
    check_shard,
    load_manifest,
    load_sidecar,
    sidecar_path,
)
from megatron.utils.files import fingerprint_bytes

Report = Callable[[int], object]


@dataclass(frozen=True)
class Source:
    """A shard to copy.

    Attributes:
        manifest: lists it.
        shard: its entry; it may be a part of a file.
    """

    manifest: Manifest
    shard: ShardInfo

    @property
    def prefix(self) -> Path:
        """Path of the file that it lies in, without ``.bin``."""
        return self.manifest.prefix(self.shard)

    @property
    def size_bytes(self) -> int:
        """Bytes of its tokens; the dtype's name ends with its bits."""
        return self.shard.tokens * int(self.shard.dtype.lstrip("uint")) // 8


class SourceFiles:
    """Opens the files of sources, and hashes each of them once before anything is copied from it."""

    def __init__(self) -> None:
        self._files = FileCache()
        self._readers: dict[Path, ShardReader] = {}

    def open(self, source: Source) -> ShardReader:
        """Return the reader of the whole file that a source lies in.

        Raises:
            ShardError: the file is damaged, or is not the one that the manifest lists.
        """
        reader = self._readers.get(source.prefix)
        if reader is None:
            reader = ShardReader(source.prefix, files=self._files)
            reader.verify(source.shard.content_hash)
            self._readers[source.prefix] = reader
        check_shard(reader, source.shard)
        return reader


def copy_shards(
    sources: Sequence[Source], prefix: Path, *, files: SourceFiles, report: Report = lambda count: None
) -> str:
    """Write the documents of several shards, one shard after the other, into one new shard.

    The files take their names when they are complete, the index last; memory does not grow with the shards.

    Args:
        sources: what to copy; all of one dtype.
        prefix: path of the new shard without ``.bin``.
        files: opens the sources.
        report: is told of the bytes that were copied.

    Returns:
        The content hash of the new shard.

    Raises:
        ShardError: a source is damaged, or is not the one that its manifest lists. Nothing is left behind.
    """
    spans = [
        Span(files.open(source), shard.first_document, shard.documents, shard.first_token, shard.tokens)
        for source in sources
        for shard in [source.shard]
    ]
    return join_spans(spans, prefix, report=report)


def strangers_in(folder: Path, prefixes: Iterable[Path]) -> list[str]:
    """Return the names of shards that a folder, or the manifest in it, holds besides the ones to be written there."""
    there = {path.name for path in folder.glob("*.bin")}
    with contextlib.suppress(ManifestError):  # there is none, or one that is of no use to anybody
        there |= {f"{shard.path}.bin" for shard in load_manifest(folder).shards}
    return sorted(there - {bin_path(prefix).name for prefix in prefixes})


def sidecar_of(source: Source) -> Sidecar:
    """Return the sidecar that lies beside a shard; for a shard that has none, one made of what the manifest says.

    Raises:
        ManifestError: its sidecar is damaged, or contradicts the manifest.
    """
    path = sidecar_path(source.prefix)
    shard, manifest = source.shard, source.manifest
    if path.exists():
        sidecar = load_sidecar(path)
        if replace(sidecar.shard, path=shard.path) != shard:
            raise ManifestError(f"{path}: does not say what {manifest.root} says of {shard.name} ({shard.split})")
        return sidecar
    whole = shard.first_document == 0 and sum(other.path == shard.path for other in manifest.shards) == 1
    name = source.prefix.name if whole else f"{shard.name}{'' if shard.split == 'train' else '_valid'}_document"
    both = [other for other in manifest.shards if other.name == shard.name]
    content = [f"{other.split} {other.content_hash} {other.first_document} {other.documents}" for other in both]
    return Sidecar(
        shard=replace(shard, path=name.replace("/", "_"), first_document=0, first_token=0),
        tokenizer=manifest.tokenizer,
        made_from=fingerprint_bytes("\n".join(sorted(content)).encode()),
        held_out_documents=sum(other.documents for other in both if other.split == "valid"),
    )
