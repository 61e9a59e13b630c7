"""What can be known of a run's data before it starts: found in seconds on a login node, not hours later in a queue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from megatron.data.indexed import ShardError
from megatron.data.manifest import Manifest, ManifestError, TokenizerInfo
from megatron.data.mixture import MixtureError, RunSize, plan_mixture
from megatron.data.neox.paths import mixture_section, open_corpora, path_problems
from megatron.data.new_tokens import extension_folders, first_new_token
from megatron.data.parts import Parts
from megatron.data.same_ids import other_ids_problem
from megatron.tokenizer.load import load_tokenizer
from megatron.utils.files import fingerprint_file

if TYPE_CHECKING:
    from megatron.config.schema import DataConfig, ModelConfig, NewTokensConfig, TokenizerConfig

_LISTED = 20


def check_data(
    data: DataConfig,
    tokenizer: TokenizerConfig,
    *,
    run: RunSize | None = None,
    model: ModelConfig | None = None,
    new_tokens: NewTokensConfig | None = None,
) -> list[str]:
    """Return every reason why a run could not read its data: manifest or paths, tokenizer, mixture, each shard's index.

    Shards are opened, not read, but for a few tokens of those that have no sidecar. A manifest or tokenizer file that
    is not set or not there at all is left to :func:`megatron.config.check.check_files`: nothing is told twice.

    Args:
        data: names the shards in one of three ways.
        tokenizer: the run's tokenizer.
        run: its size, which limits on epochs depend on; None when it is not known, then these are not checked.
        model: the run's, whose weights know the ids of one tokenizer; None to leave that out.
        new_tokens: what is said of those of an extended vocabulary.

    Returns:
        one text for each problem; of shards, and of entries of the manifest, only the first 20 and a count.
    """
    has_tokenizer = Path(tokenizer.vocab_file).is_file()
    if data.data_manifest is not None:
        if not Path(data.data_manifest).exists():
            return []
    elif data.data_path is None and not data.train_data_paths:
        return []
    elif not has_tokenizer:
        return _bounded(path_problems(data), "problems of the shards")
    try:
        manifest = open_corpora(data, tokenizer)
    except ManifestError as error:
        what = "shards" if data.data_manifest is None else "manifest"
        return _bounded(str(error).splitlines(), f"problems of the {what}")
    problems = list(_tokenizer_problems(tokenizer, manifest, model, new_tokens))
    try:
        plan_mixture(manifest, mixture_section(data, manifest), run=run or RunSize(data.seq_length, 1, 1))
    except (ManifestError, MixtureError) as error:
        problems += str(error).splitlines()
    return problems + _bounded(list(_shard_problems(manifest)), "shards")


def _tokenizer_problems(
    tokenizer: TokenizerConfig, manifest: Manifest, model: ModelConfig | None, new_tokens: NewTokensConfig | None
) -> Iterator[str]:
    """Compare the run's tokenizer with the shards, the model's weights and what is said of new tokens."""
    info, is_there = manifest.tokenizer, Path(tokenizer.vocab_file).is_file()
    are_named = new_tokens is not None and new_tokens.are_named
    try:
        if is_there and (problem := tokenizer_problem(tokenizer, manifest)):
            yield problem
            if are_named:  # they are tokens of the run's tokenizer, whatever made the shards
                loaded = load_tokenizer(tokenizer.tokenizer_type, tokenizer.vocab_file, eod_id=info.eod_id)
                info = TokenizerInfo.of(loaded, prepend_bos=info.prepend_bos)
        if new_tokens is not None:
            first_new_token(new_tokens, info, beside=extension_folders(tokenizer, model))
    except ValueError as error:
        yield from str(error).splitlines()
    try:
        if is_there and model is not None:
            problem = other_ids_problem(tokenizer, model, eod_id=manifest.tokenizer.eod_id)
            yield from [problem] if problem else []
    except ValueError as error:
        yield from str(error).splitlines()


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
    parts = Parts(manifest.root)
    for shard in manifest.shards:
        try:
            parts.open(shard)
        except ShardError as error:
            yield str(error)


def _bounded(problems: list[str], what: str) -> list[str]:
    rest = len(problems) - _LISTED
    return [*problems[:_LISTED], f"... and {rest:,} more {what}"] if rest > 0 else problems
