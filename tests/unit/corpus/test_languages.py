import pytest
from hypothesis import given
from hypothesis import strategies as st
from iso639 import ALL_LANGUAGES
from pydantic import ValidationError

from megatron.config.corpus_schema import LanguagesConfig
from megatron.corpus.document import CorpusError
from megatron.corpus.languages import (
    Label,
    LanguageResolver,
    Resolution,
    mala_code,
    parse_label,
    parse_pair,
    script_subtag,
    to_iso639_3,
)
from megatron.languages import tables as language_tables
from megatron.languages.script import OTHER_SCRIPTS, UNICODE_SCRIPTS

ACTIVE = sorted(language.part3 for language in ALL_LANGUAGES if language.status == "A")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("en", "eng"),
        ("EN", "eng"),
        (" fr ", "fra"),
        ("ger", "deu"),  # ISO 639-2/B
        ("fre", "fra"),
        ("deu", "deu"),
        ("pt-BR", "por"),
        ("zh-Hant", "zho"),
        ("zh_TW", "zho"),
        ("sr-Latn", "srp"),
        ("eng_Latn", "eng"),
        ("de-1901", "deu"),
        ("zh-yue", "yue"),  # an extended language subtag
        ("ar-arz-Arab", "arz"),
        ("en-USA", "eng"),  # `usa` is a language too, but not a kind of English
        ("ajp", "apc"),  # retired 2023: merged
        ("iw", "heb"),  # withdrawn from ISO 639-1
        ("sh", "hbs"),
        ("zho", "zho"),  # macrolanguages stay
        ("fa", "fas"),
        ("zxx", "zxx"),
        ("mul", "mul"),
        ("und", "und"),
        ("eml", "und"),  # retired: split in two
        ("ber", "und"),  # an ISO 639-2 collection
        ("qaa", "und"),  # private use
        ("x-klingon", "und"),
        ("jp", "und"),  # a country
        ("English", "und"),  # a name is not a code
        ("", "und"),
        ("-", "und"),
    ],
)
def test_to_iso639_3(code, expected):
    assert to_iso639_3(code) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("zh-Hant", "Hant"),
        ("sr_latn_RS", "Latn"),
        ("ja-Japn", "Jpan"),
        ("zh-yue-Hant-HK", "Hant"),
        ("pt-BR", None),
        ("de-1901", None),
        ("latn", None),
        ("en-x-latn", None),
    ],
)
def test_script_subtag(code, expected):
    assert script_subtag(code) == expected


def test_parse_label():
    assert parse_label("eng_Latn") == Label("eng", "Latn")
    assert parse_label("jpn_Japn") == Label("jpn", "Jpan")
    assert parse_label("zho_Hant").code == "zho_Hant"


@pytest.mark.parametrize("text", ["eng", "en_Latn", "eng_latn", "eng-Latn", "eng_Latn ", "eng_Latn\n", "new_Data", ""])
def test_parse_label_refuses(text):
    assert parse_label(text) is None


def test_parse_pair():
    assert parse_pair("eng_Latn-jpn_Japn") == (Label("eng", "Latn"), Label("jpn", "Jpan"))
    for text in ("eng_Latn", "eng_Latn-", "-eng_Latn", "eng_Latn-fra_Latn-deu_Latn", "eng_Latn_fra_Latn"):
        assert parse_pair(text) is None


@given(st.sampled_from(ACTIVE))
def test_every_active_code_is_its_own(code):
    assert to_iso639_3(code) == code
    assert to_iso639_3(code.upper() + "-Latn") == code


@given(st.text(max_size=12))
def test_any_text_gives_a_code_that_exists(text):
    assert to_iso639_3(text) in {*ACTIVE, "und"}
    assert to_iso639_3(to_iso639_3(text)) == to_iso639_3(text)


@given(st.sampled_from(ACTIVE), st.sampled_from(UNICODE_SCRIPTS + OTHER_SCRIPTS))
def test_labels_survive_a_round_trip(language, script):
    label = Label(language, script)
    assert parse_label(label.code) == label
    assert parse_pair(f"{label.code}-eng_Latn") == (label, Label("eng", "Latn"))


# ---- resolver --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def resolver():
    return LanguageResolver(LanguagesConfig())


