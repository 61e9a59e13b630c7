import gzip
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.corpus_schema import ReadConfig
from megatron.corpus.document import CorpusError, Document
from megatron.corpus.reading.problems import Problems, ReadCounts
from megatron.corpus.reading.tmx import tmx_documents

HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE tmx SYSTEM "http://127.0.0.1:9/tmx14.dtd">\n'


def tmx(*units: str, head: str = HEAD) -> bytes:
    body = "".join(f"<tu>{unit}</tu>\n" for unit in units)
    return f'{head}<tmx version="1.4"><header srclang="en"/><body>{body}</body></tmx>'.encode()


def tuv(code: str, text: str, name: str = "xml:lang") -> str:
    return f'<tuv {name}="{code}"><seg>{text}</seg></tuv>'


PAIR = tuv("en", "Hello") + tuv("sw", "Habari")


@pytest.fixture
def units(tmp_path, read):
    """Return a function that reads the bytes of a TMX file."""

    def run(data: bytes, name: str = "a.tmx", **settings):
        (tmp_path / name).write_bytes(data)
        return read(tmp_path / name, **settings)

    return run


@pytest.mark.parametrize("name", ["a.tmx", "a.tmx.gz"])
def test_units_are_pairs(units, name):
    data = tmx(PAIR, tuv("EN-gb", "Yes &amp; no&#33;", "lang") + tuv("sw", "<![CDATA[<ndiyo>]]>"))
    found, counts = units(gzip.compress(data) if name.endswith(".gz") else data, name)
    assert found == [
        Document("Hello", "en", f"{name}:1", "Habari", "sw"),
        Document("Yes & no!", "EN-gb", f"{name}:2", "<ndiyo>", "sw"),
    ]
    assert counts.documents == 2
    assert not counts.dropped


def test_mark_up_inside_segments_is_no_text(units):
    text = 'A <bpt i="1">&lt;b <sub>x</sub>&gt;</bpt><hi>bold</hi><ept i="1">&lt;/b&gt;</ept> word<ph/>'
    props = "<prop>p</prop><note>n</note>"
    (found,), _ = units(tmx(props + tuv("en", text) + tuv("sw", "x")))
    assert found.text == "A bold word"


@pytest.mark.parametrize("encoding", ["utf-16", "iso-8859-1", "utf-8-sig"])
def test_other_encodings(units, encoding):
    label = encoding.removesuffix("-sig")
    data = tmx(tuv("en", "a") + tuv("fr", "été"), head=f'<?xml version="1.0" encoding="{label}"?>')
    (found,), _ = units(data.decode().encode(encoding))
    assert found.target == "été"


def test_units_with_more_sides_need_the_codes(units):
    data = tmx(tuv("en-US", "Hello") + tuv("de", "Hallo") + tuv("SW", "Habari"), PAIR, tuv("en", "alone"))
    found, counts = units(data)
    assert [document.id for document in found] == ["a.tmx:2"]
    assert dict(counts.dropped) == {"wrong_fields": 2}
    assert "has not two sides; its segments: en-US, de, SW" in counts.examples[0][1]
    assert [(d.text, d.target) for d in units(data, language="sw en")[0]] == [("Habari", "Hello")] * 2
    assert [(d.text, d.target_code) for d in units(data, language="en_us de")[0]] == [("Hello", "de")]


def test_a_code_is_looked_for_as_it_is_before_its_language_alone(units):
    data = tmx(tuv("pt-BR", "b") + tuv("pt", "p") + tuv("en", "e"))
    assert units(data, language="pt en")[0][0].text == "p"
    assert units(data, language="pt-br en")[0][0].text == "b"


def test_broken_units_are_counted(units):
    data = tmx(
        tuv("en", " ") + tuv("sw", "x"),
        tuv("en", "x" * 300) + tuv("sw", "y"),
        tuv("en", "&nbsp;") + tuv("sw", "y"),
        PAIR,
    )
    found, counts = units(data, max_document_bytes=200)
    assert [document.id for document in found] == ["a.tmx:4"]
    assert dict(counts.dropped) == {"blank": 1, "too_long": 1, "wrong_fields": 1}
    assert "the entity &nbsp; which is not defined" in counts.examples[2][1]
    with pytest.raises(CorpusError, match="unit 2: the unit is longer than 200 bytes"):
        units(data, max_document_bytes=200, broken_records="stop")


