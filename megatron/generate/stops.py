"""The text that new ids add to a prompt, and whether it holds a string that ends it."""

from __future__ import annotations

from collections.abc import Sequence

from megatron.tokenizer.base import Tokenizer

_CONTEXT_TOKENS = 16
_MARGIN_CHARACTERS = 8
"""Where decoding begins within a text, its first characters may come out otherwise: a space lost, a character cut."""


def added_text(tokenizer: Tokenizer, prompt: Sequence[int], new: Sequence[int]) -> str:
    """Return what new ids add to the text of a prompt.

    They are decoded together: the first new piece may begin with a space, and a character may lie on both sides.
    """
    whole, before = tokenizer.decode([*prompt, *new]), tokenizer.decode(prompt)
    return whole[len(before) :] if whole.startswith(before) else tokenizer.decode(new)


def before_stop(text: str, stop: Sequence[str]) -> str | None:
    """Return the text before the first of the strings, None where it holds none of them."""
    places = [place for place in map(text.find, stop) if place >= 0]
    return text[: min(places)] if places else None


class StopWatch:
    """Looks for strings in a text while it is written, token by token.

    Strings are found across tokens, and where a character is spread over several. Only the end of the text is decoded
    each time, so that a token costs the same however long the text is; what is found there is looked at once more in
    the whole text.

    Args:
        tokenizer: of the ids.
        prompt: what the text follows.
        stop: at least one string, none of them empty.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], stop: Sequence[str]) -> None:
        self._tokenizer, self._prompt, self._stop = tokenizer, prompt, stop
        self._new: list[int] = []
        self._enough = max(map(len, stop)) + _MARGIN_CHARACTERS
        # Decoding begins at the first token of the window. The second half begins where the next window will.
        self._window = list(prompt[-_CONTEXT_TOKENS:])
        self._half, self._half_characters = len(self._window), len(self._decoded())
        self._before: str | None = self._decoded()

    def found(self, token: int) -> bool:
        """Add a token, and return whether the text now holds one of the strings."""
        self._new.append(token)
        self._window.append(token)
        text = self._decoded()
        own = text[len(self._before) :] if self._before is not None and text.startswith(self._before) else text
        if before_stop(own, self._stop) is not None:
            whole = added_text(self._tokenizer, self._prompt, self._new)
            return before_stop(whole, self._stop) is not None
        if len(text) - self._half_characters >= self._enough:
            self._window, self._before = self._window[self._half :], None
            self._half, self._half_characters = len(self._window), len(self._decoded())
        return False

    def _decoded(self) -> str:
        return self._tokenizer.decode(self._window)
