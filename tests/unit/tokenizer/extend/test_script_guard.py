"""Tokens that no text of some scripts can have."""

from __future__ import annotations

import pytest

from megatron.tokenizer.extend.script_guard import allows, scripts_of


def test_a_quotation_makes_no_pivot_of_a_script() -> None:
    assert scripts_of(["a" * 990, "я" * 9, "123"]) == ["Latn"]
    assert scripts_of(["a" * 90, "я" * 10, "漢"]) == ["Cyrl", "Latn"]
    assert scripts_of(["123"]) == []


@pytest.mark.parametrize(
    ("token", "is_allowed"),
    [
        ("я", True), ("▁яb", False), ("b", False), ("▁", False), ("́", False), ("я́", True),
        ("яя".encode(), True), ("яb".encode(), False), (" я".encode(), True), (b" .", False),
        # U+2C00, Glagolitic, begins as U+2C60, Latin, does: e2 b0 is only Glagolitic's, e2 b1 both's.
        ("Ⰰ".encode()[:2], True), ("ⱟ".encode()[:2], False), ("Ⱡ".encode()[:2], False),
        # ꯀ, Meetei Mayek, is ea af 80; no other script begins with ea af, but signs end with af 80.
        ("ꯀ".encode()[:2], True), ("ꯀ".encode()[1:], False), ("ꯀꯁ".encode()[2:5], True),
        # The end of one and the beginning of another character which both may be Latin.
        (b"\xa9\xc3", False), (b"\x80\xe2", False), ("я".encode() + b"\xc3", True),
        ("𑄧".encode()[:3], True), ("𝐀".encode()[:3], False), ("𑄧".encode()[:2], False),
    ],
)  # fmt: skip
def test_what_a_latin_text_can_have_is_not_learnt(token: str | bytes, is_allowed: bool) -> None:
    assert allows(["Latn"])(token) is is_allowed
