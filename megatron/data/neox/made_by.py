"""Which tokenizer made the shards that a configuration names by their paths, and how it built documents."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from megatron.data.indexed import ShardError
from megatron.data.manifest import TokenizerInfo
from megatron.data.neox.bare_shards import DocumentEnds, look_at_ends
from megatron.data.neox.named_files import NamedFile
from megatron.tokenizer.base import Tokenizer, TokenizerError
from megatron.tokenizer.load import load_tokenizer
from megatron.utils.files import fingerprint_file
from megatron.utils.log import get_logger

if TYPE_CHECKING:
    from megatron.config.schema import DataConfig, TokenizerConfig

logger = get_logger(__name__)

_BORDER_KEYS = ("reset_attention_mask", "reset_position_ids", "eod_mask_loss")
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class MadeBy:
    """The tokenizer of all shards.

    Attributes:
        info: its description.
        section: where its file is.
        loaded: the tokenizer itself, where it was needed to find this out.
    """

    info: TokenizerInfo
    section: TokenizerConfig
    loaded: Tokenizer | None = None

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer itself, loaded at most once.

        Raises:
            TokenizerError: the file cannot be used.
        """
        if self.loaded is not None:
            return self.loaded
        return load_tokenizer(self.section.tokenizer_type, self.section.vocab_file, eod_id=self.info.eod_id)


def made_by(
    files: Sequence[NamedFile], data: DataConfig, section: TokenizerConfig
) -> tuple[MadeBy | None, list[str]]:
    """Find out about the tokenizer from the sidecars or, without them, from the documents of each shard.

    Documents that do not end with the tokenizer's end-of-document id are a problem only for those who want to know
    where documents end; for the others they are worth a warning.

    Args:
        files: the opened shards.
        data: says whether borders of documents matter.
        section: the run's tokenizer.

    Returns:
        the tokenizer, None when nothing is known of it, and a text for every problem.
    """
    if not files:
        return None, []
    try:
        fingerprint = fingerprint_file(Path(section.vocab_file))
    except OSError as error:
        return None, [f"vocab_file {section.vocab_file} cannot be read ({error.strerror}); give the tokenizer's file"]
    problems = list(_foreign_sidecars(files, section, fingerprint))
    infos = list(dict.fromkeys(file.sidecar.tokenizer for file in files if file.sidecar is not None))
    bare = [file for file in files if file.sidecar is None]
    if problems or not bare:
        return (MadeBy(infos[0], section) if infos else None), problems
    try:
        eod_id = infos[0].eod_id if infos else None
        tokenizer = load_tokenizer(section.tokenizer_type, section.vocab_file, eod_id=eod_id)
    except TokenizerError as error:
        return None, [str(error)]
    ends: dict[str, DocumentEnds] = {}
    for file in bare:
        try:
            ends[file.path] = look_at_ends(file.reader, tokenizer)
        except ShardError as error:
            problems.append(f"{file.key}: {error}")
    prepend_bos = infos[0].prepend_bos if infos else bool(ends) and all(end.begin_with_bos for end in ends.values())
    _warn_of_beginnings(ends, prepend_bos=prepend_bos)
    problems += _unmarked_ends(ends, data, tokenizer)
    return MadeBy(TokenizerInfo.of(tokenizer, prepend_bos=prepend_bos), section, tokenizer), problems


def _foreign_sidecars(files: Sequence[NamedFile], section: TokenizerConfig, fingerprint: str) -> Iterator[str]:
    """Tell of shards that another tokenizer made, or the same one in another way."""
    first: NamedFile | None = None
    for file in files:
        if file.sidecar is None:
            continue
        info = file.sidecar.tokenizer
        if (info.kind, info.fingerprint) != (section.tokenizer_type, fingerprint):
            yield (
                f"{file.key}: {file.path} was made by a {info.kind} with fingerprint {info.fingerprint}, but "
                f"vocab_file {section.vocab_file} is a {section.tokenizer_type} with fingerprint {fingerprint}; "
                "tokenise it again with this file, or give the file that made it"
            )
        elif first is None or first.sidecar is None:
            first = file
        elif info != first.sidecar.tokenizer:
            yield (
                f"{file.key}: {file.path} was made with {info}, but {first.path} with {first.sidecar.tokenizer}; "
                "tokenise one of them again"
            )


def _warn_of_beginnings(ends: Mapping[str, DocumentEnds], *, prepend_bos: bool) -> None:
    others = [path for path, end in ends.items() if end.begin_with_bos != prepend_bos]
    if others:
        logger.warning(
            "documents of some shards begin with the beginning-of-text id and those of others do not: scores of %s are "
            "a little off",
            _some(others),
        )


def _unmarked_ends(ends: Mapping[str, DocumentEnds], data: DataConfig, tokenizer: Tokenizer) -> Iterator[str]:
    """Warn of shards whose documents end with other ids, or tell of the keys that cannot be used with them."""
    others = [path for path, end in ends.items() if end.other_ends]
    if not others:
        return
    ids = sorted({number for path in others for number in ends[path].other_ends})
    found = (
        f"documents of {_some(others)} end with other ids ({_some(ids)}) than the tokenizer's end of document, "
        f"{tokenizer.eod_id}"
    )
    wanted = [key for key in _BORDER_KEYS if getattr(data, key)]
    for key in wanted:
        yield f"{key} = true: {found}, so that borders of documents cannot be seen; tokenise them again"
    if not wanted:
        logger.warning("%s: the model will not learn where a text ends. GPT-NeoX needs --append-eod for that", found)


def _some(items: Sequence[object]) -> str:
    return ", ".join(map(str, items[:_SHOWN])) + (f" and {len(items) - _SHOWN:,} more" if len(items) > _SHOWN else "")
