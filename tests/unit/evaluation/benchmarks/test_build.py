from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest
import sacrebleu
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.config.benchmark_load import load_benchmark
from megatron.evaluation.benchmarks.build import build, read_prompt_set
from megatron.evaluation.benchmarks.manifest import BenchmarkDataError, load_manifest
from megatron.evaluation.benchmarks.opening import open_translator
from megatron.evaluation.benchmarks.run import run_suite
from megatron.evaluation.benchmarks.seq2seq import Seq2SeqTranslator
from megatron.evaluation.benchmarks.translators import ModelTranslator, Translation, TranslationTable, Untranslated
from megatron.generate.options import GenerationOptions, Written

from .models import Uniform
from .upstream import jsonl, write

MISSING = Untranslated.MISSING
PROMPTS = [
    {"id": "p1", "category": "email", "prompt": "Write an email to a friend about your holiday by the sea."},
    {"id": "p2", "task": "story", "prompt": "Tell a story about a dog that finds its way home at night."},
    {"id": "p3", "category": "poem", "prompt": "Write a short poem about rain on a tin roof in spring."},
]


class Words:
    """Translates by turning letters round; some texts come back wrong, or not at all."""

    def __init__(self, name: str = "words", *, spoils: str = "?", loses: str = "?") -> None:
        self.name, self._spoils, self._loses = name, spoils, loses
        self.asked: list[str] = []

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translation]:
        self.asked.append(f"{source}>{target}")
        return [
            MISSING if self._loses in text else "nothing of the kind" if self._spoils in text
            else " ".join(word[::-1] for word in text.split())
            for text in texts
        ]  # fmt: skip


class Cut(Uniform):
    """Runs into the limit of its length where it is told to."""

    def write(self, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> list[Written]:
        written = super().write(prompts, options)
        is_cut = ["English: cut\n" in prompt for prompt in self.prompts]
        return [each._replace(stop_reason="length") if cut else each for each, cut in zip(written, is_cut, strict=True)]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    jsonl(tmp_path / "prompts.jsonl", PROMPTS)
    return tmp_path / "prompts.jsonl"


def records(folder: Path, language: str) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in (folder / language / "test.jsonl").read_bytes().splitlines()]


def made(prompts: Path, folder: Path, languages: Sequence[str] = ("swh_Latn",), **options: object):  # type: ignore[no-untyped-def]
    given = {"forward": Words(), "backward": Words(spoils="god", loses="mirhc"), "show_progress": False, **options}
    return build(read_prompt_set(prompts), languages, folder, **given)  # type: ignore[arg-type]


def test_what_comes_back_well_is_kept_and_the_rest_is_counted(prompts: Path, tmp_path: Path) -> None:
    manifest = made(prompts, tmp_path / "b")
    (first, third) = records(tmp_path / "b", "swh_Latn")
    turned = " ".join(word[::-1] for word in PROMPTS[0]["prompt"].split())
    assert (first["id"], first["category"], first["prompt"]) == ("p1", "email", turned)
    assert first["original"] == first["back_translation"] == PROMPTS[0]["prompt"]
    assert first["bleu"] == pytest.approx(100) and first["chrf++"] == pytest.approx(100) and third["id"] == "p3"
    assert dict(manifest.languages["swh_Latn"].dropped) == {"low_bleu": 1} == dict(manifest.dropped)
    assert manifest.languages["swh_Latn"].files["test"].items == 2 and load_manifest(tmp_path / "b") == manifest
    assert manifest.details["minimum_bleu"] == 20 and "tok:13a" in manifest.details["signatures"]["bleu"]


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 100))
def test_bleu_is_that_of_sacrebleu(minimum: float) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        jsonl(Path(folder) / "p.jsonl", PROMPTS[:1])
        original = PROMPTS[0]["prompt"]
        back = "Write an email to a friend about his holidays by a lake."
        rows = [
            {"source": "eng_Latn", "target": "swh_Latn", "text": original, "translation": "Andika barua pepe"},
            {"source": "swh_Latn", "target": "eng_Latn", "text": "Andika barua pepe", "translation": back},
        ]
        jsonl(Path(folder) / "t.jsonl", rows)
        table = TranslationTable(Path(folder) / "t.jsonl")
        manifest = made(
            Path(folder) / "p.jsonl", Path(folder) / "b", forward=table, backward=table, minimum_bleu=minimum
        )
        expected = sacrebleu.sentence_bleu(back, [original]).score
        assert bool(manifest.languages["swh_Latn"].files) == (expected >= minimum)
        if manifest.languages["swh_Latn"].files:
            (record,) = records(Path(folder) / "b", "swh_Latn")
            assert record["bleu"] == pytest.approx(expected)
            assert record["chrf++"] == pytest.approx(sacrebleu.sentence_chrf(back, [original], word_order=2).score)


