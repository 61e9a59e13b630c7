"""What is markup and what is text that only looks like it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.corpus.cleaning.html import strip_html


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("<p>One.</p><p>Two.</p>", "\nOne.\n\nTwo.\n"),
        ("one<br>two<BR/>three<br />four", "one\ntwo\nthree\nfour"),
        ("<b>W</b>ord and <i>wo</i>rd", "Word and word"),
        ('<a href="https://example.org/?a>b" title=\'x\'>link</a>', "link"),
        ("<a title=it's>link</a>", "link"),
        ("<td nowrap>1</td><td>2</td>", " 1  2 "),
        ('<span class="x">lost end', "lost end"),
        ("lost beginning</span></div>", "lost beginning\n"),
        ("<o:p></o:p>from Word<st1:place w:st=\"on\">", "from Word"),
        ("a<script type='x'>if (a < b) {}</script>b", "a b"),
        ("a<STYLE>p { color: red }</style >b", "a b"),
        ("<noscript>Please enable scripts</noscript>a", " a"),
        ("a<!-- <b> -->b<!-- -->c", "abc"),
        ("<!DOCTYPE html><![endif]--><?xml version='1.0'?>a", "a"),
        ("10<sup>6</sup> m<sup>-2</sup>, H<sub>2</sub>O, 1<sup>st</sup>", "10⁶ m⁻², H₂O, 1st"),
        ("<s>old</s> new, <s class='x'>old</s>", "old new, old"),
        ("Fish &amp; chips &lt; caf&eacute; &#8211; &#x41;&nbsp;B", "Fish & chips < café – A\u00a0B"),
        ("&amp;amp;lt;b&amp;amp;gt;x&amp;amp;lt;/b&amp;amp;gt;", "x"),
        ("&lt;script&gt;no text&lt;/script&gt;text", " text"),
    ],
)
def test_markup_goes(text: str, stripped: str) -> None:
    assert strip_html(text) == stripped


@pytest.mark.parametrize(
    "text",
    [
        "a < b and c > d",
        "x<b and y>z",
        "if (i<b && c>d) return a<b>c;",
        "let <a = b> be",
        "I <3 you, <_<, >.<",
        "vector<int>, List<T>, Map<String, A>, #include <map>",
        "see <https://example.org> or <me@example.org>",
        "the <title> of a book, the <b> of it",
        "models begin with <s> and end with </s>",
        "</s>",
        "<s>",
        "<unk> and <|endoftext|>",
        "AT&T, R&D, a & b; x &y; &foo; &;",
        "https://example.org/?a=1&copy=2&lt=3",
        "<!-- without an end",
        "a <a href=\"cut off",
        "$x<y$ and $z>w$",
    ],
)
def test_text_stays(text: str) -> None:
    assert strip_html(text) == text


def test_hostile_nesting_ends() -> None:
    deep = "<" * 50 + "b" + ">b>" * 50 + "</b>"
    assert strip_html(strip_html(deep)) == strip_html(deep)
    escaped = "&#38;#38;#38;#38;#38;#38;#38;#38;#38;#38;lt;"
    assert strip_html(strip_html(escaped)) == strip_html(escaped)


PARTS = ["<", ">", "/", "b", "s", "p", " ", "=", '"', "&", "lt;", "amp;", "#38;", "<b>", "</b>", "<s>", "</s>", "<!--",
         "-->", "<script>", "</script>", "<sup>", "2", "</sup>", "text", "\n"]  # fmt: skip


@settings(max_examples=500)
@given(st.lists(st.sampled_from(PARTS), max_size=30).map("".join))
def test_stripping_again_changes_nothing(text: str) -> None:
    once = strip_html(text)
    assert strip_html(once) == once
    assert len(once) <= len(text)


@pytest.mark.parametrize(
    "unit",
    [
        *("<", "<a ", '<a "', "<a '", "<b>", "</b>", "<!--", "<script>", "<script ", "</script ", "<sup>", "<s>"),
        *("<s>x", "<![", "&", "&amp;", "&a", "&#38;", "<?xml ", "<a =", "<p a ", "<b/"),
    ],
)
def test_time_is_linear(unit: str) -> None:
    start = time.process_time()
    strip_html(unit * (300_000 // len(unit)))
    strip_html(unit + "x" * 300_000 + ">")
    strip_html(unit + " " * 300_000)
    assert time.process_time() - start < 3
