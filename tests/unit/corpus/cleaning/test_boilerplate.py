"""Lines of web pages, in many languages, and lines of text that resemble them."""

from __future__ import annotations

import pytest

from megatron.corpus.cleaning.boilerplate import _ENDS, remove_boilerplate
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
from megatron.corpus.cleaning.scan import scan


def remove(text: str) -> str:
    return remove_boilerplate(text, scan(text))


@pytest.mark.parametrize(
    "line",
    [
        "Log in",
        "» Read more...",
        "SKIP TO CONTENT",
        "Iniciar sesión",
        "Ha olvidado: ¿Olvidaste tu contraseña?"[12:],
        "Datenschutzerklärung",
        "Все права защищены.",
        "تسجيل الدخول",
        "ログイン",
        "返回顶部",
        "로그인",
        "เข้าสู่ระบบ",
        "Facebook Twitter WhatsApp",
        "Share on Facebook | Share on Twitter",
        "Facebook, Twitter, E-Mail",
        "Home > News > Sport",
        "Home | About us | Contact",
        "Inicio » Noticias » Deportes",
        "Главная › Новости › Спорт",
        "https://example.org/a?b=c",
        "www.example.org, https://example.org",
        "me@example.org",
        "<me@example.org>",
        "* * *",
        "----------",
        "=> <=",
        "★★★★☆",
        "😂😂",
        "© 2021 Example Ltd.",
        "Copyright (c) 2009-2021 by Example",
        "(c) 2015",
        "Example Ltd. All Rights Reserved.",
        "© Beispiel GmbH. Alle Rechte vorbehalten",
        "This website uses cookies to improve your experience.",
        "We use cookies. By browsing on you accept them.",
        "Diese Webseite verwendet Cookies.",
        "Este sitio utiliza cookies propias y de terceros",
        "Этот сайт использует файлы cookie",
        "本网站使用cookie",
        "当サイトではクッキーを使用しています",
        "Please enable JavaScript to view this page",
        "Bitte aktivieren Sie JavaScript in Ihrem Browser.",
        "请启用JavaScript",
    ],
)
def test_lines_that_are_no_text_go(line: str) -> None:
    assert remove(line) == ""
    assert remove(f"First comes text.\n{line}\nThen there is more.") == "First comes text.\nThen there is more."


@pytest.mark.parametrize(
    "line",
    [
        "Log in to see the difference between a cabin and a log.",
        "I baked cookies, and they were good.",
        "JavaScript is a programming language.",
        "Share what you have.",
        "Facebook bought WhatsApp in 2014.",
        "x > y > z",
        "p > f > h in this language",
        "| name | age | city |",
        "« oui » et « non » et « peut-être »",
        "Either you go. | Or you stay. | Or neither.",
        "Write to me@example.org soon",
        "see https://example.org",
        "}",
        "});",
        "( ) [ ] ;",
        "⠓⠑⠇⠇⠕",
        "12",
        "1/2",
        "—Sí.",
        "The copyright of 1911 ended long ago, in a year that nobody remembers, whatever they say of 1950"[:21],
        "In 2014 it was reserved",
        "།",
        "a",
        "",
    ],
)
def test_lines_of_text_stay(line: str) -> None:
    text = f"First comes text.\n{line}\nThen there is more."
    assert remove(text) == text


def test_long_lines_are_text() -> None:
    line = "This website uses cookies. " * 20
    assert remove(line) == line


def test_no_empty_lines_are_left_where_lines_went() -> None:
    assert remove("Log in\n\nText.\n\nShare\n\nMore.\n\n\nEnd.\n\nHome | News | Sport") == "Text.\n\nMore.\n\n\nEnd."


def test_every_phrase_can_be_found() -> None:
    """Lines are compared in lower case and without their ends, so the table must be written like that."""
    assert len(boilerplate_lines()) > 500
    for phrase in boilerplate_lines():
        assert phrase == phrase.lower().strip(_ENDS) and phrase
        assert remove(phrase.upper() if phrase.upper().lower() == phrase else phrase) == ""
    for words in (COOKIES, COOKIE_WORDS, COOKIE_STEMS, JAVASCRIPT_STEMS, RIGHTS, NETWORKS, SOCIAL_WORDS):
        assert all(word == word.lower() for word in words)
    assert NETWORKS < SOCIAL_WORDS
    for phrase in RIGHTS:
        assert remove(f"Somebody, somewhere. {phrase.title() if phrase.isascii() else phrase}.") == ""
