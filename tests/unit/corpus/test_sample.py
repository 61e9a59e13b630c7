import abc
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.corpus.languages import parse_label, to_iso639_3
from megatron.corpus.read import find_corpora, read_documents
from megatron.corpus.sample import CODE_CORPUS, PAIRED_LANGUAGES, build_sample_corpus, find_locales
from megatron.corpus.sample_pairs import Words, group_of, load_words, themes_of
from megatron.languages.script import main_script
from megatron.utils.files import fingerprint_file

SEVERAL = ("amh_Ethi", "ara_Arab", "eng_Latn", "hin_Deva", "jpn_Jpan", "sag_Latn", "swa_Latn", "tha_Thai", "zgh_Tfng")
IDENTIFIERS = find_locales()[0]


def fingerprints(folder: Path) -> dict[str, str]:
    return {path.parent.name: fingerprint_file(path) for path in sorted(folder.rglob("*.zst"))}


def texts(folder: Path, name: str) -> list[str]:
    return [document.text for document in read_documents(folder / name / "part-000.jsonl.zst")]


def words(code: str) -> Words:
    return load_words(IDENTIFIERS[code], code)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    return folder, build_sample_corpus(folder, languages=SEVERAL)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    folder = tmp_path_factory.mktemp("everything")
    return folder, build_sample_corpus(folder)


# ---- the whole corpus ------------------------------------------------------------------------------------------------


def test_the_whole_corpus_has_the_promised_size(everything):
    folder, summary = everything
    corpora = find_corpora(folder)
    by_source = {
        source: [corpus for corpus in corpora if corpus.source == source] for source in ("monolingual", "code")
    }
    languages = [corpus.code for corpus in by_source["monolingual"]]
    assert len(set(languages)) == len(languages) >= 200
    assert len({code.partition("_")[2] for code in languages}) >= 25
    assert [corpus.name for corpus in by_source["code"]] == [CODE_CORPUS]
    assert sorted(corpus.name for corpus in corpora if corpus.source == "bilingual") == [
        f"eng_Latn-{code}" for code in sorted(PAIRED_LANGUAGES)
    ]
    assert summary.corpora == len(corpora)
    assert 6e6 < summary.bytes < 1e7
    assert summary.skipped > 0


def test_every_language_has_enough_different_text_in_its_own_script(everything):
    folder, summary = everything
    documents, size_bytes, sizes = 0, 0, []
    for corpus in find_corpora(folder):
        found = texts(folder, corpus.name)
        documents += len(found)
        size = sum(len(text.encode()) for text in found)
        size_bytes += size
        assert len(found) >= 12, corpus.name
        assert len(set(found)) == len(found), corpus.name
        if corpus.source == "monolingual":
            sizes.append(size)
            assert main_script(" ".join(found)) == corpus.label.script, corpus.name
    assert (summary.documents, summary.bytes) == (documents, size_bytes)
    assert min(sizes) >= 2_500
    assert max(sizes) >= 30 * min(sizes)  # enough of a spread for tiers


def test_labels_from_the_documents_are_those_of_the_names(everything, tmp_path):
    folder, _ = everything
    for path in sorted(folder.glob("???_????/*.zst")):
        (tmp_path / f"{path.parent.name[:3]}-{path.parent.name[4:]}.jsonl.zst").symlink_to(path)
    found = {corpus.name.replace("-", "_"): corpus.code for corpus in find_corpora(tmp_path)}
    assert found == {name: name for name in found}


# ---- the same again --------------------------------------------------------------------------------------------------


def test_building_again_gives_the_same_bytes(sample, tmp_path):
    folder, summary = sample
    assert build_sample_corpus(tmp_path, languages=SEVERAL) == summary
    assert fingerprints(tmp_path) == fingerprints(folder)
    assert build_sample_corpus(tmp_path, languages=SEVERAL) == summary  # over an earlier one
    assert fingerprints(tmp_path) == fingerprints(folder)


def test_a_language_does_not_depend_on_the_others(sample, everything, tmp_path):
    build_sample_corpus(tmp_path, languages=["swa_Latn", "eng_Latn"])
    alone = fingerprints(tmp_path)
    assert set(alone) == {"swa_Latn", "eng_Latn", "eng_Latn-swa_Latn", CODE_CORPUS}
    for folder, _ in (sample, everything):
        assert alone.items() <= fingerprints(folder).items()


