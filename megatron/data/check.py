"""What can be known of a run's data before it starts: found in seconds on a login node, not hours later in a queue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from megatron.data.indexed import ShardError, ShardReader
from megatron.data.manifest import Manifest, ManifestError, check_shard, load_manifest
from megatron.data.mixture import MixtureError, plan_mixture
from megatron.utils.files import fingerprint_file

if TYPE_CHECKING:
    from megatron.config.schema import DataConfig, TokenizerConfig

_LISTED = 20


def check_data(data: DataConfig, tokenizer: TokenizerConfig) -> list[str]:
    """Return every reason why a run could not read its data: manifest, tokenizer, mixture, and each shard's index.

    Shards are opened, not read. A manifest or tokenizer file that is not set or not there at all is left to
    :func:`megatron.config.check.check_files`, so that nothing is told twice.

    Returns:
        one text for each problem; of shards, and of entries of the manifest, only the first 20 and a count.
    """
    if data.data_manifest is None or not Path(data.data_manifest).exists():
        return []
    try:
        manifest = load_manifest(Path(data.data_manifest))
    except ManifestError as error:
        return _bounded(str(error).splitlines(), "problems of the manifest")
    problems = []
    if Path(tokenizer.vocab_file).is_file() and (problem := tokenizer_problem(tokenizer, manifest)):
        problems.append(problem)
    try:
        plan_mixture(manifest, data.mixture)
    except MixtureError as error:
        problems.append(str(error))
    return problems + _bounded(list(_shard_problems(manifest)), "shards")


def tokenizer_problem(section: TokenizerConfig, manifest: Manifest) -> str | None:
    """Return why a run's tokenizer is not the one that made its shards, or None when it is."""
    made_by = manifest.tokenizer
    try:
        fingerprint = fingerprint_file(Path(section.vocab_file))
    except OSError as error:
        return f"vocab_file {section.vocab_file} cannot be read ({error.strerror}); give the file that made the shards"
    if (section.tokenizer_type, fingerprint) == (made_by.kind, made_by.fingerprint):
        return None
    return (
        f"the shards were made by a {made_by.kind} with fingerprint {made_by.fingerprint}, but vocab_file "
        f"{section.vocab_file} is a {section.tokenizer_type} with fingerprint {fingerprint}; "
        "tokenise the corpus again with this file, or give the file that made the shards"
    )


def _shard_problems(manifest: Manifest) -> Iterator[str]:
    for shard in manifest.shards:
        try:
            check_shard(ShardReader(manifest.prefix(shard)), shard)
        except ShardError as error:
            yield str(error)


def _bounded(problems: list[str], what: str) -> list[str]:
    rest = len(problems) - _LISTED
    return [*problems[:_LISTED], f"... and {rest:,} more {what}"] if rest > 0 else problems
