from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.benchmark_load import BENCHMARKS, load_benchmark
from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.evaluation.benchmarks.prompts import PromptBuilder, nearest

from .models import ByteTokenizer

RECORD = {"id": "1", "text": "Habari", "label": "travel"}
SHOTS = [{"id": "2", "text": "Moja", "label": "sports"}, {"id": "3", "text": "Mbili", "label": "health"}]


def builder(
    name: str, language: str = "swh_Latn", room: int = 10_000, scripts: Sequence[str] = ()
) -> PromptBuilder:
    benchmark = load_benchmark(name)
    return PromptBuilder(benchmark, language, ByteTokenizer(), room=room, scripts=scripts)  # type: ignore[arg-type]


def test_the_instruction_comes_first_then_shots_then_the_query() -> None:
    assert builder("sib200").build(RECORD, SHOTS).text == (
        "Topic Classification: science/technology, travel, politics, sports, health, entertainment, geography.\n\n"
        'The topic of the news "Moja" is sports\nThe topic of the news "Mbili" is health\n'
        'The topic of the news "Habari" is'
    )
    assert builder("sib200").label("travel") == " travel"
    assert builder("sib200").premise() == "The topic of the news is"


def test_the_published_prompts() -> None:
    head = "Topic Classification: Recommendation, Faith, Description, Sin, Grace, Violence.\n\n"
    shot = {"text": "a", "label": "Sin"}
    assert builder("taxi1500-published").build(RECORD, [shot, shot]).text == (
        f'{head}The topic of the verse "a" is Sin\nThe topic of the verse "a" is Sin\nThe label of "Habari" is\n'
    )
    pair = {"source": "One", "target": "Moja"}
    assert builder("flores200-from-eng-published", "kor_Kore").build({"source": "Two"}, [pair, pair]).text == (
        "[English]: One\n[Korean]: Moja\n[English]: One\n[Korean]: Moja\n"
        "Translate the following sentence from English to Korean\n[English]: Two\n[Korean]:"
    )
    assert "from Chinese (Simplified) to English\n" in builder("flores200-into-eng-published", "zho_Hans").build(
        {"source": "x"}, []
    ).text  # fmt: skip
    document = {"text": "Text."}
    published = builder("xlsum-published", "eng_Latn").build(document, []).text
    assert published == "Document: Text.\nBased on the previous text, provide a brief single summary::"
    assert builder("xlsum", "eng_Latn").build(document, []).text == f"{published[:-1]}\n"
    assert builder("xlsum", "fra_Latn").build(document, []).text.endswith("fournissez un bref résumé unique:\n")
    assert builder("aya-published").build({"prompt": "Sema"}, []).text == "Sema"


def test_the_list_of_names_is_one_for_all_that_translate() -> None:
    names = load_benchmark("flores200-from-eng").language_names
    assert len(names) == 204
    for name in ("flores200-into-eng", "flores200-from-eng-published", "flores200-into-eng-published"):
        assert load_benchmark(name).language_names == names
        assert "language_names" not in (BENCHMARKS / f"{name}.yml").read_text(encoding="utf-8")
    assert len(set(names.values())) == 204, "no two languages or scripts have one prompt"


@pytest.mark.parametrize("name", ["flores200-from-eng", "flores200-into-eng", "flores200-from-eng-published"])
@pytest.mark.parametrize(
    ("codes", "called"),
    [
        (("zho_Hans", "zho_Hant"), ("Chinese (Simplified)", "Chinese (Traditional)")),
        (("kas_Arab", "kas_Deva"), ("Kashmiri (Arabic script)", "Kashmiri (Devanagari script)")),
        (("ell_Grek", "ace_Latn"), ("Greek", "Acehnese (Latin script)")),
        # Not in the list.
        (("cmn_Hans", "cmn_Hant"), ("Mandarin Chinese (Simplified)", "Mandarin Chinese (Traditional)")),
        (("snd_Arab", "snd_Deva"), ("Sindhi", "Sindhi (Devanagari script)")),
    ],
)
def test_prompts_say_which_script_is_wanted(name: str, codes: tuple[str, str], called: tuple[str, str]) -> None:
    scripts = [code[4:] for code in codes]
    texts = [builder(name, code, scripts=scripts).build({"source": "x"}, []).text for code in codes]
    assert [own in text for own, text in zip(called, texts, strict=True)] == [True, True]
    assert texts[0] != texts[1]
    assert "(" not in builder(name, "vmw_Latn", scripts=["Latn"]).build({"source": "x"}, []).text


