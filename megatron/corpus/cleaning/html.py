"""HTML leftovers: scripts, styles, comments, tags and entities.

Text is not HTML, so nothing is parsed as if it were: only what can hardly be anything else goes. Everything is linear:
no pattern looks past the next angle bracket, and the end of a script or comment is looked for once when there is none.

* A tag has a known name. ``a < b``, ``<3``, ``List<int>`` and ``<https://example.org>`` are no tags.
* Names of a letter or a common word need more: an attribute with ``=``, or, for an opening tag, a closing one after it.
  So ``i <b and c> d``, ``x<b>y`` and ``the <title> of a book`` are text.
* ``<s>`` and ``</s>`` are also what people write for a tokenizer's control tokens. They are strike-through when they
  enclose text in one line, ``<s>so</s>``, and text in all other cases. The tokenizer never takes text for its control
  tokens, so nothing hangs on it.
* Entities need their semicolon: ``&copy=1`` is a part of a URL.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from types import MappingProxyType

import regex

_MOST_ROUNDS = 8

# Elements whose content is no text.
_HIDDEN = "script style noscript svg iframe template select"
_HIDDEN_START = regex.compile(rf"<(?:!--|\?(?:xml|php)\b|({'|'.join(_HIDDEN.split())})(?=[\s>/])[^<>]*>)", regex.I)
_DECLARATION = regex.compile(r"<!(?:doctype\b[^<>]*|\[[^<>\[\]]{0,64}\](?:--)?)>", regex.I)

_NUMERALS = regex.compile(r"<(su[bp])(?:\s[^<>]*)?>([0-9+−()-]{1,8})</\1>", regex.I)
_RAISED = str.maketrans("0123456789+-−()", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁽⁾")
_LOWERED = str.maketrans("0123456789+-−()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₍₎")

_STRUCK = regex.compile(r"<s(?:\s[^<>]*=[^<>]*)?>(?=[^\s<>])([^<>\n]*+)(?<=\S)</s>", regex.I)
# The end of a tag is the first ">" outside of quotation marks; where these do not match, the first one. Neither may lie
# behind the next "<".
_TAG = regex.compile(
    r"<(/?)(?:([a-z][a-z0-9]*)|(?:o|st1|w|v|m|fb|g|svg):[a-z]\w*+)"
    r"""(|/|\s(?:(?:[^<>"']|"[^"<]*"|'[^'<]*')*+|[^<>]*+))>""",
    regex.I,
)
_ATTRIBUTE = regex.compile(r"(?:^|\s)[a-z@:][\w:.-]*\s*=", regex.I)
_ENTITY = regex.compile(r"&(?:(?:amp;)+|(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});)")

# What replaces a tag: those that end a line, those between two words, those inside of a word.
_LINES = """
    address article aside blockquote body br caption center dd details dir div dl dt fieldset figcaption figure footer
    form h1 h2 h3 h4 h5 h6 head header hr html li main menu nav ol option p pre section summary table tbody tfoot
    thead title tr ul
"""
_SPACES = "td th img input button embed object param video audio source canvas area frame"
_NOTHING = """
    a abbr acronym b basefont bdi bdo big blink cite code col colgroup del dfn em font i ins kbd label legend link
    mark meta nobr q rp rt ruby s samp small span strike strong sub sup time tt u var wbr
"""
_REPLACEMENTS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(_LINES.split(), "\n"),
        **dict.fromkeys(_SPACES.split(), " "),
        **dict.fromkeys(_NOTHING.split(), ""),
    }
)
# Opening tags that go even when nothing closes them and they have no attribute.
_SURE_NAMES = "br p div li ul ol dl dt dd tr td th hr h1 h2 h3 h4 h5 h6 tbody thead blockquote wbr center"
_SURE = frozenset(_SURE_NAMES.split())
_CONTROL_TOKEN = "s"


def strip_html(text: str) -> str:
    """Return ``text`` without the leftovers of HTML.

    Tags become line feeds, spaces or nothing, as their kind is; raised and lowered numerals become such characters
    (``10<sup>6</sup>`` is 10⁶). Markup inside of escaped markup (``&lt;b&gt;``) is followed down to eight levels; below
    that the text is hostile, and its angle brackets and ampersands become spaces.
    """
    for _ in range(_MOST_ROUNDS):
        before = text
        if "<" in text:
            text = _strip_tags(_strip_hidden(text))
        if "&" in text:
            text = _ENTITY.sub(_character, text)
        if text == before:
            return text
    return text.replace("<", " ").replace("&", " ")


def _strip_hidden(text: str) -> str:
    """Remove comments, processing instructions, and elements whose content is no text; those without an end stay."""
    pieces: list[str] = []
    done = 0
    endless: set[str] = set()
    start = _HIDDEN_START.search(text)
    while start is not None:
        kind = (start[1] or start[0]).lower()
        end = None if kind in endless else _end_of(kind).search(text, start.end())
        if end is None:
            endless.add(kind)
            start = _HIDDEN_START.search(text, start.end())
            continue
        pieces += (text[done : start.start()], " " if start[1] else "")
        done = end.end()
        start = _HIDDEN_START.search(text, done)
    return "".join((*pieces, text[done:])) if pieces else text


def _end_of(kind: str) -> regex.Pattern[str]:
    if kind == "<!--":
        return regex.compile("-->")
    return regex.compile(r"\?>" if kind.startswith("<?") else rf"</{kind}\s*>", regex.I)


def _strip_tags(text: str) -> str:
    text = _DECLARATION.sub("", text)
    text = _NUMERALS.sub(lambda tag: tag[2].translate(_RAISED if tag[1].lower() == "sup" else _LOWERED), text)
    text = _STRUCK.sub(r"\1", text)
    last_closing = {tag[2].lower(): tag.start() for tag in _TAG.finditer(text) if tag[1] and tag[2]}

    def replacement(tag: regex.Match[str]) -> str:
        name = (tag[2] or "").lower()
        if not name:  # a name of Word's or Facebook's, with a colon
            return ""
        is_tag = name in _REPLACEMENTS and _is_tag(name, tag, last_closing)
        return _REPLACEMENTS[name] if is_tag else tag[0]

    stripped: str = _TAG.sub(replacement, text)
    return stripped


def _is_tag(name: str, tag: regex.Match[str], last_closing: Mapping[str, int]) -> bool:
    inside = tag[3].rstrip()
    attributes = inside.removesuffix("/").strip()
    if tag[1]:  # a closing tag
        return not attributes and name != _CONTROL_TOKEN
    if _ATTRIBUTE.search(attributes):
        return True
    if attributes:  # one without a value, as in <td nowrap>
        return len(name) > 1 and attributes.isalnum() and (name in _SURE or name in _SPACES)
    return name in _SURE or (
        name != _CONTROL_TOKEN and (inside.endswith("/") or last_closing.get(name, -1) > tag.start())
    )


def _character(entity: regex.Match[str]) -> str:
    return "&" if entity[0].startswith("&amp;") else html.unescape(entity[0])
