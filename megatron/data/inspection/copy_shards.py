"""Copying shards, or parts of them, into new files: tokens byte for byte, with an index that is computed."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import xxhash

from megatron.data.index_format import write_index
from megatron.data.indexed import FileCache, ShardReader, bin_path, idx_path
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
from megatron.data.shard_files import Array
from megatron.utils.files import atomic_write, fingerprint_bytes

Report = Callable[[int], object]

_BLOCK_TOKENS = 1 << 20


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
    digest = xxhash.xxh3_128()
    readers = [files.open(source) for source in sources]
    with atomic_write(bin_path(prefix)) as file:
        for source, reader in zip(sources, readers, strict=True):
            for block in _tokens(source.shard, reader):
                data = block.data.cast("B")
                digest.update(data)
                file.write(data)
                report(len(data))
        # Without its index a shard does not exist, so an old index must never stand beside the new tokens.
        idx_path(prefix).unlink(missing_ok=True)

    def lengths() -> Iterator[Array]:
        return itertools.chain.from_iterable(
            reader.length_blocks(source.shard.first_document, source.shard.first_document + source.shard.documents)
            for source, reader in zip(sources, readers, strict=True)
        )

    with atomic_write(idx_path(prefix)) as file:

        def write(data: bytes) -> None:
            digest.update(data)
            file.write(data)

        write_index(write, readers[0].dtype, sum(source.shard.documents for source in sources), lengths)
    return digest.hexdigest()


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


def _tokens(shard: ShardInfo, reader: ShardReader) -> Iterator[Array]:
    last = shard.first_token + shard.tokens
    for start in range(shard.first_token, last, _BLOCK_TOKENS):
        yield reader.tokens(start, min(start + _BLOCK_TOKENS, last))