def test_every_reason_is_counted(prompts: Path, tmp_path: Path) -> None:
    class Copies(Words):
        def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translation]:
            return [texts[0], MISSING, super().translate(texts, source, target)[2]]

    manifest = made(prompts, tmp_path / "b", forward=Copies(), backward=Words(loses="."))
    assert dict(manifest.dropped) == {"copied": 1, "no_back_translation": 1, "no_translation": 1}
    assert not (tmp_path / "b" / "swh_Latn" / "test.jsonl").exists()
    source = made(prompts, tmp_path / "e", languages=("eng_Latn",), forward=Copies(), backward=Copies())
    assert source.languages["eng_Latn"].files["test"].items == 3


def test_what_was_cut_off_is_no_translation_and_has_its_own_count(prompts: Path, tmp_path: Path) -> None:
    class Cuts(Words):
        def __init__(self, place: int) -> None:
            super().__init__()
            self._place = place

        def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translation]:
            found = super().translate(texts, source, target)
            found[self._place] = Untranslated.CUT_OFF
            return found

    manifest = made(prompts, tmp_path / "b", forward=Cuts(0), backward=Cuts(1))
    assert dict(manifest.dropped) == {"translation_cut_off": 1, "back_translation_cut_off": 1}
    assert [record["id"] for record in records(tmp_path / "b", "swh_Latn")] == ["p2"]


def test_a_language_is_made_once(prompts: Path, tmp_path: Path) -> None:
    first = made(prompts, tmp_path / "b")
    again = Words()
    assert made(prompts, tmp_path / "b", forward=again) == first and again.asked == []
    both = made(prompts, tmp_path / "b", languages=("swh_Latn", "yor_Latn"), forward=again)
    assert again.asked == ["eng_Latn>yor_Latn"] and sorted(both.languages) == ["swh_Latn", "yor_Latn"]
    other = Words("better words")
    made(prompts, tmp_path / "b", forward=other)
    assert other.asked == ["eng_Latn>swh_Latn"]


def test_it_runs_like_polywrite(prompts: Path, tmp_path: Path) -> None:
    made(prompts, tmp_path / "data" / "letters")
    write(tmp_path / "letters.yml", "based_on: polywrite\ndata: letters\n")
    benchmark = load_benchmark(str(tmp_path / "letters.yml"))
    model = Uniform(writes=lambda prompt: f"Barua {len(prompt)}")
    (score,) = run_suite(model, [benchmark], data=tmp_path / "data", results=None, show_progress=False)
    assert (score.benchmark, score.language, score.items, score.main) == ("letters", "swh_Latn", 2, "self_bleu")


def test_a_language_model_is_shown_examples(tmp_path: Path) -> None:
    rows = [
        {"source": "swh_Latn", "target": "eng_Latn", "text": f"Neno {n}\nla", "translation": f"Word {n}"}
        for n in range(5)
    ]
    jsonl(tmp_path / "t.jsonl", [*rows, {"source": "swh_Latn", "text": "x"}])
    table = TranslationTable(tmp_path / "t.jsonl")
    assert table.dropped == {"wrong_fields": 1}
    model = Cut(writes=lambda prompt: "" if "lost" in prompt else " Tafsiri ", max_tokens=1_000)
    translator = ModelTranslator(model, "tiny", examples=table, shots=2, maximum_tokens=20)
    texts = ["The first\ntext", "lost", "x" * 2_000, "cut"]
    found = translator.translate(texts, "eng_Latn", "swh_Latn")
    assert found == ["Tafsiri", MISSING, MISSING, Untranslated.CUT_OFF]
    assert model.prompts[0] == (
        "Translate the sentences from English to Swahili.\n\nEnglish: Word 0\nSwahili: Neno 0 la\n\n"
        "English: Word 1\nSwahili: Neno 1 la\n\nEnglish: The first text\nSwahili:"
    )
    assert model.options[0].stop == ("\n",) and model.options[0].sampling.temperature == 0


