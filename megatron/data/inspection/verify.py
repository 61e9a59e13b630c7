"""Everything that can be known to be wrong with shards: each file is read once, and every problem is told."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from megatron.data.index_format import file_bytes
from megatron.data.indexed import ShardError, ShardReader, bin_path, idx_path
from megatron.data.inspection.merge_record import record_problems
from megatron.data.inspection.verify_content import scan
from megatron.data.manifest import (
    MANIFEST_NAME,
    Manifest,
    ManifestError,
    ShardInfo,
    Sidecar,
    TokenizerInfo,
    check_shard,
    load_manifest,
    load_sidecar,
    sidecar_path,
)
from megatron.utils.table import text_table

Report = Callable[[int], object]

_SHOWN = 20


class VerifyError(ValueError):
    """Shards are not what they ought to be."""


@dataclasses.dataclass(frozen=True)
class Target:
    """One file pair to verify, and what it ought to be.

    Attributes:
        prefix: its path without ``.bin``.
        shards: the entries of manifest or sidecar that lie in it; empty when there is neither.
        tokenizer: the tokenizer, where it is known.
        problems: what is wrong before it is opened.
        unknown: what cannot be checked, and why.
    """

    prefix: Path
    shards: tuple[ShardInfo, ...] = ()
    tokenizer: TokenizerInfo | None = None
    problems: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What was found out about one file pair, or about a manifest that cannot be read (then nothing is counted).

    Attributes:
        path: prefix of the files, or the manifest.
        corpora: entries that lie in it.
        documents: documents.
        tokens: tokens.
        size_bytes: of both files.
        seconds: time it took.
        problems: one line each.
        unknown: what could not be checked, one line each.
    """

    path: Path
    corpora: int = 0
    documents: int = 0
    tokens: int = 0
    size_bytes: int = 0
    seconds: float = 0.0
    problems: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def verify(paths: Sequence[Path], *, workers: int = 1, show_progress: bool = True) -> list[Verdict]:
    """Verify shards: structure of the index, content hash, ids, first and last tokens of documents, all counts.

    Memory is bounded: a few megabytes for each worker, whatever the size of the files.

    Args:
        paths: manifests (or their folders), and prefixes of single shards.
        workers: files that are read at the same time.
        show_progress: draw a progress bar on standard error.

    Returns:
        One verdict for each file pair, and one for each manifest that cannot be read.

    Raises:
        ValueError: ``workers`` is below 1.
    """
    if workers < 1:
        raise ValueError(f"--workers {workers}: must be at least 1")
    verdicts: list[Verdict] = []
    targets: list[Target] = []
    for path in paths:
        try:
            targets += find_targets(path)
        except ManifestError as error:
            verdicts.append(Verdict(path, problems=tuple(str(error).splitlines())))
    total = sum(_size_bytes(target.prefix) for target in targets)
    # Reading, hashing and comparing happen outside of Python's lock, so that threads do for workers.
    with (
        tqdm(total=total, desc="verify", unit="B", unit_scale=True, disable=not show_progress) as bar,
        ThreadPoolExecutor(workers) as pool,
    ):
        verdicts += pool.map(lambda target: verify_file(target, report=bar.update), targets)
    return verdicts


def find_targets(path: Path) -> list[Target]:
    """Return the files that a manifest, its folder, or a prefix stands for.

    Raises:
        ManifestError: the manifest cannot be read.
    """
    if path.is_dir() or path.name == MANIFEST_NAME or (path.suffix == ".json" and not bin_path(path).exists()):
        return _of_manifest(load_manifest(path))
    prefix = path.with_suffix("") if path.suffix in (".bin", ".idx") and not bin_path(path).exists() else path
    if not sidecar_path(prefix).exists():
        unknown = "no manifest or sidecar: content hash, counts, vocabulary and ends of documents are not known"
        return [Target(prefix, unknown=(unknown,))]
    try:
        sidecar = load_sidecar(sidecar_path(prefix))
    except ManifestError as error:
        return [Target(prefix, problems=tuple(str(error).splitlines()))]
    problems = () if sidecar.shard.path == prefix.name else (f"{sidecar_path(prefix)}: is of {sidecar.shard.path}",)
    return [Target(prefix, (sidecar.shard,), sidecar.tokenizer, problems)]


