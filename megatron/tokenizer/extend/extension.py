"""What an extended tokenizer has that the old one has not: ``extension.json``, beside the extended tokenizer.

The ids of the old tokenizer keep their meaning; the new ones follow them without a gap. Each new token is spelled by
old tokens, from whose rows of the embedding its own begin.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron.tokenizer.base import TokenizerError
from megatron.utils.files import fingerprint_file, write_text

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
            is_large = path.stat().st_size > _MAX_BYTES
            content: Any = None if is_large else json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise TokenizerError(
                f"{path}: cannot be read ({error.strerror}); it is written by tools/extend_tokenizer.py"
            ) from error
        except ValueError as error:
            raise TokenizerError(f"{path}: is not JSON ({error})") from error
        if is_large:
            raise TokenizerError(f"{path}: has more than {_MAX_BYTES >> 20} MiB; it is no {FILE_NAME}")
        if problem := _problem(content):
            raise TokenizerError(f"{path}: {problem}; write it again with tools/extend_tokenizer.py")
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