def test_a_language_model_is_told_the_script(tmp_path: Path, small_hf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Uniform()
    translator = open_translator(None, None, small_hf)
    monkeypatch.setattr(translator, "_model", asked)
    for code in ("zho_Hans", "zho_Hant", "swh_Latn"):
        translator.translate(["One"], "eng_Latn", code)
    names = ("Chinese (Simplified)", "Chinese (Traditional)", "Swahili")
    assert [prompt.splitlines()[0] for prompt in asked.prompts] == [
        f"Translate the sentences from English to {name}." for name in names
    ]


def t5(folder: Path, *, seed: int = 0, **generation: object) -> Path:
    """Write a small model with random weights."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: id for id, word in enumerate(["<pad>", "</s>", "<unk>", "eng_Latn", "swh_Latn", "moja", "mbili"])}
    own = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=own, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=10
    )
    shape = transformers.T5Config(
        vocab_size=7, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    torch.manual_seed(seed)
    model = transformers.T5ForConditionalGeneration(shape)
    model.generation_config.update(**generation)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_hugging_face_model(tmp_path: Path) -> None:
    # An end is ever likelier after the third token, and no mark is written.
    t5(tmp_path / "t5", exponential_decay_length_penalty=(3, 9.0), suppress_tokens=[0, 2, 3, 4])
    translator = open_translator(None, tmp_path / "t5", None)
    texts = ["moja mbili", "moja", "moja " * 20]
    found = translator.translate(texts, "eng_Latn", "swh_Latn")
    assert [isinstance(each, str) for each in found] == [True, True, False] and found[2] is MISSING
    assert found == translator.translate(texts, "eng_Latn", "swh_Latn")
    assert translator.name.startswith("seq2seq t5 ")


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("forced", [None, 1])
def test_a_model_that_reaches_the_limit_has_translated_nothing(tmp_path: Path, beams: int, forced: int | None) -> None:
    # Some models are told to write an end at the limit, which makes their texts no more whole.
    endless = t5(tmp_path / "endless", bad_words_ids=[[1], [0]], forced_eos_token_id=forced)
    translator = Seq2SeqTranslator(endless, maximum_tokens=4, beams=beams)
    assert translator.translate(["moja", "mbili"], "eng_Latn", "swh_Latn") == [Untranslated.CUT_OFF] * 2


def test_the_name_tells_apart_what_translates_differently(tmp_path: Path) -> None:
    def name() -> str:
        return Seq2SeqTranslator(folder).name

    folder = t5(tmp_path / "t5")
    names = [name()]
    assert name() == names[0]
    for note in ("README.md", ".gitattributes", "pytorch_model.bin"):
        write(folder / note, "not read")
    assert name() == names[0]
    t5(folder, seed=1)  # other weights of the same shape
    names.append(name())
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"moja": 5', '"sita": 5'))
    names.append(name())
    t5(folder, seed=1, repetition_penalty=2.0)
    names.append(name())
    assert len(set(names)) == 4
    with_codes = [
        Seq2SeqTranslator(folder, codes=codes).name
        for codes in ({"kor_Kore": "kor_Hang"}, {"kor_Kore": "kor_Kore"}, {"kor_Kore": "ko"})
    ]
    assert len({*names, *with_codes}) == 6 and with_codes[1] == name(), "codes that change nothing name nothing"
    with pytest.raises(BenchmarkDataError, match="is no folder"):
        Seq2SeqTranslator(tmp_path / "none")


def test_a_model_that_knows_codes_is_told_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    words = {word: id for id, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", "▁moja"])}
    tokenizer = transformers.NllbTokenizerFast(vocab=words, merges=[], model_max_length=32)
    shape = transformers.M2M100Config(
        vocab_size=len(tokenizer), d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=64,
    )  # fmt: skip
    transformers.M2M100ForConditionalGeneration(shape).save_pretrained(tmp_path / "nllb")
    tokenizer.save_pretrained(tmp_path / "nllb")
    translator = open_translator(None, tmp_path / "nllb", None, codes=["kor_Kore=kor_Hang"])
    given = []
    generate = translator._model.generate  # type: ignore[attr-defined]

    def seen(**options):  # type: ignore[no-untyped-def]
        given.append((options["input_ids"][0, 0].item(), options["forced_bos_token_id"]))
        return generate(**{**options, "max_new_tokens": 3})

    monkeypatch.setattr(translator._model, "generate", seen)  # type: ignore[attr-defined]
    translator.translate(["moja"], "swh_Latn", "kor_Kore")
    assert given == [tuple(tokenizer.convert_tokens_to_ids(["swh_Latn", "kor_Hang"]))]
    assert translator.translate(["moja"], "swh_Latn", "qaa_Latn") == [MISSING] and len(given) == 1


def test_a_missing_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(BenchmarkDataError, match="needs transformers: pip install transformers"):
        open_translator(None, tmp_path, None)


def test_mistakes_are_told(prompts: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkDataError, match="not corpus codes like swh_Latn: swahili"):
        made(prompts, tmp_path / "b", languages=("swahili",))
    jsonl(tmp_path / "twice.jsonl", [PROMPTS[0], PROMPTS[0]])
    with pytest.raises(BenchmarkDataError, match="1 ids come twice or more, such as 'p1'"):
        read_prompt_set(tmp_path / "twice.jsonl")
    write(tmp_path / "empty.jsonl", "{}\n")
    with pytest.raises(BenchmarkDataError, match="holds no prompt"):
        read_prompt_set(tmp_path / "empty.jsonl")
    with pytest.raises(BenchmarkDataError, match="holds no translation"):
        TranslationTable(tmp_path / "empty.jsonl")
    with pytest.raises(BenchmarkDataError, match="name one translator"):
        open_translator(tmp_path, tmp_path, None)
    with pytest.raises(BenchmarkDataError, match="kor_Kore=kor_Hang, not kor_Hang"):
        open_translator(None, tmp_path, None, codes=["kor_Hang"])
    (tmp_path / "no-model").mkdir()
    with pytest.raises(BenchmarkDataError, match="holds no translation model"):
        open_translator(None, tmp_path / "no-model", None)
