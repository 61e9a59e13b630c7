"""The manifest of a tokenised corpus: which shards there are, of what language and size, and by which tokenizer.

Beside each shard lies a sidecar ``<prefix>.json`` with the shard's own entry. ``manifest.json`` lists the shards of a
folder. Both are JSON; reading them needs neither torch nor the shards.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from megatron.data.index_format import ShardError
from megatron.data.manifest_rules import path_problems, shards_problems
from megatron.utils.files import write_text

if TYPE_CHECKING:
    from megatron.data.indexed import ShardReader
    from megatron.tokenizer.base import Tokenizer

MANIFEST_NAME = "manifest.json"
Split = Literal["train", "valid"]

_FORMAT = "emma-neox-manifest"
_VERSION = 1
_STRICT = ConfigDict(extra="forbid", strict=True)
Entry = TypeVar("Entry")


class ManifestError(ValueError):
    """A manifest or sidecar is missing, malformed, or contradicts itself."""


class _NotJsonError(ManifestError):
    """Not even JSON."""


@dataclass(frozen=True, config=_STRICT)
class TokenizerInfo:
    """The tokenizer that made the shards; training refuses any other.

    Attributes:
        kind: ``SPMTokenizer``, ``HFTokenizer`` or ``TiktokenTokenizer``.
        fingerprint: XXH3 128-bit hash of the model file.
        vocab_size: number of ids.
        eod_id: the id that ends every document.
        bos_id: the beginning-of-text id, if the tokenizer has one.
        prepend_bos: whether every document begins with ``bos_id``.
    """

    kind: str
    fingerprint: str
    vocab_size: int
    eod_id: int
    bos_id: int | None = None
    prepend_bos: bool = False

    @classmethod
    def of(cls, tokenizer: Tokenizer, *, prepend_bos: bool) -> TokenizerInfo:
        """Describe a tokenizer and how documents are built with it."""
        return cls(
            kind=tokenizer.kind,
            fingerprint=tokenizer.fingerprint,
            vocab_size=tokenizer.vocab_size,
            eod_id=tokenizer.eod_id,
            bos_id=tokenizer.bos_id,
            prepend_bos=prepend_bos,
        )

    def require_same(self, tokenizer: Tokenizer, *, where: Path) -> None:
        """Raise :class:`ManifestError` unless ``tokenizer`` is the one that made the shards.

        Args:
            tokenizer: the tokenizer that is to be used with them.
            where: the manifest, for the message.
        """
        other = TokenizerInfo.of(tokenizer, prepend_bos=self.prepend_bos)
        mine, others = asdict(self), asdict(other)
        different = [f"{key} {mine[key]!r}, not {others[key]!r}" for key in mine if mine[key] != others[key]]
        if different:
            raise ManifestError(
                f"{where}: the shards were made by another tokenizer: {'; '.join(different)}. Give the tokenizer they "
                "were made with (tokenizer_type, vocab_file), or tokenise the corpus again"
            )


@dataclass(frozen=True, config=_STRICT)
class ShardInfo:
    """One shard: a split of one corpus.

    Attributes:
        name: name of the corpus; with ``split`` it is unique in a manifest.
        path: prefix of the shard, relative to the manifest's folder, with ``/``.
        split: ``train`` or ``valid`` (held out).
        source: monolingual, bilingual, code, instruction, book, paper, ...
        language: ISO 639-3; two joined by ``-`` for a pair.
        script: ISO 15924; two joined by ``-`` for a pair.
        documents: documents in the shard.
        words: whitespace-separated words of the raw text.
        tokens: tokens, with those that end (and begin) documents.
        bytes: UTF-8 bytes of the raw text.
        unk_tokens: tokens that are the tokenizer's unknown id.
        dtype: NumPy's name of the token type.
        content_hash: see :func:`megatron.data.indexed.content_hash`; of the whole file, also where the shard is a part.
        code: corpus code ``xxx_Ssss`` (a pair: ``xxx_Ssss-yyy_Ssss``); made from language and script when empty.
        first_document: the shard's first document in the file at ``path``, which several shards may share: they are
            parts of it that do not overlap.
        first_token: the shard's first token in the file.
        characters: code points of the raw text; 0 where they were not counted.
        byte_tokens: tokens that stand for a part of a character; 0 also where they were not counted.
    """

    name: str
    path: str
    split: Split
    source: str
    language: str
    script: str
    documents: int
    words: int
    tokens: int
    bytes: int
    unk_tokens: int
    dtype: str
    content_hash: str
    code: str = ""
    first_document: int = 0
    first_token: int = 0
    characters: int = 0
    byte_tokens: int = 0

    def __post_init__(self) -> None:
        if not self.code:
            languages, scripts = self.language.split("-"), self.script.split("-")
            code = "-".join(f"{language}_{script}" for language, script in zip(languages, scripts, strict=False))
            object.__setattr__(self, "code", code)


@dataclass(frozen=True, config=_STRICT)
class Sidecar:
    """What lies beside a shard: its manifest entry, its tokenizer, and what it was made from.

    Attributes:
        shard: the entry; its ``path`` is relative to the sidecar's folder.
        tokenizer: the tokenizer.
        made_from: fingerprint of the inputs and options; a finished corpus with the same one is not tokenised again.
        held_out_documents: documents of the corpus that are in its held-out shard.
        blank_documents: documents of the corpus that were left out because they hold no text.
    """

    shard: ShardInfo
    tokenizer: TokenizerInfo
    made_from: str
    held_out_documents: int = 0
    blank_documents: int = 0


@dataclass(frozen=True, config=_STRICT)
class Manifest:
    """The shards of a tokenised corpus, sorted by name and split.

    Attributes:
        tokenizer: the one tokenizer of all shards.
        shards: the entries.
        root: folder that the shards' paths are relative to; not written to the file.
    """

    tokenizer: TokenizerInfo
    shards: tuple[ShardInfo, ...]
    root: Path = field(default=Path())

    def split(self, name: Split) -> tuple[ShardInfo, ...]:
        """Return the shards of one split, in order."""
        return tuple(shard for shard in self.shards if shard.split == name)

    def prefix(self, shard: ShardInfo) -> Path:
        """Return the path of a shard without ``.bin``."""
        return self.root / shard.path


def check_shard(reader: ShardReader, shard: ShardInfo) -> None:
    """Refuse a shard on disk that is not the one its manifest entry describes, say because it was made anew.

    Args:
        reader: the opened file. Of a shard that is the whole file only what the reader knows already is compared; of a
            part, the index is asked whether documents begin and end where the part does.
        shard: its entry.

    Raises:
        ShardError: naming the file and everything that differs: documents, tokens, dtype, the borders of a part.
    """
    different = list(_differences(reader, shard))
    if different:
        raise ShardError(
            f"{reader.prefix}.idx: not the shard that the manifest lists as {shard.name} ({shard.split}): "
            f"{'; '.join(different)}. Run tools/preprocess_data.py again, which writes both"
        )


def _differences(reader: ShardReader, shard: ShardInfo) -> Iterator[str]:
    if reader.dtype.name != shard.dtype:
        yield f"dtype {reader.dtype.name}, not {shard.dtype}"
    last_document, last_token = shard.first_document + shard.documents, shard.first_token + shard.tokens
    # An entry that begins at 0 and has all documents of the file means the whole of it. One with all tokens may not:
    # the documents after it may be empty.
    whole = shard.first_document == shard.first_token == 0 and reader.num_documents == last_document
    inside = True
    for key, found, listed in (
        ("documents", reader.num_documents, last_document),
        ("tokens", reader.num_tokens, last_token),
    ):
        if found < listed or (whole and found != listed):
            inside = False
            yield f"{key} {found}, not {listed}"
    if inside and not whole:
        start, stop = reader.document_span(shard.first_document)[0], reader.document_span(last_document - 1)[1]
        if (start, stop) != (shard.first_token, last_token):
            yield (
                f"its documents {shard.first_document} to {last_document} lie at tokens {start} to {stop}, "
                f"not {shard.first_token} to {last_token}"
            )


def sidecar_path(prefix: Path | str) -> Path:
    """Return the path of a shard's sidecar."""
    return Path(f"{prefix}.json")