def test_other_benchmarks_say_it_too() -> None:
    asks = BenchmarkConfig(name="own", data="own", kind="generation", prompt="In {language}: {text}", metrics=("bleu",))
    made = PromptBuilder(asks, "srp_Cyrl", ByteTokenizer(), room=99, scripts=["Cyrl", "Latn"])  # type: ignore[arg-type]
    assert made.build({"text": "x"}, []).text == "In Serbian (Cyrillic script): x"


def test_wording_of_relatives_else_of_english() -> None:
    assert builder("massivesumm-long", "ara_Arab").build({"text": "x"}, []).text.startswith("وثيقة: x\n")
    assert builder("massivesumm-long", "fij_Latn").build({"text": "x"}, []).text.startswith("Document: x\nBased on")
    table = {"arb_Arab": 1, "srp_Latn": 2, "zho_Hans": 3, "zsm_Latn": 4, "ind_Latn": 5}
    assert [nearest(code, table) for code in ("ara_Arab", "srp_Cyrl", "arb_Arab", "msa_Latn", "zlm_Latn")] == [
        "arb_Arab", "srp_Cyrl", "arb_Arab", "msa_Latn", "zlm_Latn",
    ]  # fmt: skip


@given(room=st.integers(60, 400))
def test_shots_go_first_and_the_query_stays(room: int) -> None:
    made = builder("flores200-from-eng", room=room)
    shots = [{"source": f"Sentence {n}", "target": "x" * 30} for n in range(4)]
    record = {"source": "The query"}
    prompt = made.build(record, shots)
    assert len(prompt.ids) <= room and prompt.text.endswith("English: The query\nSwahili:")
    if prompt.cut_tokens:
        assert len(made.build(record, []).text) > room
    assert [f"Sentence {n}" in prompt.text for n in range(4)] == [n >= prompt.shots_left_out for n in range(4)]
    if prompt.shots_left_out > 0 and not prompt.cut_tokens:
        longer = made.build(record, []).text, shots[prompt.shots_left_out - 1 :]
        assert len(longer[0]) + sum(len(made.shot(shot)) + 2 for shot in longer[1]) > room


@given(text=st.text("aéẞ日\n ", max_size=300), room=st.integers(150, 500))
def test_as_little_as_possible_is_cut_off_a_long_text(text: str, room: int) -> None:
    made = builder("xlsum", "eng_Latn", room)
    prompt = made.build({"text": text}, [])
    whole = f"Document: {text}\nBased on the previous text, provide a brief single summary:\n"
    kept = text[: len(text) - prompt.shortened]
    assert prompt.text == whole.replace(text, kept, 1) if text else whole
    assert len(prompt.ids) <= room and not prompt.cut_tokens
    if prompt.shortened:
        longer = text[: len(kept) + 1]
        assert len(whole.encode()) - len(text.encode()) + len(longer.encode()) > room


def test_braces_in_texts_are_no_fields_and_missing_fields_are_told() -> None:
    assert '"{label}{{x}"' in builder("sib200").build({"text": "{label}{{x}"}, []).text
    with pytest.raises(ValueError, match=r"asks for \{text\}"):
        builder("sib200").build({"id": "1"}, [])
    with pytest.raises(ValueError, match="no room for a prompt"):
        builder("sib200", room=0)