def verify_file(target: Target, *, report: Report = lambda count: None) -> Verdict:
    """Verify one file pair.

    Args:
        target: the files, and what they ought to be.
        report: is told of the bytes that were read.
    """
    started = time.perf_counter()
    problems = list(target.problems)
    try:
        reader = ShardReader(target.prefix)
    except ShardError as error:
        return Verdict(target.prefix, len(target.shards), problems=(*problems, str(error)), unknown=target.unknown)
    sound = not (found := list(_index_problems(reader, target)))
    problems += found
    try:
        scanned = scan(reader, target.tokenizer, borders=sound, report=report)
        problems += [f"{target.prefix}: {finding}" for finding in scanned.findings]
        problems += _hash_problems(target, scanned.content_hash)
    except ShardError as error:
        problems.append(str(error))
    return Verdict(
        path=target.prefix,
        corpora=len(target.shards),
        documents=reader.num_documents,
        tokens=reader.num_tokens,
        size_bytes=_size_bytes(target.prefix),
        seconds=time.perf_counter() - started,
        problems=tuple(problems),
        unknown=target.unknown,
    )


def verdict_lines(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield every problem, what could not be checked, and a table: files with problems first, then the largest.

    Speeds are those of one worker.

    Raises:
        VerifyError: (at the end) there are problems.
    """
    for verdict in verdicts:
        yield from (f"problem: {problem}" for problem in verdict.problems)
    for verdict in verdicts:
        yield from (f"not checked: {verdict.path}: {line}" for line in verdict.unknown)
    ranked = sorted(verdicts, key=lambda verdict: (-len(verdict.problems), -verdict.size_bytes, verdict.path))
    rows: list[tuple[str, ...]] = [("file", "corpora", "documents", "tokens", "MB", "MB/s", "problems")]
    rows += [_row(str(verdict.path), [verdict]) for verdict in ranked[:_SHOWN]]
    rows.append(_row(f"all {len(verdicts)}", verdicts))
    yield text_table(rows)
    if len(ranked) > _SHOWN:
        yield f"({len(ranked) - _SHOWN:,} smaller files are not listed)"
    if problems := sum(len(verdict.problems) for verdict in verdicts):
        files = sum(bool(verdict.problems) for verdict in verdicts)
        raise VerifyError(f"{problems:,} problem{'s' * (problems > 1)} in {files:,} file{'s' * (files > 1)}")


def _row(name: str, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    size_mb = sum(verdict.size_bytes for verdict in verdicts) / 1e6
    seconds = sum(verdict.seconds for verdict in verdicts)
    counts = (
        sum(getattr(verdict, key) for verdict in verdicts) for key in ("corpora", "documents", "tokens")
    )
    problems = sum(len(verdict.problems) for verdict in verdicts)
    speed = f"{size_mb / seconds:,.0f}" if seconds else "-"
    return (name, *(f"{count:,}" for count in counts), f"{size_mb:,.1f}", speed, str(problems))


def _of_manifest(manifest: Manifest) -> list[Target]:
    groups: dict[Path, list[ShardInfo]] = {}
    for shard in manifest.shards:
        groups.setdefault(manifest.prefix(shard), []).append(shard)
    sidecars: dict[tuple[str, str], Sidecar] = {}
    targets = []
    for prefix, shards in groups.items():
        problems: list[str] = []
        if sidecar_path(prefix).exists():
            try:
                sidecar = sidecars[shards[0].name, shards[0].split] = load_sidecar(sidecar_path(prefix))
                problems += _sidecar_problems(prefix, sidecar, shards, manifest)
            except ManifestError as error:
                problems += str(error).splitlines()
        problems += record_problems(prefix, shards)
        targets.append(Target(prefix, tuple(shards), manifest.tokenizer, tuple(problems)))
    targets[0] = dataclasses.replace(targets[0], problems=(*targets[0].problems, *_pair_problems(manifest, sidecars)))
    return targets


def _sidecar_problems(
    prefix: Path, sidecar: Sidecar, shards: Sequence[ShardInfo], manifest: Manifest
) -> Iterator[str]:
    """Compare a sidecar with the manifest, which was made from it."""
    listed = dataclasses.asdict(dataclasses.replace(shards[0], path=prefix.name))
    beside = dataclasses.asdict(sidecar.shard)
    if len(shards) > 1:
        yield f"{sidecar_path(prefix)}: describes one shard, the manifest lists {len(shards)} in this file"
    for key in listed:
        if listed[key] != beside[key]:
            yield f"{sidecar_path(prefix)}: {key} {beside[key]!r}, the manifest says {listed[key]!r}"
    if sidecar.tokenizer != manifest.tokenizer:
        yield f"{sidecar_path(prefix)}: made by {sidecar.tokenizer}, the manifest by {manifest.tokenizer}"


def _pair_problems(manifest: Manifest, sidecars: dict[tuple[str, str], Sidecar]) -> Iterator[str]:
    """Compare the sidecars of the two shards of each corpus, which were made at one time."""
    held_out = {shard.name: shard.documents for shard in manifest.split("valid")}
    for (name, split), sidecar in sidecars.items():
        if sidecar.held_out_documents != held_out.get(name, 0):
            yield (
                f"{name} ({split}): its sidecar says that {sidecar.held_out_documents} documents are held out, "
                f"the manifest lists {held_out.get(name, 0)}"
            )
        other = sidecars.get((name, "valid"))
        if split == "train" and other is not None:
            for key in ("made_from", "blank_documents"):
                if getattr(sidecar, key) != getattr(other, key):
                    yield f"{name}: the sidecars of train and valid differ in {key}, so one of them is of other text"


def _index_problems(reader: ShardReader, target: Target) -> Iterator[str]:
    try:
        reader.verify()
    except ShardError as error:
        yield str(error)
        return
    for shard in target.shards:
        try:
            check_shard(reader, shard)
        except ShardError as error:
            yield str(error)
    if target.shards:
        yield from _layout_problems(reader, target)


def _layout_problems(reader: ShardReader, target: Target) -> Iterator[str]:
    """Check that the parts of a container lie end to end."""
    for unit, first, count, whole in (
        ("document", "first_document", "documents", reader.num_documents),
        ("token", "first_token", "tokens", reader.num_tokens),
    ):
        place, before = 0, "the beginning"
        for shard in sorted(target.shards, key=lambda shard: (shard.first_document, shard.first_token)):
            start, name = getattr(shard, first), f"{shard.name} ({shard.split})"
            if start > place:
                yield f"{target.prefix}: {unit}s {place} to {start}, between {before} and {name}, belong to no corpus"
            elif start < place:
                yield f"{target.prefix}: {unit}s {start} to {place} belong to {before} and to {name}"
            place, before = max(place, start + getattr(shard, count)), name
        if place < whole:
            yield f"{target.prefix}: {unit}s {place} to {whole}, after {before}, belong to no corpus"


def _hash_problems(target: Target, found: str) -> Iterator[str]:
    for listed in sorted({shard.content_hash for shard in target.shards} - {found}):
        yield (
            f"{target.prefix}: content hash {found}, but {listed} is listed; the files are damaged or were made anew: "
            "tokenise the corpus again, or copy the shard again"
        )


def _size_bytes(prefix: Path) -> int:
    try:
        return file_bytes(bin_path(prefix)) + file_bytes(idx_path(prefix))
    except ShardError:
        return 0  # opening it says what is wrong
