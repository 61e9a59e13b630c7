"""GPT-NeoX's ways to name data (``train_data_paths`` and ``data_path``) as a manifest and a mixture.

Shards that ``tools/preprocess_data.py`` made bring their sidecars with them; those of GPT-NeoX and Megatron are
described by :mod:`megatron.data.neox.bare_shards`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from megatron.config.derive import parse_split
from megatron.config.mixture_schema import MixtureConfig
from megatron.data.indexed import ShardError
from megatron.data.manifest import Manifest, ManifestError, ShardInfo, load_manifest
from megatron.data.neox.bare_shards import PARTIAL, count_bytes, describe_bare, leading_documents
from megatron.data.neox.made_by import MadeBy, made_by
from megatron.data.neox.named_files import NamedFile, open_files

if TYPE_CHECKING:
    from megatron.config.schema import DataConfig, TokenizerConfig

MOST_HELD_OUT_TOKENS = 4 << 20
"""Most held-out tokens of paths that are used, whatever ``eval_iters`` says. They are decoded when a run starts, to
know their bytes, and GPT-NeoX's default of 100 steps is billions of tokens at the batch sizes of large runs."""


def open_corpora(
    data: DataConfig,
    tokenizer: TokenizerConfig,
    *,
    max_valid_tokens: int | None = None,
    show_progress: bool = False,
) -> Manifest:
    """Return the shards of a run: its manifest, or one made up of the paths that it names.

    Args:
        data: names them in one of three ways.
        tokenizer: the run's tokenizer; shards without a sidecar are taken to be made by it.
        max_valid_tokens: most held-out tokens of paths, divided evenly over the shards; at most
            :data:`MOST_HELD_OUT_TOKENS`. None when nothing will be scored: then held-out shards stay whole, and the
            bytes of those without a sidecar stay 0. A manifest's held-out text is never cut.
        show_progress: show a bar while much held-out text is decoded.

    Raises:
        ManifestError: nothing is named, or listing everything that is wrong, one problem a line.
    """
    if data.data_manifest is not None:
        return load_manifest(Path(data.data_manifest))
    if data.data_path is None and not data.train_data_paths:
        raise ManifestError(
            "no data is named: give data_manifest (tools/preprocess_data.py writes it), train_data_paths or data_path"
        )
    files, problems = open_files(data)
    maker, more = made_by(files, data, tokenizer)
    problems += more
    shards: list[ShardInfo] = []
    try:
        shards = [shard for file in files for shard in _shards_of(file, data.split)]
        if maker is not None and max_valid_tokens is not None and not problems:
            limit = min(max_valid_tokens, MOST_HELD_OUT_TOKENS)
            shards = _measured(shards, files, maker, limit=limit, show_progress=show_progress)
    except ValueError as error:
        problems.append(str(error))
    if maker is None or problems:
        raise ManifestError("\n".join(problems))
    return Manifest(maker.info, tuple(sorted(shards, key=lambda shard: (shard.name, shard.split))), Path())


def path_problems(data: DataConfig) -> list[str]:
    """Return why shards that are named by their paths cannot be opened."""
    return open_files(data)[1]


def mixture_section(data: DataConfig, manifest: Manifest) -> MixtureConfig | None:
    """Return the mixture of a run: its own, or one that gives ``train_data_paths`` their shares.

    The shares are those of ``train_data_weights``, the same for all when there are none, or in proportion to
    documents ^ ``weighted_sampler_alpha`` with ``weight_by_num_documents``. That is what GPT-NeoX documents; its code
    computes ``p^alpha * (1 - p)``, which nearly turns the mixture round.

    Args:
        data: the section.
        manifest: what :func:`open_corpora` has made of it.

    Raises:
        ManifestError: tiers go by words or bytes, but shards without a sidecar have no such size.
    """
    if data.mixture is not None:
        _check_sizes(data.mixture, manifest)
        return data.mixture
    if not data.train_data_paths:
        return None
    shards = {shard.path: shard for shard in manifest.split("train")}
    if data.weight_by_num_documents:
        weights: Sequence[float] = [
            shards[path].documents ** data.weighted_sampler_alpha for path in data.train_data_paths
        ]
    else:
        weights = data.train_data_weights or [1.0] * len(data.train_data_paths)
    names = [shards[path].name for path in data.train_data_paths]
    return MixtureConfig(weights=dict(zip(names, map(float, weights), strict=True)))