@pytest.mark.parametrize(
    ("code", "expected", "kind"),
    [
        ("en", "eng", "language"),
        ("ger", "deu", "language"),
        ("ZHO", "zho", "macrolanguage"),
        ("zh-Hant-TW", "zho", "macrolanguage"),
        ("zh-yue", "yue", "language"),
        ("zh-min-nan", "nan", "language"),  # grandfathered; `min` alone would be Minangkabau
        ("zh_min_nan_Latn", "nan", "language"),
        ("zh-min", "zho", "macrolanguage"),  # grandfathered without a successor
        ("i-klingon", "tlh", "language"),
        ("i-default", "und", "unknown"),
        ("art-lojban", "jbo", "language"),
        ("sgn-BE-FR", "sfb", "language"),
        ("sgn-US", "ase", "language"),
        ("sgn-ase", "ase", "language"),
        ("sgn-usa", "sgn", "collective"),  # Usarufa is spoken
        ("sgn", "sgn", "collective"),
        ("no-nyn", "nno", "language"),
        ("cel-gaulish", "cel", "collective"),
        ("bat-smg", "sgs", "language"),  # Wikipedia's; `smg` alone would be Simbali
        ("pt_BR.UTF-8", "por", "language"),
        ("ca@valencia", "cat", "language"),
        ("mo", "ron", "language"),
        ("iw", "heb", "language"),
        ("bh", "bih", "collective"),
        ("ber", "ber", "collective"),
        ("nah", "nah", "collective"),
        ("qaa", "qaa", "private"),
        ("qtz", "qtz", "private"),
        ("qua", "qua", "language"),  # Quapaw, beyond the private codes
        ("mul", "mul", "special"),
        ("und", "und", "special"),
        ("zxx", "zxx", "special"),
        ("ajp", "apc", "language"),
        ("ar-ajp", "apc", "language"),
        ("scr", "hrv", "language"),  # withdrawn from ISO 639-2
        ("eml", "eml", "retired"),  # split
        ("xtz", "xtz", "retired"),
        ("Swahili", "swa", "macrolanguage"),
        ("swahili (individual language)", "swh", "language"),
        ("Serbo-Croatian", "hbs", "macrolanguage"),
        ("Chinese, Mandarin", "cmn", "language"),
        ("  mandarin   CHINESE ", "cmn", "language"),
        ("Greek", "ell", "language"),  # only CLDR calls it so
        ("Berber languages", "ber", "collective"),
        ("Aka-Bea", "abj", "language"),  # not a kind of Akan
        ("Tonga", "und", "unknown"),  # of Zambia, of the islands, or Nyasa
        ("Mandarin", "und", "unknown"),
        ("Mt. Foo", "und", "unknown"),  # not Maltese
        ("jp", "und", "unknown"),
        ("x-klingon", "und", "unknown"),
        ("", "und", "unknown"),
        ("en" * 1000, "und", "unknown"),
        ("en-" + "x" * 1000, "und", "unknown"),
    ],
)
def test_resolve(resolver, code, expected, kind):
    found = resolver.resolve(code)
    assert (found.code, found.kind) == (expected, kind)
    assert resolver.resolve(code) is found or len(code) > 100


def test_resolution_says_how_it_was_found_and_which_script_the_code_names(resolver):
    assert resolver.resolve("sr-Latn-RS") == Resolution("srp", "language", ("ISO 639-1",), "Latn")
    assert resolver.resolve("jpn_Japn").script == "Jpan"
    assert resolver.resolve("ar-ajp").via == ("retired", "extlang")
    assert resolver.resolve("Greek") == Resolution("ell", "language", ("name",), None)
    assert resolver.resolve("nonsense-Cyrl") == Resolution("und", "unknown", (), "Cyrl")


def test_aliases_come_first_and_the_map_last():
    settings = LanguagesConfig(
        aliases={"cn": "Mandarin Chinese", "als": "gsw", "serbian_latin": "sr-Latn", "no": "nb"}, map={"cmn": "zho"}
    )
    resolver = LanguageResolver(settings)
    assert resolver.resolve("cn") == Resolution("zho", "macrolanguage", ("alias", "name", "map"))
    assert resolver.resolve("CN_Hans").script == "Hans"
    assert resolver.resolve("als").code == "gsw"
    assert resolver.resolve("Serbian-Latin") == Resolution("srp", "language", ("alias", "ISO 639-1"), "Latn")
    assert resolver.resolve("cmn").code == resolver.resolve("zh-cmn").code == "zho"
    assert resolver.resolve("no").code == "nob"
    assert resolver.resolve("nor").code == "nor"


