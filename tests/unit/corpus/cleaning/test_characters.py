"""Normal forms, control characters and white space."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.corpus.cleaning import scan as scanning
from megatron.corpus.cleaning.characters import cut_marks, normalise, remove_controls
from megatron.corpus.cleaning.lines import limit_repeats, without
from megatron.corpus.cleaning.scan import CONTROL, MANY_MARKS, UNORDERED, scan
from megatron.corpus.cleaning.whitespace import collapse_blanks, collapse_empty_lines, strip_line_ends, unify_line_ends

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=[]), max_size=60)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a\x00b\x1bc\x7fd\x85", "abcd\x85"),
        ("\ufeffword\u00ad\u2060s", "words"),
        ("\u200eright\u200f \u202ato\u202c \u2066left\u2069", "right to left"),
        ("می\u200cخواهم क्\u200dष", "می\u200cخواهم क्\u200dष"),
        ("\u0601123 \u06dd \u180e", "\u0601123 \u06dd \u180e"),
        ("ខ្ញុំ\u200bទៅ\u200b\u200bសាលា\u200b", "ខ្ញុំ\u200bទៅ\u200bសាលា"),
        ("ไทย\u200b\u200eไทย", "ไทย\u200bไทย"),
        ("in\u200bEnglish \u200b", "inEnglish "),
        ("a\ud800b\ufffe\U0010ffff", "ab"),
        ("\ue000 \ufffd", "\ue000 \ufffd"),
        ("line\nfeed\ttab\r\n", "line\nfeed\ttab\r\n"),
    ],
)
def test_controls(text: str, kept: str) -> None:
    assert remove_controls(text) == kept
    assert remove_controls(kept) == kept


def test_nfc_keeps_what_nfkc_loses() -> None:
    assert normalise("e\u0301 x² ﬁ Ａ", "NFC") == "é x² ﬁ Ａ"
    assert normalise("e\u0301 x² ﬁ Ａ", "NFKC") == "é x2 fi A"


def test_marks_are_cut_before_they_take_for_ever() -> None:
    text = "a" + "\u0301\u0316" * 100_000 + "b"
    start = time.process_time()
    assert scan(text) & MANY_MARKS
    assert len(normalise(cut_marks(text), "NFC")) <= 32
    assert time.process_time() - start < 2
    assert not scan("a" + "\u0316" * 30) & MANY_MARKS and scan("a" + "\u0316" * 31) & MANY_MARKS


@pytest.mark.parametrize("before", range(40))
def test_marks_are_seen_across_pieces(before: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "_PIECE_CHARACTERS", 40)
    assert scan("x" * before + "\u0316" * 31 + "x") & MANY_MARKS
    assert not scan("x" * before + "\u0316" * 30 + "x") & MANY_MARKS


@given(ANY_TEXT)
def test_the_scan_misses_nothing(text: str) -> None:
    traits = scan(text)
    if not traits & CONTROL:
        assert remove_controls(text) == text
    if not traits & UNORDERED:
        assert unicodedata.is_normalized("NFC", text)


@pytest.mark.parametrize(
    ("text", "collapsed"),
    [
        ("a  b", "a b"),
        (" a \n b ", "a\nb"),
        ("a\u00a0b\u2003c", "a b c"),
        ("a \t b\tc", "a\tb\tc"),
        ("\u3000\u3000天\u3000\u3000地 \u3000人", "天\u3000地 人"),
        ("10\u202f000", "10\u202f000"),
        ("a b\nc", "a b\nc"),
    ],
)
def test_blanks(text: str, collapsed: str) -> None:
    assert collapse_blanks(text) == collapsed
    assert collapse_blanks(collapsed) == collapsed


@given(st.text(alphabet="a \n", max_size=30))
def test_the_fast_way_gives_the_same(text: str) -> None:
    assert collapse_blanks(text, only_spaces=True) == collapse_blanks(text)


def test_lines() -> None:
    assert unify_line_ends("a\r\nb\rc\vd\u2028e\x85f") == "a\nb\nc\nd\ne\nf"
    assert unify_line_ends("a\r\nb\rc\fd\u2028", all_kinds=False) == "a\nb\nc\fd\u2028"
    assert strip_line_ends("  a \n\tb\t\n") == "  a\n\tb\n"
    assert collapse_empty_lines("\n\na\n\n\n\nb\n") == "a\n\nb"


def test_copies_of_lines() -> None:
    line, short = "a line of some length", "short"
    text = "\n".join([line, short, line, short, line, short, "other line"])
    assert limit_repeats(text, 2) == "\n".join([line, short, line, short, short, "other line"])
    assert limit_repeats(text, 3) == text
    assert limit_repeats("人人生而自由\n" * 3 + "人\n" * 3, 1) == "人人生而自由\n人\n人\n人\n"


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.booleans()), max_size=12))
def test_without_keeps_lines_in_order(pairs: list[tuple[str, bool]]) -> None:
    lines = [line for line, _ in pairs]
    left = without(lines, [drop for _, drop in pairs])
    assert [line for line in left.split("\n") if line] == [line for line, drop in pairs if line and not drop]
    if not any(drop for _, drop in pairs):
        assert left == "\n".join(lines)
