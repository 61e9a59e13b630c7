"""Lines that are a web page's machinery: menus, buttons, notices, addresses, rules made of symbols.

Each line is judged by itself, and only short ones, because a paragraph of text is none of that. What can be told
without knowing a language is told so: symbols, addresses, paths of links (``Home > News > Sport``), a copyright sign
with a year. The rest is a table of what pages say in large languages (``boilerplate_phrases``).
"""

from __future__ import annotations

import re
from collections.abc import Callable

import regex

from megatron.corpus.cleaning.boilerplate_phrases import (
    COOKIE_STEMS,
    COOKIE_WORDS,
    COOKIES,
    JAVASCRIPT_STEMS,
    NETWORKS,
    RIGHTS,
    SOCIAL_WORDS,
    boilerplate_lines,
)
from megatron.corpus.cleaning.lines import without
from megatron.corpus.cleaning.scan import SIGN

_LONGEST_LINE = 300
_LONGEST_PHRASE = 60
_SHORTEST_LINK, _LONGEST_LINK = 2, 30
_FEWEST_LINKS = 3
_SHORTEST_MEAN_LINK = 3.0

# Braille and other scripts that Unicode counts as symbols are text. So are brackets alone: they belong to code.
_SYMBOLS = regex.compile(r"(?V1)[[\p{P}\p{S}\p{Z}\p{Cf}\p{M}]&&[\p{Script=Common}\p{Script=Inherited}]]+")
_BRACKETS = re.compile(r"[][(){};,\s]+")
_ADDRESS = re.compile(r"[<(\[]?(?:(?:https?://|www\.)\S+|[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){1,8})[>)\],;]?")
_ADDRESS_MARKS = ("://", "www.", "@")
_SEPARATORS = (" | ", " > ", " » ", " › ", " · ", " • ", " → ")
_SENTENCE_END = re.compile("[.!?:;,…。！？।۔؟၊។]$")
_COPYRIGHT = re.compile(
    r"(?:©|^\W{0,8}(?:\(c\)|copyright))\W{0,8}(?:copyright\W{0,4}|\(c\)\W{0,4}|©\W{0,4})?(?:[^\d\n]{0,40}\W)?"
    r"(?:19|20)\d\d\b"
)
_TAILS_OF_RIGHTS = frozenset((phrase + end)[-3:] for phrase in RIGHTS for end in ("", ".", "。", "!"))
_PARTS = re.compile(r"[\s/|,·•]+")
_WORDS = re.compile(r"[\w-]+")
_ENDS = " \t.,:;!?¿¡…|·•»«›‹>→←↑↓*-–—+#&/\\()[]{}\"'“”„‘’。！？：、।"


def remove_boilerplate(text: str, traits: int) -> str:
    """Return ``text``, whose traits :func:`scan` found, without the lines that are no text of their own."""
    folded = text.lower()
    tests = _tests(text, folded, traits)
    lines = text.split("\n")
    dropped = [_is_boilerplate(line, lower, tests) for line, lower in zip(lines, folded.split("\n"), strict=True)]
    return without(lines, dropped) if True in dropped else text


def _tests(text: str, folded: str, traits: int) -> list[Callable[[str, str], bool]]:
    """Return the tests that a line of this text could meet, each of the line and its lower case."""
    tests: list[Callable[[str, str], bool]] = []
    if traits & SIGN:
        if any(separator in text for separator in _SEPARATORS):
            tests.append(_is_menu)
        if any(mark in text for mark in _ADDRESS_MARKS):
            tests.append(_is_addresses)
    if (traits & SIGN and "©" in text) or "copyright" in folded or "(c)" in folded:
        tests.append(_is_copyright)
    if "javascript" in folded:
        tests.append(_is_about_javascript)
    if any(name in folded for name in COOKIES):
        tests.append(_is_about_cookies)
    return tests


def _is_boilerplate(line: str, folded: str, tests: list[Callable[[str, str], bool]]) -> bool:
    length = len(line)
    if not 0 < length <= _LONGEST_LINE:
        return False
    if length <= _LONGEST_PHRASE and _is_phrase(folded.strip(_ENDS)):
        return True
    if folded[-3:] in _TAILS_OF_RIGHTS and folded.rstrip(_ENDS).endswith(RIGHTS):
        return True
    if not line[0].isalnum() and _is_symbols(line):
        return True
    return any(test(line, folded) for test in tests) if tests else False


def _is_phrase(folded: str) -> bool:
    if folded in boilerplate_lines():
        return True
    words = _PARTS.split(folded) if folded.partition(" ")[0].rstrip(",/|") in SOCIAL_WORDS else ()
    return len(words) > 1 and SOCIAL_WORDS.issuperset(words) and not NETWORKS.isdisjoint(words)


def _is_symbols(line: str) -> bool:
    return _SYMBOLS.fullmatch(line) is not None and _BRACKETS.fullmatch(line) is None and not line.isspace()


def _is_menu(line: str, folded: str) -> bool:
    if line.startswith("|") or "«" in line:  # a table; quotation marks
        return False
    for separator in _SEPARATORS:
        links = line.split(separator)
        if len(links) >= _FEWEST_LINKS:
            return len(line) >= _SHORTEST_MEAN_LINK * len(links) + len(separator) * (len(links) - 1) and all(
                _SHORTEST_LINK <= len(link) <= _LONGEST_LINK
                and any(map(str.isalpha, link))
                and not _SENTENCE_END.search(link)
                for link in links
            )
    return False


def _is_addresses(line: str, folded: str) -> bool:
    return any(mark in line for mark in _ADDRESS_MARKS) and all(map(_ADDRESS.fullmatch, line.split()))


def _is_about_cookies(line: str, folded: str) -> bool:
    if not any(name in folded for name in COOKIES):
        return False
    return not COOKIE_WORDS.isdisjoint(_WORDS.findall(folded)) or any(stem in folded for stem in COOKIE_STEMS)


def _is_about_javascript(line: str, folded: str) -> bool:
    return "javascript" in folded and any(stem in folded for stem in JAVASCRIPT_STEMS)


def _is_copyright(line: str, folded: str) -> bool:
    return _COPYRIGHT.search(folded) is not None