def save_sidecar(sidecar: Sidecar, prefix: Path | str) -> None:
    """Write a shard's sidecar, atomically."""
    write_text(sidecar_path(prefix), _to_json(asdict(sidecar)))


def load_sidecar(path: Path) -> Sidecar:
    """Read a sidecar.

    Raises:
        ManifestError: it is missing or malformed, or its shard lies in another folder.
    """
    sidecar = _parse(Sidecar, _read(path), path)
    if problems := list(path_problems(sidecar.shard)):
        raise ManifestError("\n".join(f"{path}: {problem}" for problem in problems))
    return sidecar


def save_manifest(manifest: Manifest, path: Path | str) -> None:
    """Write a manifest, atomically, with its shards sorted by name and split.

    Raises:
        ManifestError: two shards of the same name and split, or another contradiction.
    """
    path = _file_of(path)
    _check(manifest, path)
    shards = sorted(manifest.shards, key=lambda shard: (shard.name, shard.split))
    content = {"format": _FORMAT, "version": _VERSION, "tokenizer": asdict(manifest.tokenizer)}
    write_text(path, _to_json({**content, "shards": [asdict(shard) for shard in shards]}))


def load_manifest(path: Path | str) -> Manifest:
    """Read a manifest.

    Args:
        path: the file, or the folder that holds ``manifest.json``.

    Raises:
        ManifestError: it is missing, malformed or contradicts itself; the message lists every problem.
    """
    path = _file_of(path)
    content = _read(path)
    try:
        listed = _parse(_Listed, content, path)
    except _NotJsonError:
        raise
    except ManifestError:
        _check_kind(json.loads(content), path)  # of another kind of file, no more needs to be said
        raise
    _check_kind({"format": listed.format, "version": listed.version}, path)
    manifest = Manifest(listed.tokenizer, listed.shards, path.parent)
    _check(manifest, path)
    return manifest


