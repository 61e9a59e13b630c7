"""What is refused before anything is learnt, and what its user is warned of."""

from __future__ import annotations

from collections.abc import Sequence

from megatron.tokenizer.base import Tokenizer, TokenizerError
from megatron.tokenizer.extend.source import Source, pivot_lines
from megatron.utils.log import get_logger

_FEW_LINES = 1000
_logger = get_logger(__name__)


def check_pivots(sources: Sequence[Source]) -> None:
    """Raise :class:`TokenizerError` that names the pivots without a line."""
    empty = [source.name for source in sources if source.is_pivot and next(pivot_lines([source]), None) is None]
    if empty:
        raise TokenizerError(
            f"the pivot texts {', '.join(empty)} have no line, so nothing of them is kept: give their text, or leave "
            "them out"
        )


def check_beginning(old: Tokenizer, *, prepend_bos: bool) -> None:
    """Raise :class:`TokenizerError` if texts shall begin with a token that is not there."""
    if prepend_bos and old.bos_id is None and old.kind != "HFTokenizer":  # tokenizer.json keeps what it does
        raise TokenizerError(
            "the tokenizer has no beginning-of-text token that texts could begin with: give --no-prepend-bos"
        )


def warn_of_few_lines(unseen: int) -> None:
    """Warn if this many pivot lines that the guard has not seen say little about others."""
    if unseen < _FEW_LINES:
        _logger.warning(
            "only %d pivot lines tell how other text of the pivots will fare; give %d times as much pivot text",
            unseen, -(-_FEW_LINES // max(unseen, 1)),
        )  # fmt: skip


def warn_of_characters(characters: int, count: int, *, without_room: int) -> None:
    """Warn if more than half of so many new tokens are single characters.

    Args:
        characters: those that are new tokens.
        count: of new tokens.
        without_room: characters that have become none.
    """
    if 2 * characters > count:
        _logger.warning(
            "%s of the %s new tokens are single characters, which leaves few for parts of words, and %s more have no "
            "room: give --new-tokens %d or more, or a smaller --character-coverage",
            f"{characters:,}", f"{count:,}", f"{without_room:,}", 2 * (characters + without_room),
        )  # fmt: skip
