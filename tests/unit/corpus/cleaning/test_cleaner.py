"""The rules of stage clean: what each changes, and what none may touch."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.config.corpus_schema import CleanConfig
from megatron.corpus.cleaning.cleaner import RULES, Cleaner
from megatron.corpus.cleaning.mojibake import mend

WEB = Cleaner(CleanConfig(), source="monolingual")
OFF = {
    "unicode": "none",
    "mojibake": False,
    "html": False,
    "control": False,
    "whitespace": False,
    "boilerplate": False,
    "repeated_lines": 0,
}
PIECES = [
    *"<>&;\n \tab\x00é\u0301\u200b\u00ad",
    "<b>",
    "</b>",
    "&lt;",
    "&amp;",
    "Ã©",
    "<br/>",
    "Home > News > Sport",
    "©",
]


@pytest.mark.parametrize(
    ("rule", "text", "cleaned"),
    [
        ("html", "<p>one <b>two</b>&nbsp;&amp; three</p>", "one two & three"),
        ("html", "a<script>x < y</script> b<!-- no --> c", "a b c"),
        ("mojibake", "Ã©tÃ© Ã  la cafÃ©tÃ©ria", "été à la cafétéria"),
        ("control", "so\u00adft\x00 \ufeffword", "soft word"),
        ("unicode", "cafe\u0301 au lait", "café au lait"),
        ("whitespace", " one   two \r\n\r\n\r\n\r\nthree\t", "one two\n\nthree"),
        (
            "boilerplate",
            "A text that says something.\nLog in\nIt says more.",
            "A text that says something.\nIt says more.",
        ),
        ("repeated_lines", "The same line again.\n" * 6 + "The end.", "The same line again.\n" * 3 + "The end."),
    ],
)
def test_each_rule(rule: str, text: str, cleaned: str) -> None:
    found = WEB.clean(text)
    assert found.text == cleaned
    assert rule in found.rules and set(found.rules) <= set(RULES)
    assert Cleaner(CleanConfig(**OFF), source="monolingual").clean(text).text == text  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    ["a < b and c > d, I <3 you", "List<int> of numbers", "می\u200cخواهم", "क्\u200dष", "ka Ã Ewe Ã la", "x & y; AT&T"],
)
def test_text_is_not_touched(text: str) -> None:
    assert WEB.clean(text) == (WEB.clean(text).__class__)(text, ())


def test_code_keeps_its_blanks_and_markup() -> None:
    code = "<b>if x:</b>\n        return  &amp;\n\n\n\n" * 5
    assert Cleaner(CleanConfig(), source="code").clean(code).text == code


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=25).map("".join))
def test_cleaning_again_changes_nothing(text: str) -> None:
    for source in ("monolingual", "code", "instruction", "bilingual"):
        cleaner = Cleaner(CleanConfig(), source=source)
        once = cleaner.clean(text).text
        assert cleaner.clean(once).text == once


@pytest.mark.parametrize("unit", ["<", "\x00", "&", "<a ", "&lt;", "\u0301", "Ã", " \n", "<!--", "<s>"])
def test_hostile_text_takes_no_long_time(unit: str) -> None:
    start = time.process_time()
    WEB.clean(unit * (1_000_000 // len(unit)))
    assert time.process_time() - start < 5


def test_good_text_is_no_mojibake(shared: Path) -> None:
    files = sorted((shared / "data/udhr/raw").glob("*.jsonl"))
    assert files
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            text = json.loads(line)["text"]
            # One file holds quotation marks of Windows-1252 as control characters.
            assert mend(text) == text.replace("\x92", "\u2019"), file.name
