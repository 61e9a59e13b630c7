from __future__ import annotations

import base64
import gzip
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
import sentencepiece
import tiktoken
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from megatron.corpus.document import CorpusError
from megatron.corpus.measure.run import measure_corpora
from megatron.corpus.reading.problems import REASONS
from megatron.tokenizer.measure.figures import byte_premium_of, figures_of, ginis
from megatron.tokenizer.measure.measured import Language, Measured
from megatron.tokenizer.measure.source import TokenizerSource
from megatron.tokenizer.tiktoken_tokenizer import LLAMA3_PATTERN

ROOT = Path(__file__).resolve().parents[4]


def write(path: Path, *texts: str | Mapping[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    records = (each if isinstance(each, Mapping) else {"text": each} for each in texts)
    path.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> TokenizerSource:
    """A tokenizer of bytes, with a token for "ab" and one for " ab"."""
    tokens = [*(bytes([byte]) for byte in range(256)), b"ab", b" ab"]
    path = tmp_path_factory.mktemp("small") / "tokenizer.model"
    path.write_bytes(b"".join(base64.b64encode(token) + f" {rank}\n".encode() for rank, token in enumerate(tokens)))
    return TokenizerSource("small", path)


def measure(source: TokenizerSource, work: Path, **what: Any) -> Measured:
    return measure_corpora([source], work=work, show_progress=False, **what)


def languages(measured: Measured) -> dict[str, Language]:
    return {language.code: language for language in measured.languages}


def test_records_are_compared_by_their_numbers_and_only_those_that_both_have(
    small: TokenizerSource, tmp_path: Path
) -> None:
    folder = tmp_path / "parallel"
    write(folder / "eng_Latn.jsonl", "ab", "ab ab", " ", "ab ab ab")  # 1, 2, none and 3 tokens
    write(folder / "xxa_Latn.jsonl", "é", " ", "éé", "ééé")  # 2, none, 4 and 6 tokens
    write(folder / "xxb_Latn.jsonl", "abab", "cc")  # 2 and 2 tokens
    found = measure(small, tmp_path / "work", parallel=[folder])
    of = languages(found)
    first = of["xxa_Latn"].parallel
    assert first is not None
    assert (first.records, first.unmatched, first.uneven) == (2, 2, False)
    assert (first.own.tokens, first.own.bytes, first.own.characters) == ([8], 8, 4)
    assert (first.pivot.tokens, first.pivot.bytes, first.pivot.characters) == ([4], 10, 10)
    assert figures_of(of["xxa_Latn"], 0).premium == 2 and byte_premium_of(of["xxa_Latn"]) == 0.8
    second = of["xxb_Latn"].parallel
    assert second is not None
    assert (second.records, second.unmatched, second.uneven) == (2, 1, True)
    assert second.own.tokens == [4] and second.pivot.tokens == [3]
    assert figures_of(of["eng_Latn"], 0).premium == 1
    # The figures of a language are of all its text, compared or not.
    assert of["xxa_Latn"].counts.tokens[0].tokens == 12 and of["xxa_Latn"].origin == "parallel"
    assert found.left_out == {
        "records of parallel text that the pivot or the other language does not have": 3,
        "records that are blank": 2,
    }
    assert ginis(found, 0)["premium"] == pytest.approx((1 * -2 + 4 / 3 * 0 + 2 * 2) / (3 * (1 + 4 / 3 + 2)))


def test_pairs_of_sentences_give_premiums_too(small: TokenizerSource, tmp_path: Path) -> None:
    pair = {"src_text": "ab ab", "tgt_text": "éé"}
    write(tmp_path / "p" / "eng_Latn-xxa_Latn" / "1.jsonl", pair, {"src_text": "ab", "tgt_text": " "})
    write(tmp_path / "p" / "xxb_Latn-eng_Latn" / "1.jsonl", {"text": "abc", "target": "ab"})
    write(tmp_path / "p" / "xxa_Latn-xxb_Latn" / "1.jsonl", pair)
    found = measure(small, tmp_path / "work", parallel=[tmp_path / "p"])
    of = languages(found)
    assert figures_of(of["xxa_Latn"], 0).premium == 2  # é é against ab ab
    assert figures_of(of["xxb_Latn"], 0).premium == 2  # ab and c against ab
    assert figures_of(of["eng_Latn"], 0).premium == 1
    assert of["xxb_Latn"].counts.text.documents == 2  # both sides count as text wherever they are from
    assert found.left_out == {
        "pairs that have no side in eng_Latn: they count as text, not for the premium": 1,
        "records that are blank": 1,
    }
    write(tmp_path / "q" / "eng_Latn-xxa_Latn.jsonl", {"text": "only one side"})
    with pytest.raises(CorpusError, match="src_text and tgt_text"):
        measure(small, tmp_path / "work", parallel=[tmp_path / "q"])


def test_figures_are_of_the_corpus_and_premiums_of_the_parallel_text(small: TokenizerSource, tmp_path: Path) -> None:
    write(tmp_path / "c" / "xxa_Latn" / "1.jsonl", "ab ab")
    write(tmp_path / "c" / "xxa_Latn" / "2.jsonl", "ab")
    write(tmp_path / "c" / "code-py" / "1.jsonl", "ab = 1")
    write(tmp_path / "c" / "und_Latn" / "1.jsonl", "ab")
    write(tmp_path / "c" / "eng_Latn-xxa_Latn" / "1.jsonl", "ab")
    write(tmp_path / "p" / "eng_Latn.jsonl", "ab")
    write(tmp_path / "p" / "xxa_Latn.jsonl", "cc")
    found = measure(small, tmp_path / "work", inputs=[tmp_path / "c"], parallel=[tmp_path / "p"])
    of = languages(found)
    assert of["xxa_Latn"].origin == "corpus" and of["xxa_Latn"].corpora == ["xxa_Latn"]
    assert figures_of(of["xxa_Latn"], 0).tokens_per_word == 1 and figures_of(of["xxa_Latn"], 0).premium == 2
    assert not of["code-py"].is_language and not of["und_Latn"].is_language
    assert found.left_out == {"corpora of pairs in --input, which belong to --parallel": 1}
    assert not list((tmp_path / "work").iterdir())


def test_the_pivot_may_be_another_and_must_be_one(small: TokenizerSource, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    for name in ("fra_Latn", "xxa_Latn"):
        write(folder / f"{name}.jsonl", "ab")
    with pytest.raises(CorpusError, match="no corpus is eng_Latn; name the one to compare with: --pivot, such as fra"):
        measure(small, tmp_path / "work", parallel=[folder])
    assert measure(small, tmp_path / "work", parallel=[folder], pivot="fra_Latn").pivot == "fra_Latn"
    write(folder / "one.jsonl", {"text": "ab", "original_code": "en"})
    write(folder / "two.jsonl", {"text": "ab", "original_code": "en"})
    with pytest.raises(CorpusError, match="2 corpora are eng_Latn"):
        measure(small, tmp_path / "work", parallel=[folder])
    assert measure(small, tmp_path / "work", parallel=[folder], pivot="two").pivot == "eng_Latn"


def test_mistakes_are_told_together(small: TokenizerSource, tmp_path: Path) -> None:
    with pytest.raises(CorpusError) as error:
        measure(small, tmp_path / "work", inputs=[Path("/no/one")], parallel=[Path("/no/two")])
    assert "/no/one" in str(error.value) and "/no/two" in str(error.value)
    with pytest.raises(CorpusError, match="nothing to measure"):
        measure(small, tmp_path / "work")
    broken = tmp_path / "c" / "xxa_Latn.jsonl"
    write(broken, "ab").write_bytes(b'{"text": 7}\n')
    with pytest.raises(CorpusError, match=r"no record .*xxa_Latn\.jsonl, line 1: .* is not a string but a number"):
        measure(small, tmp_path / "work", inputs=[tmp_path / "c"])
    write(tmp_path / "q" / "eng_Latn" / "1.jsonl", "ab")
    for name in ("1", "2"):
        write(tmp_path / "q" / "xxa_Latn" / f"{name}.jsonl", "ab")
    with pytest.raises(CorpusError, match="xxa_Latn has 2 files, the pivot eng_Latn 1"):
        measure(small, tmp_path / "work", parallel=[tmp_path / "q"])


def test_records_that_cannot_be_used_are_left_out_with_their_corpora(
    small: TokenizerSource, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "p" / "eng_Latn.jsonl", "ab", "ab", "ab")
    write(tmp_path / "p" / "xxa_Latn.jsonl").write_bytes(b'{"text": "cc"}\n{"text": 7}\n{"text": "ccc"}\n')
    packed = gzip.compress(b'{"text": "ab"}\n' * 9000, mtime=0)
    write(tmp_path / "c" / "xxb_Latn.jsonl.gz").write_bytes(packed[:-20])
    write(tmp_path / "c" / "xxc_Latn.jsonl").write_bytes(b'no JSON\n{"text": "\xff"}\n{"text": "ab"}\n')
    found = measure(small, tmp_path / "work", inputs=[tmp_path / "c"], parallel=[tmp_path / "p"])
    of = languages(found)
    parallel = of["xxa_Latn"].parallel
    assert parallel is not None
    assert (parallel.records, parallel.unmatched, parallel.own.tokens) == (2, 1, [5])  # the numbers stay
    assert of["xxc_Latn"].counts.text.documents == 1
    assert 0 < of["xxb_Latn"].counts.text.documents < 9000
    by_corpus = {reason.partition(": ")[2]: dict(counts) for reason, counts in found.left_out_of.items()}
    assert by_corpus[REASONS["wrong_fields"]] == {"xxa_Latn": 1}
    assert by_corpus[REASONS["cut_short"]] == {"xxb_Latn": 1}
    assert by_corpus[REASONS["not_json"]] == by_corpus[REASONS["not_utf8"]] == {"xxc_Latn": 1}
    assert {reason: sum(counts.values()) for reason, counts in found.left_out_of.items()} == found.left_out
    assert any("xxc_Latn.jsonl, line 1" in record.getMessage() for record in caplog.records)


def test_no_file_is_counted_twice(small: TokenizerSource, tmp_path: Path) -> None:
    path = write(tmp_path / "c" / "xxa_Latn" / "1.jsonl", "ab")
    (tmp_path / "link").symlink_to(tmp_path / "c")
    with pytest.raises(CorpusError, match=r"1\.jsonl: is given twice to --input"):
        measure(small, tmp_path / "work", inputs=[tmp_path / "c", tmp_path / "link"])
    write(tmp_path / "p" / "eng_Latn.jsonl", "ab")
    with pytest.raises(CorpusError, match=r"eng_Latn\.jsonl: is given twice to --parallel"):
        measure(small, tmp_path / "work", parallel=[tmp_path / "p", tmp_path / "p"])
    # As text and as parallel text is another matter.
    both = measure(small, tmp_path / "work", inputs=[tmp_path / "c"], parallel=[tmp_path / "p"])
    assert path.exists() and len(both.languages) == 2
    assert len(measure(small, tmp_path / "work", inputs=[tmp_path / "p"], parallel=[tmp_path / "p"]).languages) == 1


TEXTS = st.lists(st.text(alphabet="abé雪 \n", max_size=12), min_size=1, max_size=5)


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(["xxa_Latn", "xxb_Thai", "xxc_Hani"]), TEXTS, min_size=2), TEXTS)
def test_the_numbers_do_not_depend_on_the_workers(
    small: TokenizerSource, tmp_path: Path, texts: dict[str, list[str]], pivot: Sequence[str]
) -> None:
    shutil.rmtree(tmp_path / "p", ignore_errors=True)
    for name, each in {**texts, "eng_Latn": pivot}.items():
        write(tmp_path / "p" / f"{name}.jsonl", *each)
    found = [
        measure(small, tmp_path / "work", inputs=[tmp_path / "p"], parallel=[tmp_path / "p"], workers=workers)
        for workers in (1, 3)
    ]
    one, three = (
        [
            (each.code, each.counts.to_json(), each.parallel.to_json() if each.parallel else None)
            for each in measured.languages
        ]
        for measured in found
    )
    assert one == three and found[0].left_out == found[1].left_out


def test_workers_do_not_need_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import tools.tokenizer_report, megatron.corpus.measure.works, megatron.evaluation.report.tokenizers.write"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ---- the real tokenizers on the declarations -------------------------------------------------------------------------

DECLARATIONS = ("eng", "deu_1901", "fin", "tha", "div", "amh", "cmn_hans", "lao", "tel", "kat", "hin", "jpn")


@pytest.fixture(scope="module")
def real(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Measured]:
    folder = tmp_path_factory.mktemp("udhr")
    for name in DECLARATIONS:
        shutil.copy(shared / "data" / "udhr" / "raw" / f"{name}.jsonl", folder)
    models = [f"{name}={shared / 'data' / 'tokenizers' / name / 'tokenizer.model'}" for name in ("llama2", "llama3")]
    sources = TokenizerSource.parse(models)
    return folder, measure_corpora(sources, parallel=[folder], work=folder / "work", show_progress=False)


def test_known_facts_come_out(real: tuple[Path, Measured]) -> None:
    of = languages(real[1])
    assert len(of) == len(DECLARATIONS)
    premium = {code: [figures_of(each, number).premium for number in (0, 1)] for code, each in of.items()}
    assert 14 < premium["div_Thaa"][0] < 16 and 16 < premium["div_Thaa"][1] < 18
    assert premium["deu_Latn"][0] < 2 and premium["tha_Thai"][1] < premium["tha_Thai"][0] / 2
    share = {code: [figures_of(each, number).byte_share for number in (0, 1)] for code, each in of.items()}
    assert min(share["amh_Ethi"]) > 0.99 and min(share["lao_Laoo"]) > 0.97 and min(share["tel_Telu"]) > 0.9
    assert share["kat_Geor"][0] < 0.1 and share["kat_Geor"][1] > 0.9
    # Llama 2 has no token for the line feed but its byte.
    assert 0.01 < share["eng_Latn"][0] < 0.03 and share["eng_Latn"][1] == 0
    for language in of.values():
        for counts in language.counts.tokens:
            assert counts.unk_tokens == 0 and counts.failures == 0 and counts.checked > 24
    assert all(0.2 < ginis(real[1], number)["premium"] < 0.6 for number in (0, 1))


def test_the_libraries_themselves_count_the_same(real: tuple[Path, Measured], shared: Path) -> None:
    folder, found = real
    models = [shared / "data" / "tokenizers" / name / "tokenizer.model" for name in ("llama2", "llama3")]
    processor = sentencepiece.SentencePieceProcessor(model_file=str(models[0]))
    ranks = {
        base64.b64decode(token): int(rank)
        for token, rank in (line.split() for line in models[1].read_bytes().splitlines())
    }
    encoding = tiktoken.Encoding("llama3", pat_str=LLAMA3_PATTERN, mergeable_ranks=ranks, special_tokens={})
    for language in found.languages:
        texts = [
            orjson.loads(line)["text"]
            for name in language.corpora
            for line in (folder / f"{name}.jsonl").read_bytes().splitlines()
        ]
        ids = [processor.encode(text) for text in texts]
        tokens, text = language.counts.tokens, language.counts.text
        assert tokens[0].tokens == sum(map(len, ids))
        assert tokens[0].byte_tokens == sum(processor.is_byte(token) for each in ids for token in each)
        assert tokens[1].tokens == sum(len(encoding.encode_ordinary(each)) for each in texts)
        assert (text.documents, text.characters) == (len(texts), sum(map(len, texts)))
        assert text.bytes == sum(len(each.encode()) for each in texts)