def test_another_seed_says_other_things(sample, tmp_path):
    folder, _ = sample
    build_sample_corpus(tmp_path, seed=1, languages=["swa_Latn"])
    assert set(texts(tmp_path, "swa_Latn")).isdisjoint(texts(folder, "swa_Latn"))


# ---- what is in it ---------------------------------------------------------------------------------------------------


def test_pairs_are_ten_sentences_in_two_languages(sample):
    folder, _ = sample
    for name, own in {"swa_Latn": "Kiswahili", "jpn_Jpan": "日本語", "ara_Arab": "العربية"}.items():
        for text in texts(folder, f"eng_Latn-{name}"):
            sentences = [block.split("\n") for block in text.split("\n\n")]
            assert len(sentences) == 10
            for english, other in sentences:
                assert english.startswith("English: ")
                assert other.startswith(f"{own}: ")


def test_pairs_without_english_are_not_written(tmp_path):
    build_sample_corpus(tmp_path, languages=["swa_Latn"])
    assert set(fingerprints(tmp_path)) == {"swa_Latn", CODE_CORPUS}


def test_source_code_is_that_of_the_standard_library(sample):
    folder, _ = sample
    modules = texts(folder, CODE_CORPUS)
    assert Path(abc.__file__).read_text(encoding="utf-8") in modules
    assert sum(len(text.encode()) for text in modules) <= 1_500_000
    for text in modules[:5]:
        compile(text, "module", "exec")


def test_words_that_a_language_lacks_are_not_borrowed_from_english(sample):
    folder, _ = sample
    for name in ("zgh_Tfng", "sag_Latn", "amh_Ethi"):
        everything = "\n".join(texts(folder, name))
        assert " or " not in everything
        assert "M0" not in everything  # how CLDR writes a month that has no name
    assert " or " in "\n".join(texts(folder, "eng_Latn"))


@settings(deadline=None)
@given(st.integers(), st.sampled_from(["deu_Latn", "swa_Latn", "jpn_Jpan", "zgh_Tfng", "nep_Deva"]))
def test_every_theme_says_something_in_every_language_of_a_group(seed, code):
    for group in (group_of(words(code)), group_of(words("eng_Latn"), words(code))):
        for theme in themes_of(group):
            row = theme(Random(seed), group)
            assert len(row) == len(group.words)
            assert all(side.strip() and "\n" not in side and "{" not in side for side in row)


def test_sentences_of_a_pair_say_the_same():
    english, swahili, nepali = words("eng_Latn"), words("swa_Latn"), words("nep_Deva")
    assert english.measure(2, "length-kilometer") == "2 kilometers"
    assert english.measure(1, "length-kilometer") == "1 kilometer"
    assert swahili.some("territories", ["KE", "UG"]) == "Kenya na Uganda"
    assert english.some("territories", ["KE", "UG"], "or") == "Kenya or Uganda"
    assert english.span(-3, "day") == "3 days ago"
    assert swahili.money(2, "KES") == "shilingi za Kenya 2"
    assert nepali.number(1234) == "१,२३४"
    assert english.percent(0.34) == "34%"


def test_locales_have_valid_and_distinct_codes():
    locales, skipped = find_locales()
    assert len(set(locales.values())) == len(locales) >= 300
    assert skipped > 0
    for code in locales:
        assert parse_label(code).code == code
        assert to_iso639_3(code) == code[:3] != "und"
    assert locales["zho_Hani"] == "zh"
    assert locales["srp_Latn"] == "sr_Latn"
    assert "por_Latn" in locales


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_unknown_languages_are_named(tmp_path):
    with pytest.raises(ValueError, match="'swa_Ltn' is not in CLDR; close to it: swa_Latn"):
        build_sample_corpus(tmp_path, languages=["eng_Latn", "swa_Ltn"])
    with pytest.raises(ValueError, match="too few words of bho_Deva"):
        build_sample_corpus(tmp_path, languages=["eng_Latn", "bho_Deva"])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "fra_Latn").mkdir()
    with pytest.raises(ValueError, match="holds what this sample corpus does not: fra_Latn"):
        build_sample_corpus(tmp_path, languages=["eng_Latn"])


def test_the_command_line(tmp_path):
    tool = Path(__file__).resolve().parents[3] / "tools" / "make_sample_corpus.py"
    command = [sys.executable, str(tool), "--output", str(tmp_path / "out"), "--languages"]
    done = subprocess.run([*command, "sag_Latn"], capture_output=True, text=True, check=True)
    assert "2 corpora" in done.stdout
    failed = subprocess.run([*command, "sag"], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "sag_Latn" in failed.stderr
