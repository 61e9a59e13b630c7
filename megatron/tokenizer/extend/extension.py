"""What an extended tokenizer has that the old one has not: ``extension.json``, beside the extended tokenizer.

The ids of the old tokenizer keep their meaning; the new ones follow them without a gap. Each new token is spelled by
old tokens, from whose rows of the embedding its own begin.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from megatron.tokenizer.base import TokenizerError
from megatron.utils.files import fingerprint_bytes, fingerprint_file, write_text

FILE_NAME = "extension.json"
TOKENIZER_FILES = ("tokenizer.model", "tokenizer.json")
"""Each of them alone may hold the extended tokenizer; the first one that is there is taken."""

_FORMAT = 2
_MAX_BYTES = 256 << 20  # a million tokens of eight old ones each take a fifth of it


@dataclass(frozen=True)
class Extension:
    """An extended tokenizer beside the old one.

    Attributes:
        old_fingerprint: of the tokenizer that was extended.
        new_fingerprints: of all files that hold the extended one; at least one.
        old_size: the old ``vocab_size``, and the first new id.
        spellings: of each new id, in order, the old ids whose text is its text; at least one each.
    """

    old_fingerprint: str
    new_fingerprints: Sequence[str]
    old_size: int
    spellings: Sequence[tuple[int, ...]]

    @property
    def new_size(self) -> int:
        """The extended ``vocab_size``."""
        return self.old_size + len(self.spellings)

    @staticmethod
    def fingerprints_in(folder: Path) -> list[str]:
        """Return the fingerprints of a folder's :data:`TOKENIZER_FILES`, as far as they are there."""
        return [fingerprint_file(folder / name) for name in TOKENIZER_FILES if (folder / name).is_file()]

    def about(self, files: Mapping[str, bytes]) -> Extension:
        """Return the same, about those of a folder's files as well that hold the extended tokenizer.

        Args:
            files: by name; the caller knows that theirs is the extended tokenizer.
        """
        more = (fingerprint_bytes(files[name]) for name in TOKENIZER_FILES if name in files)
        return replace(self, new_fingerprints=list(dict.fromkeys((*self.new_fingerprints, *more))))

    def to_json(self) -> str:
        """Return the content of ``extension.json``."""
        content = {
            "format": _FORMAT,
            "old_fingerprint": self.old_fingerprint,
            "new_fingerprints": list(self.new_fingerprints),
            "old_size": self.old_size,
            "spellings": [list(spelling) for spelling in self.spellings],
        }
        return json.dumps(content, separators=(",", ":")) + "\n"

    def save(self, folder: Path) -> None:
        """Write ``extension.json`` into a folder, atomically."""
        write_text(folder / FILE_NAME, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Extension:
        """Read ``extension.json``.

        Args:
            path: the file, or the folder in which it lies.

        Raises:
            TokenizerError: it cannot be read, or is not what :meth:`save` writes.
        """
        path = path / FILE_NAME if path.is_dir() else path
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise TokenizerError(
                f"{path}: cannot be read ({error.strerror}); it is written by tools/extend_tokenizer.py"
            ) from error
        return cls.parse(data, place=str(path))

    @classmethod
    def parse(cls, data: bytes, *, place: str) -> Extension:
        """Read the content of ``extension.json``; errors as of :meth:`load`, which name the place."""
        if len(data) > _MAX_BYTES:
            raise TokenizerError(f"{place}: has more than {_MAX_BYTES >> 20} MiB; it is no {FILE_NAME}")
        try:
            content: Any = json.loads(data)
        except ValueError as error:
            raise TokenizerError(f"{place}: is not JSON ({error})") from error
        if problem := _problem(content):
            raise TokenizerError(f"{place}: {problem}; write it again with tools/extend_tokenizer.py")
        return cls(
            old_fingerprint=content["old_fingerprint"],
            new_fingerprints=content["new_fingerprints"],
            old_size=content["old_size"],
            spellings=[tuple(spelling) for spelling in content["spellings"]],
        )


def _problem(content: Any) -> str | None:
    """Return why this is no extension, or None."""
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        return f"is no extension of format {_FORMAT}"
    if not isinstance(content.get("old_fingerprint"), str):
        return "old_fingerprint is not a string"
    fingerprints = content.get("new_fingerprints")
    if not (isinstance(fingerprints, list) and fingerprints and all(isinstance(one, str) for one in fingerprints)):
        return "new_fingerprints is not a list of strings"
    size, spellings = content.get("old_size"), content.get("spellings")
    if type(size) is not int or size < 1:
        return f"old_size is {size!r}, not a count"
    if not isinstance(spellings, list) or not spellings:
        return "spellings is not a list of lists of old ids"
    for number, spelling in enumerate(spellings):
        if not isinstance(spelling, list) or not spelling:
            return f"spelling {number} is not a list of old ids"
        for token in spelling:
            if type(token) is not int or not 0 <= token < size:
                return f"spelling {number} has {token!r}, which is no id of the old tokenizer"
    return None
