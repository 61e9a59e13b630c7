"""The stronger guard: no new token can be in any text of the pivots' scripts, whatever it says."""

from __future__ import annotations

import functools
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable

from megatron.languages.script import NO_SCRIPT, script_counts
from megatron.tokenizer.extend.words import script_of

# A quotation in another script makes no pivot of it.
_LEAST_SHARE = 0.01


def scripts_of(lines: Iterable[str]) -> list[str]:
    """Return the scripts that at least one in a hundred letters of some lines is of."""
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(script_counts(line))
    return sorted(script for script, count in counts.items() if count >= _LEAST_SHARE * counts.total())


def has_script(text: str, scripts: Collection[str]) -> bool:
    """Return whether a text has a letter of one of these scripts."""
    return any(script_of(character) in scripts for character in text)


def allows(scripts: Collection[str]) -> Callable[[str | bytes], bool]:
    """Return what says whether a token may be learnt: whether no text of these scripts can have it.

    Characters that belong to no script (signs, marks that scripts share) may be in any text. So may a part of a
    character, if it is a part of one of those or of a letter of these scripts.
    """
    chosen = frozenset(scripts)

    def is_allowed(token: str | bytes) -> bool:
        tail, text, head = ("", token, "") if isinstance(token, str) else _taken_apart(token)
        if has_script(text, chosen):
            return False
        if any(script_of(character) != NO_SCRIPT for character in text):
            return True
        parts = [part for part in (tail, head) if part]
        return any(part not in _parts_of_characters(chosen) for part in parts)

    return is_allowed


def _taken_apart(token: bytes) -> tuple[bytes, str, bytes]:
    """Return the end of a character, whole characters, and the beginning of one."""
    start = 0
    while start < len(token) and token[start] & 0xC0 == 0x80:
        start += 1
    end = len(token)
    for place in range(max(start, end - 3), end):
        length = 2 if token[place] >> 5 == 0b110 else 3 if token[place] >> 4 == 0b1110 else 4
        if token[place] >= 0xC0 and place + length > end:
            end = place
            break
    return token[:start], token[start:end].decode("utf-8", errors="replace"), token[end:]


@functools.lru_cache(maxsize=4)
def _parts_of_characters(scripts: frozenset[str]) -> frozenset[bytes]:
    """Return all parts of the UTF-8 of the letters of these scripts, and of the characters of no script."""
    parts: set[bytes] = set()
    for number in range(0x80, sys.maxunicode + 1):
        character = chr(number)
        if unicodedata.category(character) in ("Cn", "Cs", "Co") or script_of(character) not in {*scripts, NO_SCRIPT}:
            continue
        data = character.encode("utf-8")
        parts.update(data[start:end] for start in range(len(data)) for end in range(start + 1, len(data) + 1))
    return frozenset(parts)
