import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.corpus.document import CorpusError
from megatron.corpus.placeholders import Template, is_template, unescape

ALLOWED = ("source", "target")


def template(text, **options):
    return Template(text, allowed=ALLOWED, setting="parallel.template", **options)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{source} = {target}", "a = b"),
        (r"{source}\n\t{target}\\n", "a\n\tb\\n"),
        ("{{{source}}}", "{a}"),
        ("no placeholders", "no placeholders"),
        (r"{source}\d", r"a\d"),
        ("{source}{source}", "aa"),
    ],
)
def test_templates(text, filled):
    assert template(text).fill({"source": "a", "target": "b"}) == filled


@given(source=st.text(), target=st.text())
def test_what_is_filled_in_is_never_read_again(source, target):
    assert template("<{source}|{target}>").fill({"source": source, "target": target}) == f"<{source}|{target}>"


def test_a_template_may_end_before_a_placeholder():
    values = {"source": "a", "target": "b"}
    assert template("Q: {source} A: {target}.").fill(values, before="target") == "Q: a A: "


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{sorce}", r"no placeholder \{sorce\}; it may have \{source\}, \{target\}"),
        ("{}", r"no placeholder \{\}"),
        ("{0}", r"no placeholder \{0\}"),
        ("{source.__class__}", "no placeholder"),
        ("{source[0]}", "no placeholder"),
        ("{source!r}", r"no placeholder \{source!r\}"),
        ("{source:>9}", r"no placeholder \{source:>9\}"),
        ("{source:{target}}", "no placeholder"),
        ("{source", "write {{ and }} for braces"),
        ("source}", "write {{ and }} for braces"),
    ],
)
def test_what_is_no_template(text, problem):
    with pytest.raises(CorpusError, match=problem) as caught:
        template(text)
    assert str(caught.value).startswith(f"parallel.template {text!r}: ")


def test_required_placeholders():
    assert template("{target}", required=("target",)).fields == {"target"}
    with pytest.raises(CorpusError, match=r"lacks the placeholder \{source\}"):
        template("{target} {{source}}", required=("source",))
    with pytest.raises(CorpusError, match="it may have no placeholders"):
        Template("{x}", allowed=(), setting="parallel.header")


def test_names_and_templates_are_told_apart():
    assert is_template("{source}")
    assert not is_template("tagged")


@given(st.text(alphabet="\\nt\nx", max_size=8))
def test_escapes(text):
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    assert unescape(escaped) == text
