"""Many shards into a few container files, byte for byte and restartable.

Thousands of small files are slow to open and to copy on the file systems of clusters. A container holds the documents
of one corpus after those of another; the manifest says which part is whose. Beside a container lies a record with the
sidecars of its parts, from which :func:`megatron.data.inspection.split.split` makes the original files again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tqdm import tqdm

from megatron.data.inspection.copy_shards import Report, Source, SourceFiles, copy_shards, strangers_in
from megatron.data.inspection.merge_record import (
    MergedFile,
    MergeError,
    fingerprint_of,
    is_whole,
    read_record,
    record_path,
    sidecar_in,
)
from megatron.data.manifest import (
    MANIFEST_NAME,
    Manifest,
    ShardInfo,
    Sidecar,
    load_manifest,
    save_manifest,
)
from megatron.utils.files import remove_abandoned, write_text
from megatron.utils.log import get_logger

logger = get_logger(__name__)


@dataclass(frozen=True)
class _Container:
    prefix: Path
    sources: tuple[Source, ...]

    def sidecars(self) -> tuple[Sidecar, ...]:
        return tuple(sidecar_in(read_record(source.prefix), source) for source in self.sources)


def merge(
    manifests: Sequence[Path], folder: Path, *, max_file_gb: float | None = None, show_progress: bool = True
) -> Manifest:
    """Merge the shards of several manifests into container files with one manifest.

    Train and held-out shards go into separate containers. Every source is hashed before it is copied. After an
    interruption, the same call goes on; finished containers are not written again.

    Args:
        manifests: the manifests, or their folders.
        folder: for the containers ``train-00000.*`` and so on, and ``manifest.json``.
        max_file_gb: begin another container before a ``.bin`` exceeds so many 10^9 bytes; a shard is never cut. None
            for no limit.
        show_progress: draw a progress bar on standard error.

    Returns:
        The new manifest.

    Raises:
        MergeError: other tokenizers, a corpus that comes twice, or other files in ``folder``.
        ManifestError: a manifest cannot be read.
        ShardError: a source is damaged.
    """
    loaded = [load_manifest(path) for path in manifests]
    sources = [Source(manifest, shard) for manifest in loaded for shard in manifest.shards]
    containers = list(_containers(sources, folder, None if max_file_gb is None else max_file_gb * 1e9))
    _check(loaded, sources, folder, containers)
    folder.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder)
    files = SourceFiles()
    shards: list[ShardInfo] = []
    total = sum(source.size_bytes for source in sources)
    with tqdm(total=total, desc="merge", unit="B", unit_scale=True, disable=not show_progress) as bar:
        for container in containers:
            shards += _write_container(container, files, bar.update)
    manifest = Manifest(loaded[0].tokenizer, tuple(shards), folder)
    save_manifest(manifest, folder / MANIFEST_NAME)
    return load_manifest(folder)


def summary(manifest: Manifest) -> Iterator[str]:
    """Yield what a manifest lists after a merge or split."""
    for split_name in ("train", "valid"):
        shards = [shard for shard in manifest.shards if shard.split == split_name]
        if shards:
            yield (
                f"{split_name}: {len(shards):,} corpora, {sum(shard.documents for shard in shards):,} documents, "
                f"{sum(shard.tokens for shard in shards):,} tokens in {len({shard.path for shard in shards}):,} files"
            )
    yield f"{manifest.root / MANIFEST_NAME}"


def _containers(sources: Sequence[Source], folder: Path, max_file_bytes: float | None) -> Iterator[_Container]:
    kinds = sorted({(source.shard.split, source.shard.dtype) for source in sources})
    numbers = {"train": 0, "valid": 0}
    for kind in kinds:
        members = [source for source in sources if (source.shard.split, source.shard.dtype) == kind]
        members.sort(key=lambda source: source.shard.name)
        groups: list[list[Source]] = [[]]
        size_bytes = 0
        for source in members:
            size_bytes += source.size_bytes
            if groups[-1] and max_file_bytes is not None and size_bytes > max_file_bytes:
                groups.append([])
                size_bytes = source.size_bytes
            groups[-1].append(source)
        for group in groups:
            yield _Container(folder / f"{kind[0]}-{numbers[kind[0]]:05d}", tuple(group))
            numbers[kind[0]] += 1


def _check(
    manifests: Sequence[Manifest], sources: Sequence[Source], folder: Path, containers: Sequence[_Container]
) -> None:
    problems = [
        f"{other.root}: made by {other.tokenizer}, but {manifests[0].root} by {manifests[0].tokenizer}; "
        "only shards of one tokenizer can lie in one manifest"
        for other in manifests[1:]
        if other.tokenizer != manifests[0].tokenizer
    ]
    seen: dict[tuple[str, str], Source] = {}
    for source in sources:
        key = (source.shard.name, source.shard.split)
        if key in seen:
            problems.append(f"{key[0]} ({key[1]}) is in {seen[key].manifest.root} and in {source.manifest.root}")
        seen[key] = source
    if any(folder.resolve() == manifest.root.resolve() for manifest in manifests):
        problems.append(f"{folder}: holds a manifest that is to be merged; give another --output")
    if strangers := strangers_in(folder, [container.prefix for container in containers]):
        problems.append(f"{folder}: holds other shards ({', '.join(strangers[:5])}); give another --output")
    if not manifests:
        problems.append("no manifest is given")
    if problems:
        raise MergeError("\n".join(problems))


def _write_container(container: _Container, files: SourceFiles, report: Report) -> list[ShardInfo]:
    """Write one container and its record, unless they are there, and return the entries of its parts."""
    record, sidecars = read_record(container.prefix), container.sidecars()
    made_from = fingerprint_of(sidecars)
    entries = _entries(container, "" if record is None else record.content_hash)
    if record is not None and record.made_from == made_from and is_whole(container.prefix, entries):
        logger.info("%s is finished already and is skipped", container.prefix)
        report(sum(source.size_bytes for source in container.sources))
        return entries
    # From here to the end the folder is in between: a manifest of old containers must not lead to the new ones.
    container.prefix.with_name(MANIFEST_NAME).unlink(missing_ok=True)
    record_path(container.prefix).unlink(missing_ok=True)
    content_hash = copy_shards(container.sources, container.prefix, files=files, report=report)
    written = MergedFile(made_from, content_hash, sidecars)
    write_text(record_path(container.prefix), json.dumps(asdict(written), ensure_ascii=False, indent=1) + "\n")
    return _entries(container, content_hash)


def _entries(container: _Container, content_hash: str) -> list[ShardInfo]:
    entries, document, token = [], 0, 0
    for source in container.sources:
        entries.append(
            replace(
                source.shard,
                path=container.prefix.name,
                content_hash=content_hash,
                first_document=document,
                first_token=token,
            )
        )
        document, token = document + source.shard.documents, token + source.shard.tokens
    return entries
