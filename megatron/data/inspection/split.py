"""Every corpus of a manifest into a shard of its own: what undoes a merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from tqdm import tqdm

from megatron.data.indexed import idx_path
from megatron.data.inspection.copy_shards import Report, Source, SourceFiles, copy_shards, strangers_in
from megatron.data.inspection.merge_record import MergeError, is_whole, read_record, sidecar_in
from megatron.data.manifest import (
    MANIFEST_NAME,
    Manifest,
    ManifestError,
    ShardInfo,
    Sidecar,
    load_manifest,
    load_sidecar,
    save_manifest,
    save_sidecar,
    sidecar_path,
)
from megatron.utils.files import remove_abandoned


def split(
    manifest: Path, folder: Path, *, corpora: Sequence[str] = (), show_progress: bool = True
) -> Manifest:
    """Write every corpus of a manifest into a shard of its own with a sidecar, and a manifest of them.

    What :func:`megatron.data.inspection.merge.merge` has merged comes back byte for byte. After an interruption, the
    same call goes on.

    Args:
        manifest: the manifest, or its folder.
        folder: for the shards.
        corpora: names of corpora, in which ``*`` stands for any text; all when empty.
        show_progress: draw a progress bar on standard error.

    Raises:
        MergeError: no corpus has such a name, two shards would get one name, ``folder`` is the manifest's own, or it
            holds shards that this call would not write.
        ManifestError: the manifest cannot be read.
        ShardError: a file is damaged.
    """
    loaded = load_manifest(manifest)
    chosen = [
        Source(loaded, shard)
        for shard in loaded.shards
        if not corpora or any(fnmatchcase(shard.name, pattern) for pattern in corpora)
    ]
    records = {path: read_record(path) for path in {source.prefix for source in chosen}}
    sidecars = [sidecar_in(records[source.prefix], source) for source in chosen]
    _check_split(loaded, chosen, sidecars, folder, corpora)
    remove_abandoned(folder)
    files, shards = SourceFiles(), []
    total = sum(source.size_bytes for source in chosen)
    with tqdm(total=total, desc="split", unit="B", unit_scale=True, disable=not show_progress) as bar:
        for source, sidecar in zip(chosen, sidecars, strict=True):
            shards.append(_write_shard(source, sidecar, folder, files, bar.update))
    save_manifest(Manifest(loaded.tokenizer, tuple(shards), folder), folder / MANIFEST_NAME)
    return load_manifest(folder)


def _check_split(
    manifest: Manifest, chosen: Sequence[Source], sidecars: Sequence[Sidecar], folder: Path, corpora: Sequence[str]
) -> None:
    problems = []
    if not chosen:
        problems.append(f"{manifest.root}: no corpus is named {' or '.join(corpora)}; `*` stands for any text")
    if folder.resolve() == manifest.root.resolve():
        problems.append(f"{folder}: holds the manifest that is to be split; give another --output")
    owners: dict[str, str] = {}
    for source, sidecar in zip(chosen, sidecars, strict=True):
        name, path = f"{source.shard.name} ({source.shard.split})", sidecar.shard.path
        if path in owners:
            problems.append(f"{name} and {owners[path]} would both be written to {folder / path}; split them apart")
        owners[path] = name
        if _is_another(folder / path, _entry(source, sidecar), sidecar):
            problems.append(f"{folder / path}: is there and is not {name} of the manifest; give another --output")
    if strangers := strangers_in(folder, [folder / path for path in owners]):
        problems.append(f"{folder}: holds other shards ({', '.join(strangers[:5])}); give another --output")
    if problems:
        raise MergeError("\n".join(problems))


def _write_shard(source: Source, sidecar: Sidecar, folder: Path, files: SourceFiles, report: Report) -> ShardInfo:
    """Write one corpus and its sidecar, unless they are there, and return its entry."""
    prefix, entry = folder / sidecar.shard.path, _entry(source, sidecar)
    try:
        before = load_sidecar(sidecar_path(prefix))
        if _describes(before, entry, sidecar) and is_whole(prefix, [before.shard]):
            report(source.size_bytes)
            return before.shard
    except ManifestError:
        pass  # not there or not whole: it is written again
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    sidecar_path(prefix).unlink(missing_ok=True)
    entry = replace(entry, content_hash=copy_shards([source], prefix, files=files, report=report))
    save_sidecar(replace(sidecar, shard=entry), prefix)
    return entry


def _entry(source: Source, sidecar: Sidecar) -> ShardInfo:
    return replace(source.shard, path=Path(sidecar.shard.path).name, first_document=0, first_token=0)


def _is_another(prefix: Path, entry: ShardInfo, sidecar: Sidecar) -> bool:
    """Tell whether a finished shard lies at a prefix which is not the one to be written there.

    One whose index is missing is no shard; one whose sidecar is missing may be what an interruption has left.
    """
    if not idx_path(prefix).exists():
        return False
    try:
        return not _describes(load_sidecar(sidecar_path(prefix)), entry, sidecar)
    except ManifestError:
        return not is_whole(prefix, [entry])


def _describes(before: Sidecar, entry: ShardInfo, sidecar: Sidecar) -> bool:
    """Tell whether a sidecar is that of the shard which is to be written."""
    same = replace(entry, content_hash=before.shard.content_hash) == before.shard
    return same and before.made_from == sidecar.made_from
