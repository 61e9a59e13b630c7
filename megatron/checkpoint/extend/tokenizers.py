"""Whether an extended tokenizer is of a model's own: token by token, whatever files the two are kept in."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import tokenizers

from megatron.checkpoint.convert.native import TOKENIZER_FILES as HF_FILES
from megatron.tokenizer.base import Tokenizer, TokenizerError
from megatron.tokenizer.extend.extension import TOKENIZER_FILES, Extension
from megatron.tokenizer.load import load_model_file, load_tokenizer
from megatron.utils.files import fingerprint_bytes, fingerprint_file

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SHOWN = 3

# What users of a model rely on, and an extended tokenizer may have lost on the way.
_CARRIED_SETTINGS = ("chat_template", "model_max_length", "pad_token", "padding_side", "additional_special_tokens")
_SETTINGS, _TEMPLATE = "tokenizer_config.json", "chat_template.jinja"


def open_extended(folder: Path, extension: Extension, *, eod_id: int) -> Tokenizer:
    """Load the tokenizer in a folder that its ``extension.json`` is about.

    Args:
        folder: holds ``tokenizer.model`` or ``tokenizer.json``.
        extension: says which of them.
        eod_id: the token that ends documents, as for the model.

    Raises:
        TokenizerError: neither is the one, or it cannot be read.
    """
    there = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    if not there:
        raise TokenizerError(f"{folder} holds no tokenizer: neither {' nor '.join(TOKENIZER_FILES)}")
    for path in there:
        if fingerprint_file(path) in extension.new_fingerprints:
            if path.suffix == ".json":
                return load_tokenizer("HFTokenizer", path, eod_id=eod_id)
            kind = load_model_file(path).kind
            return load_tokenizer(kind, path, eod_id=eod_id)
    names = " and ".join(path.name for path in there)
    raise TokenizerError(f"{names} in {folder} are not what its extension.json is about; extend the tokenizer again")


def extension_problems(old: Tokenizer, new: Tokenizer, extension: Extension) -> Iterator[str]:
    """Tell why rows of a model cannot be made for an extended tokenizer; nothing when they can.

    All old tokens are compared by spelling and id, the special ones by their ids, and each new one with the old tokens
    that are said to spell it.

    Args:
        old: the model's own tokenizer.
        new: the extended one.
        extension: what is said of it.
    """
    if new.vocab_size != extension.new_size:
        yield f"the extended tokenizer has {new.vocab_size:,} tokens, its extension.json {extension.new_size:,}"
    ours, theirs = _tokens(old), _tokens(new)
    before, after = (
        {token: text for token, text in table.items() if token < extension.old_size} for table in (ours, theirs)
    )
    more = {token: text for token, text in ours.items() if token not in before}
    if more:
        yield (
            f"the model's tokenizer has {len(more):,} tokens that the one that was extended has not, such as "
            f"{_shown(more)}: extend the model's own tokenizer"
        )
    differing = [token for token in sorted(before.keys() | after.keys()) if before.get(token) != after.get(token)]
    if differing:
        told = ", ".join(f"{token} is {before.get(token)!r} / {after.get(token)!r}" for token in differing[:_SHOWN])
        yield (
            f"{len(differing):,} old tokens are not the same in the model's and in the extended tokenizer, such as "
            f"{told}: extend the model's own tokenizer"
        )
    for name in ("bos_id", "unk_id", "eod_id"):
        if getattr(old, name) != getattr(new, name):
            yield f"{name} is {getattr(old, name)} in the model's tokenizer, {getattr(new, name)} in the extended one"
    if not differing:
        yield from _spelling_problems(new, theirs, extension)


def _spelling_problems(tokenizer: Tokenizer, tokens: Mapping[int, str], extension: Extension) -> Iterator[str]:
    """Tell which new tokens are not what the old ones that spell them say together."""
    is_part = tokenizer.byte_token_mask()

    def data(token: int) -> bytes:
        text = tokens.get(token, "")
        byte = _BYTE_PIECE.fullmatch(text) if token < len(is_part) and is_part[token] else None
        return bytes([int(byte[1], 16)]) if byte else text.encode("utf-8", "surrogatepass")

    wrong = {
        token: tokens.get(token, "")
        for token, spelling in enumerate(extension.spellings, start=extension.old_size)
        if b"".join(map(data, spelling)) != data(token)
    }
    if wrong:
        yield (
            f"{len(wrong):,} of {len(extension.spellings):,} new tokens are not spelled by the old ones that "
            f"extension.json names, such as {_shown(wrong)}: extend the tokenizer again"
        )


def _tokens(tokenizer: Tokenizer) -> dict[int, str]:
    loaded = tokenizers.Tokenizer.from_str(tokenizer.tokenizer_json())
    return {token: text for text, token in loaded.get_vocab(with_added_tokens=True).items()}


def _shown(tokens: Mapping[int, str]) -> str:
    return ", ".join(f"{token} {text!r}" for token, text in sorted(tokens.items())[:_SHOWN])


def old_tokenizer_note(old: Tokenizer, files: Mapping[str, bytes], extension: Extension) -> str:
    """Say how the model's tokenizer is known to be the one that was extended."""
    found = {name: fingerprint_bytes(files[name]) for name in TOKENIZER_FILES if name in files}
    same = [name for name, fingerprint in found.items() if fingerprint == extension.old_fingerprint]
    if not same and old.fingerprint == extension.old_fingerprint:
        same = ["it"]
    told = f"{same[0]} has its fingerprint, and " if same else "no file of the model has its fingerprint, but "
    return f"the tokenizer that was extended is the model's: {told}all {extension.old_size:,} tokens are the same"


def tokenizer_files(new: Tokenizer, old_files: Mapping[str, bytes], *, prepend_bos: bool) -> dict[str, bytes]:
    """Return the files of the extended tokenizer for a model's folder.

    Args:
        new: the extended tokenizer.
        old_files: of the model before; its chat template and lengths are carried over where the new one has none.
        prepend_bos: whether texts begin with bos, as they do for the model.

    Raises:
        TokenizerError: it cannot be written for transformers.
    """
    with tempfile.TemporaryDirectory() as name:
        new.save(Path(name), prepend_bos=prepend_bos)
        files = {path.name: path.read_bytes() for path in Path(name).iterdir() if path.name in HF_FILES}
    if _TEMPLATE in old_files:
        files.setdefault(_TEMPLATE, old_files[_TEMPLATE])
    settings, before = json.loads(files[_SETTINGS]), _object(old_files.get(_SETTINGS, b"{}"))
    carried = {key: before[key] for key in _CARRIED_SETTINGS if before.get(key) is not None and key not in settings}
    if carried:
        files[_SETTINGS] = (json.dumps({**settings, **carried}, ensure_ascii=False, indent=2) + "\n").encode("utf-8")
    return files


def _object(data: bytes) -> dict[str, object]:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise TokenizerError(f"the model's {_SETTINGS} is not JSON ({error}); mend it or delete it") from None
    return found if isinstance(found, dict) else {}