@dataclass(frozen=True, config=_STRICT)
class _Listed:
    """The content of ``manifest.json``."""

    format: str
    version: int
    tokenizer: TokenizerInfo
    shards: tuple[ShardInfo, ...]


def _check_kind(content: Any, path: Path) -> None:
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ManifestError(f"{path}: is no manifest; tools/preprocess_data.py writes one")
    if (version := content.get("version")) != _VERSION:
        raise ManifestError(f"{path}: manifest version {version!r}; only version {_VERSION} is known")


def collect_manifest(folder: Path | str) -> Manifest:
    """Build the manifest of a folder from the sidecars in it.

    A held-out shard counts only beside its finished train shard, because that one's sidecar is written last.

    Raises:
        ManifestError: there are none, or they were made by different tokenizers.
    """
    folder = Path(folder)
    paths = sorted(path for path in folder.glob("*_document.json") if path.name != MANIFEST_NAME)
    sidecars = {path: load_sidecar(path) for path in paths}
    if not sidecars:
        raise ManifestError(f"{folder}: holds no finished shards, so there is nothing to list")
    first = next(iter(sidecars))
    tokenizer = sidecars[first].tokenizer
    for path, sidecar in sidecars.items():
        if sidecar.tokenizer != tokenizer:
            raise ManifestError(
                f"{path}: made with {sidecar.tokenizer}, but {first.name} with {tokenizer}; "
                "one folder holds shards of one tokenizer, so write to another or delete the old shards"
            )
    finished = {(s.shard.name, s.made_from) for s in sidecars.values() if s.shard.split == "train"}
    shards = [s.shard for s in sidecars.values() if (s.shard.name, s.made_from) in finished]
    if not shards:
        raise ManifestError(f"{folder}: holds no finished corpus; run tools/preprocess_data.py again")
    return Manifest(tokenizer, tuple(sorted(shards, key=lambda shard: (shard.name, shard.split))), folder)


def _check(manifest: Manifest, path: Path) -> None:
    """Raise one error that lists every contradiction in a manifest."""
    if problems := list(shards_problems(manifest.shards)):
        raise ManifestError("\n".join(f"{path}: {problem}" for problem in problems))


def _file_of(path: Path | str) -> Path:
    path = Path(path)
    return path / MANIFEST_NAME if path.is_dir() else path


def _to_json(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        if path.with_name(f"{path.name}.idx").is_file():
            raise ManifestError(
                f"{path}: is a shard, and a manifest is needed here; tools/preprocess_data.py writes one"
            ) from error
        raise ManifestError(f"{path}: cannot be read ({error.strerror}); tools/preprocess_data.py writes it") from error


def _parse(kind: type[Entry], content: bytes, path: Path) -> Entry:
    """Parse JSON straight into ``kind``: with thousands of shards, every detour is felt at the start of a run."""
    try:
        return TypeAdapter(kind).validate_json(content)
    except ValidationError as error:
        problems = error.errors()
        if problems[0]["type"] == "json_invalid":
            raise _NotJsonError(f"{path}: is not JSON ({problems[0]['msg']}); delete it and tokenise again") from error
        places = [f"{path}: {'.'.join(map(str, e['loc'])) or 'content'}: {e['msg']}" for e in problems]
        raise ManifestError("\n".join(places)) from error
