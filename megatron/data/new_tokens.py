"""Which tokens of a run's tokenizer an extension of the vocabulary has added."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from megatron.data.manifest import TokenizerInfo
from megatron.tokenizer.base import TokenizerError
from megatron.tokenizer.extend.extension import Extension

if TYPE_CHECKING:
    from megatron.config.schema import NewTokensConfig


def first_new_token(section: NewTokensConfig, tokenizer: TokenizerInfo) -> int | None:
    """Return the first id that is new, or None where the configuration does not say which are.

    Args:
        section: names the extension, or the id itself.
        tokenizer: that of the run.

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
            raise ValueError(f"vocab_extension = {section.vocab_extension}: {error}") from error
    if problems := list(_problems(section, extension, tokenizer)):
        raise ValueError("\n".join(problems))
    return section.new_tokens_from if extension is None else extension.old_size


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