def split_bounds(text: str, documents: int) -> tuple[int, int, int, int]:
    """Return where the parts for training, validation and test begin, and where the last ends, in documents.

    GPT-NeoX's rule: every part is rounded by itself, and what is then too much or too little is taken from, or added
    to, every bound but the first.

    Args:
        text: ``split``, such as ``969, 30, 1``.
        documents: documents of the file.
    """
    parts = parse_split(text)
    total = sum(parts)
    sizes = [round(part / total * documents) for part in parts]
    surplus = sum(sizes) - documents
    ends = [sum(sizes[: index + 1]) - surplus for index in range(3)]
    return 0, max(0, ends[0]), max(0, ends[1]), ends[2]


def _shards_of(file: NamedFile, split: str) -> list[ShardInfo]:
    """Return the entry of a file, or of its two parts when it is ``data_path``."""
    if file.sidecar is None:
        whole = describe_bare(file.reader, name=file.name, path=file.path, split=file.split)
    else:
        whole = dataclasses.replace(file.sidecar.shard, name=file.name, path=file.path, split=file.split)
    if file.key != "data_path":
        return [whole]
    _, train, valid, _ = split_bounds(split, whole.documents)
    if not train:
        raise ManifestError(f"split = {split!r} gives training none of the {whole.documents} documents of {file.path}")
    parts = [_part(file, whole, 0, train)]
    if not parts[0].tokens:
        raise ManifestError(f"split = {split!r}: the {train} documents of {file.path} for training hold no tokens")
    if valid > train:
        parts.append(dataclasses.replace(_part(file, whole, train, valid), split="valid"))
    return parts


def _part(file: NamedFile, whole: ShardInfo, first: int, stop: int) -> ShardInfo:
    """Return the entry of some documents of a file; their words and bytes are reckoned from their tokens."""
    start_token = file.reader.document_span(first)[0]
    tokens = file.reader.document_span(stop - 1)[1] - start_token

    def portion(count: int) -> int:
        return round(count * tokens / whole.tokens)

    return dataclasses.replace(
        whole,
        documents=stop - first,
        tokens=tokens,
        words=portion(whole.words),
        bytes=portion(whole.bytes),
        unk_tokens=portion(whole.unk_tokens),
        first_document=first,
        first_token=start_token,
    )


def _measured(
    shards: Sequence[ShardInfo], files: Sequence[NamedFile], maker: MadeBy, *, limit: int, show_progress: bool
) -> list[ShardInfo]:
    """Cut held-out shards to their part of ``limit`` tokens, and count the bytes of those whose bytes are not known."""
    held_out = [shard for shard in shards if shard.split == "valid"]
    readers = {file.path: file.reader for file in files}
    whole = {file.path for file in files if file.sidecar is not None and file.key != "data_path"}
    result = [shard for shard in shards if shard.split != "valid"]
    for shard in held_out:
        reader = readers[shard.path]
        part = leading_documents(reader, shard, max_tokens=limit // len(held_out))
        if part != shard or shard.path not in whole:
            count = count_bytes(
                reader, part, maker.tokenizer, prepend_bos=maker.info.prepend_bos, show_progress=show_progress
            )
            if not count:
                raise ShardError(f"{shard.path}: its held-out documents hold no text, so there is nothing to score")
            part = dataclasses.replace(part, bytes=count)
        result.append(part)
    return result


def _check_sizes(mixture: MixtureConfig, manifest: Manifest) -> None:
    """Refuse tiers by words or bytes for shards that do not say how many they have."""
    bare = [shard for shard in manifest.split("train") if shard.content_hash.startswith(PARTIAL)]
    if bare and mixture.weights is None and mixture.unit != "tokens":
        raise ManifestError(
            f"mixture.unit = {mixture.unit!r}: {len(bare)} shards, such as {bare[0].path}, have no sidecar that tells "
            "their size in this unit. Set mixture.unit: tokens and give mixture.tiers in tokens, or use mixture.weights"
        )