def test_units_before_broken_xml_are_read_and_the_rest_is_an_error(tmp_path):
    path = tmp_path / "a.tmx"
    path.write_bytes(tmx(PAIR, PAIR).replace(b"</tu>\n</body>", b"</tu>\x0b</body>"))
    documents = tmx_documents((), "a", Problems(path, ReadConfig(), ReadCounts()))
    with pytest.raises(CorpusError, match=r"a\.tmx: not well-formed XML"):
        list(documents)
    path.write_bytes(tmx(PAIR)[:-3])
    with pytest.raises(CorpusError, match="not well-formed XML"):
        list(tmx_documents((), "a", Problems(path, ReadConfig(), ReadCounts())))


@pytest.mark.parametrize("encoding", ["foo", "shift_jis", "hex", "idna", "utf-32", "x" * 500])
def test_encodings_that_are_not_known(units, encoding):
    with pytest.raises(CorpusError, match="not well-formed XML"):
        units(tmx(tuv("en", "été") + tuv("sw", "x"), head=f'<?xml version="1.0" encoding="{encoding}"?>'))


def test_a_compressed_file_that_is_cut_short(units):
    data = gzip.compress(tmx(*[PAIR] * 3000))[:-30]
    with pytest.raises(CorpusError, match="cut short"):
        units(data, "a.tmx.gz")
    found, counts = units(data, "a.tmx.gz", cut_short="drop")
    assert 0 < len(found) <= 3000
    assert dict(counts.dropped) == {"cut_short": 1}


# ---- attacks ---------------------------------------------------------------------------------------------------------

BILLION_LAUGHS = (
    '<!DOCTYPE tmx [<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(12)) + "]>"
)
ATTACKS = {
    "billion laughs": (BILLION_LAUGHS, "&a12;"),
    "quadratic": (f'<!DOCTYPE tmx [<!ENTITY a "{"x" * 100_000}">]>', "&a;" * 10_000),
    "external entity": ('<!DOCTYPE tmx [<!ENTITY a SYSTEM "file:///etc/passwd">]>', "&a;"),
    "parameter entity": ('<!DOCTYPE tmx [<!ENTITY % a SYSTEM "http://127.0.0.1:9/x"> %a;]>', "x"),
    "default attributes": (f'<!DOCTYPE tmx [<!ATTLIST seg a CDATA "{"x" * 100_000}">]>', "x"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_declarations_are_refused(units, attack):
    head, text = ATTACKS[attack]
    with pytest.raises(CorpusError, match="DOCTYPE declares"):
        units(tmx(tuv("en", text) + tuv("sw", "x"), head=head))


def test_deep_nesting_is_refused(units):
    with pytest.raises(CorpusError, match="more than 100 deep"):
        units(b"<a>" * 1_000_000)


@pytest.mark.parametrize(("start", "end"), [(b"<!--", b"-->"), (b'<tu a="', b'"/>'), (b"<tu", b"/>"), (b"<?x ", b"?>")])
def test_a_token_without_end_is_refused_before_it_fills_the_memory(units, start, end):
    started = time.perf_counter()
    with pytest.raises(CorpusError, match="a tag or comment longer than 2,000,000 bytes"):
        units(b"<tmx>" + start + b"x" * 20_000_000 + end, max_document_bytes=2_000_000)
    assert time.perf_counter() - started < 2


@given(
    data=st.one_of(
        st.binary(max_size=60),
        st.lists(
            st.sampled_from(
                ["<tu>", "</tu>", PAIR, tuv("a", "b"), "<seg>", "</seg>", "x", "&a;", "<!--", "\udc80", "]]>"]
            )
        ).map(lambda parts: HEAD.encode() + b"<tmx>" + "".join(parts).encode("utf-8", "surrogatepass") + b"</tmx>"),
    )
)
def test_any_bytes_are_pairs_counts_or_one_kind_of_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("fuzz") / "a.tmx"
    path.write_bytes(data)
    counts = ReadCounts()
    try:
        assert len(list(tmx_documents((), "a", Problems(path, ReadConfig(), counts)))) == counts.documents
    except CorpusError as error:
        assert str(path) in str(error)