def test_the_map_is_applied_once():
    resolver = LanguageResolver(LanguagesConfig(map={"swa": "swh", "swh": "swa", "eml": "rgn"}))
    assert resolver.resolve("sw").code == "swh"
    assert resolver.resolve("swh").code == "swa"
    assert resolver.resolve("eml") == Resolution("rgn", "language", ("retired", "map"))


def test_macrolanguages_replace_their_members_unless_the_map_names_them():
    resolver = LanguageResolver(LanguagesConfig(macrolanguages="map", map={"yue": "yue", "ara": "arb"}))
    assert resolver.resolve("cmn") == Resolution("zho", "macrolanguage", ("ISO 639-3", "macrolanguage"))
    assert resolver.resolve("yue").code == "yue"
    assert resolver.resolve("arz") == Resolution("arb", "language", ("ISO 639-3", "macrolanguage", "map"))
    assert resolver.resolve("eng").code == "eng"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"aliases": {"cn": "chinesisch"}}, "aliases: 'cn' stands for 'chinesisch'"),
        ({"aliases": {"a-b": "eng", "A_B": "deu"}}, "'A_B' twice"),
        ({"map": {"cmn": "zhoo"}}, "'cmn' goes to 'zhoo', but 'zhoo' is no known"),
        ({"map": {"zh": "cmn"}}, "'zh' is written 'zho'"),
        ({"map": {"cmn": "zh"}}, "'zh' is written 'zho'"),
        ({"map": {"ajp": "ara"}}, "'ajp' is written 'apc'"),
        ({"map": {"und": "eng"}}, "'und' is no language"),
        ({"drop": ["xyzzy"]}, "drop: 'xyzzy' is no known"),
        ({"drop": ["en"]}, "becomes 'eng'"),
        ({"map": {"cmn": "zho"}, "drop": ["cmn"]}, "becomes 'zho'"),
    ],
)
def test_settings_that_name_unknown_languages_are_refused(settings, message):
    with pytest.raises(CorpusError, match=message):
        LanguageResolver(LanguagesConfig(**settings))


def test_all_problems_of_the_settings_are_named_together():
    with pytest.raises(CorpusError, match=r"(?s)'a1'.*'b1'.*'c1'"):
        LanguageResolver(LanguagesConfig(aliases={"a1": "?", "b1": "?"}, map={"c1": "eng"}))


@pytest.mark.parametrize("settings", [{"aliases": {False: "nob"}}, {"map": {"nob": False}}, {"drop": [False]}])
def test_an_unquoted_no_is_explained(settings):
    with pytest.raises(ValidationError, match="in quotes, 'no'"):
        LanguagesConfig(**settings)


@given(st.text(max_size=12))
def test_any_text_resolves_and_what_comes_out_resolves_to_itself(text):
    resolver = LanguageResolver(LanguagesConfig())
    found = resolver.resolve(text)
    assert (found.kind == "unknown") <= (found.code == "und")
    assert resolver.resolve(found.code).code == found.code


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_collections_and_retired_codes_are_no_languages():
    table = language_tables.codes()
    kinds = {kind: {code for code, entry in table.items() if entry.kind == kind} for kind in ("collective", "retired")}
    assert len(kinds["collective"]) == 116
    assert not kinds["collective"] & set(ACTIVE) and not kinds["retired"] & set(ACTIVE)
    assert len(kinds["retired"]) == 174
    assert all(table[code].code == code for group in kinds.values() for code in group)
    assert {entry.code for entry in table.values()} >= set(ACTIVE)


def test_every_tag_goes_to_a_code_and_none_hides_another():
    for tag, entry in language_tables.tags().items():
        assert entry.code in language_tables.codes(), tag
        assert tag not in language_tables.codes(), tag


def test_collections_agree_with_iso_639_5():
    pycountry = pytest.importorskip("pycountry", reason="pip install pycountry checks the codes of ISO 639-5")
    ours = {code for code, entry in language_tables.codes().items() if entry.kind == "collective"}
    assert {family.alpha_3 for family in pycountry.language_families} == ours - {"him"}  # ISO 639-2 and IANA have it


