"""Which tokens of a run's tokenizer an extension of the vocabulary has added."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from megatron.data.manifest import TokenizerInfo
from megatron.tokenizer.base import TokenizerError
from megatron.tokenizer.extend.extension import FILE_NAME, Extension
from megatron.tokenizer.load import load_tokenizer

if TYPE_CHECKING:
    from megatron.config.schema import ModelConfig, NewTokensConfig, TokenizerConfig


def first_new_token(
    section: NewTokensConfig, tokenizer: TokenizerInfo, *, beside: Sequence[Path] = ()
) -> int | None:
    """Return the first id that is new, or None where the configuration does not say which are.

    Args:
        section: names the extension, or the id itself.
        tokenizer: that of the run.
        beside: folders whose ``extension.json``, where they have one, must agree with ``new_tokens_from``.

    Raises:
        ValueError: there is no such id, the extension cannot be read, or it is of another tokenizer; each line is one
            problem.
    """
    if not section.are_named:
        return None
    extension = None
    if section.vocab_extension is not None:
        try:
            extension = Extension.load(Path(section.vocab_extension))
        except TokenizerError as error:
            raise ValueError(f"vocab_extension = {section.vocab_extension}: {error}{_begins(section)}") from error
    problems = [*_problems(section, extension, tokenizer), *_contradictions(section, beside)]
    if problems:
        raise ValueError("\n".join(problems))
    return section.new_tokens_from if extension is None else extension.old_size


def extension_folders(tokenizer: TokenizerConfig, model: ModelConfig | None) -> list[Path]:
    """Return the folders that may hold the extension of a run's vocabulary: the tokenizer's and the model's."""
    hf_model = None if model is None else model.hf_model
    return list(dict.fromkeys([Path(tokenizer.vocab_file).parent, *([Path(hf_model)] if hf_model else [])]))


def new_tokens_line(section: NewTokensConfig, tokenizer: TokenizerConfig) -> str | None:
    """Return how many tokens are new, for people; None where none is, or it cannot be known."""
    try:
        if section.vocab_extension is not None:
            extension = Extension.load(Path(section.vocab_extension))
            first, size = extension.old_size, extension.new_size
        elif section.new_tokens_from is not None:
            first = section.new_tokens_from
            size = load_tokenizer(tokenizer.tokenizer_type, tokenizer.vocab_file).vocab_size
        else:
            return None
    except (ValueError, OSError):
        return None  # check_data says why
    return f"new tokens: {size - first:,}, the ids {first:,} to {size - 1:,}" if first < size else None


def _begins(section: NewTokensConfig) -> str:
    """Say where a relative path begins."""
    path = Path(section.vocab_extension or "")
    return "" if path.is_absolute() or path.exists() else f". A relative path begins at {Path.cwd()}, where this runs"


def _contradictions(section: NewTokensConfig, beside: Sequence[Path]) -> Iterator[str]:
    first = section.new_tokens_from
    for path in (folder / FILE_NAME for folder in beside):
        if first is None or not path.is_file():
            continue
        try:
            known = Extension.load(path).old_size
        except TokenizerError as error:
            yield str(error)
            continue
        if known != first:
            yield (
                f"new_tokens_from = {first}, but the first new id is {known}, says {path}. Give that, or name the "
                "folder as vocab_extension."
            )


def _problems(section: NewTokensConfig, extension: Extension | None, tokenizer: TokenizerInfo) -> Iterator[str]:
    first, size = section.new_tokens_from, tokenizer.vocab_size
    if first is not None and first >= size:
        yield (
            f"new_tokens_from = {first} is no id of the tokenizer, which has {size} entries. Give the number of "
            "entries that it had before it was extended."
        )
    if extension is None:
        return
    if tokenizer.fingerprint not in extension.new_fingerprints:
        yield (
            f"vocab_extension = {section.vocab_extension} made a tokenizer with fingerprint "
            f"{' or '.join(extension.new_fingerprints)}, and that of the run has {tokenizer.fingerprint}. Name "
            "the extension of this tokenizer, or give the extended one as vocab_file."
        )
    elif extension.new_size != size:
        yield (
            f"vocab_extension = {section.vocab_extension} has {extension.new_size} entries, and the tokenizer {size}. "
            "Extend the vocabulary again."
        )
    if first is not None and first != extension.old_size:
        yield (
            f"new_tokens_from = {first} contradicts vocab_extension = {section.vocab_extension}, whose first new id is "
            f"{extension.old_size}. Keep one of the two."
        )
