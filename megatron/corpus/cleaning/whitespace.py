"""White space: line ends, blanks and empty lines."""

from __future__ import annotations

import re

from megatron.corpus.cleaning.scan import BLANKS, ODD_BLANKS

_LINE_ENDS = re.compile("\r\n?|[\v\f\x85\u2028\u2029]")
_RUNS = re.compile(f"[{BLANKS}]{{2,}}|[{ODD_BLANKS}]")
_BLANKS = " \t\u3000"
_EMPTY_LINES = re.compile("\n{3,}")
_LOOSE_SPACES = ("  ", " \n", "\n ")


def unify_line_ends(text: str, *, all_kinds: bool = True) -> str:
    """Replace line ends by line feeds: those of Windows and old Macs, and on request all that Unicode knows."""
    if all_kinds:
        return _LINE_ENDS.sub("\n", text)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def strip_line_ends(text: str) -> str:
    """Take blanks off the ends of lines; indents stay."""
    return "\n".join(line.rstrip(_BLANKS) for line in text.split("\n"))


def collapse_blanks(text: str, *, only_spaces: bool = False) -> str:
    """Take blanks off both ends of lines, and leave one blank of each run.

    A run becomes a tab when it holds one, so that tables keep their columns, an ideographic space when it holds nothing
    else, and otherwise a space.

    Args:
        text: the text.
        only_spaces: it has no other blanks than spaces, which is faster.
    """
    if only_spaces and not any(loose in text for loose in _LOOSE_SPACES):
        return text.strip(" ")
    text = _RUNS.sub(_one_blank, text)
    return "\n".join(line.strip(_BLANKS) for line in text.split("\n"))


def _one_blank(run: re.Match[str]) -> str:
    blanks = run[0]
    if "\t" in blanks:
        return "\t"
    return "\u3000" if blanks.count("\u3000") == len(blanks) else " "


def collapse_empty_lines(text: str) -> str:
    """Leave at most one empty line in a row, and none at the ends of the text."""
    text = text.strip(_BLANKS + "\n")
    return _EMPTY_LINES.sub("\n\n", text) if "\n\n\n" in text else text