@pytest.mark.parametrize(
    ("language", "scripts"),
    [
        ("eng", {"Latn"}),
        ("zho", {"Hani", "Bopo"}),
        ("cmn", {"Hani"}),  # its macrolanguage's
        ("jpn", {"Jpan"}),
        ("kor", {"Kore"}),
        ("srp", {"Cyrl", "Latn"}),
        ("hbs", {"Cyrl", "Latn"}),
        ("uzn", {"Cyrl", "Latn"}),
        ("azb", {"Arab", "Latn"}),
    ],
)
def test_known_scripts(language, scripts):
    assert scripts <= set(language_tables.known_scripts(language))


def test_known_scripts_say_nothing_of_what_is_no_language():
    assert [code for code in ("und", "zxx", "mul", "ber", "qaa", "eml") if language_tables.known_scripts(code)] == []
    assert "Hani" not in language_tables.known_scripts("eng")
    assert all("Latn" not in language_tables.known_scripts(code) for code in ("ara", "zho", "cmn", "jpn"))


def test_known_scripts_are_named_as_they_are_found():
    every = {script for code in ACTIVE for script in language_tables.known_scripts(code)}
    assert every <= {*UNICODE_SCRIPTS, "Jpan", "Kore"} - {"Hira", "Kana", "Hang"}


# ---- published labels ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mala_labels(shared):
    lines = (shared / "data" / "mala" / "languages.tsv").read_text(encoding="utf-8").splitlines()[1:]
    codes = [line.split("\t")[0] for line in lines]
    assert len(codes) == 939
    return codes


def test_every_mala_label_parses(mala_labels):
    assert [code for code in mala_labels if parse_label(code) is None] == []
    assert [code for code in mala_labels if parse_label(code).code != code] == ["jpn_Japn"]


def test_every_mala_label_resolves_and_goes_back(mala_labels, resolver):
    found = {code: resolver.resolve(code) for code in mala_labels}
    kinds = {}
    for code, resolution in found.items():
        kinds.setdefault(resolution.kind, set()).add(code.split("_")[0])
    assert kinds.pop("language") and kinds.pop("macrolanguage")
    assert kinds == {
        "collective": {"bat", "ber", "bih", "fiu", "map", "nah", "roa"},
        "private": {"qaa"},
        "retired": {"eml"},
        "special": {"zxx"},
    }
    back = {code: mala_code(Label(resolution.code, resolution.script)) for code, resolution in found.items()}
    assert {code: label for code, label in back.items() if code != label} == {"ajp_Arab": "apc_Arab"}


def test_export_to_mala_spells_what_the_pipeline_finds():
    assert mala_code(Label("kor", "Kore")) == "kor_Hang"
    assert mala_code(Label("zho", "Hant")) == "zho_Hani"
    assert mala_code(Label("eng", "Latn")) == "eng_Latn"


# The tag names the macrolanguage and the table one member of it: what MaLA calls by either, neither is guessed.
UDHR_MACROLANGUAGES = {
    ("ar", "arb"), ("ak-asante", "twi"), ("az-Latn", "azj"), ("fa-AF", "prs"), ("gn", "gug"), ("hmn", "hea"),
    ("iu", "ike"), ("kg", "kng"), ("kg-AO", "kng"), ("ku", "kmr"), ("lah", "pnb"), ("lv", "lvs"), ("man", "emk"),
    ("om", "gaz"), ("qu", "quz"), ("sc", "src"), ("sw", "swh"), ("uz-Latn", "uzn"), ("yi", "ydd"), ("za", "zyb"),
    ("zh", "cmn"), ("zh-Hant", "cmn"),
}  # fmt: skip


def test_udhr_codes_agree_with_the_published_table(shared, resolver):
    lines = (shared / "data" / "udhr" / "languages.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    assert len(rows) == 279
    differing = {(tag, iso) for _, tag, iso, *_ in rows if resolver.resolve(tag).code != iso}
    assert differing == UDHR_MACROLANGUAGES
    members = language_tables.macrolanguages()
    assert all(members[iso] == resolver.resolve(tag).code for tag, iso in UDHR_MACROLANGUAGES)
