"""transformers' AutoTokenizer gives our ids from the folders that we write."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path

import pytest

from megatron.tokenizer.base import Tokenizer
from megatron.tokenizer.load import load_tokenizer
from megatron.tokenizer.train import train_sentencepiece

transformers = pytest.importorskip("transformers", reason="needs transformers: pip install transformers==5.23.0")

# Where scripts of many families begin, and how many code points to draw from.
SCRIPTS = {
    "Latin": (0x41, 300),
    "Greek, Coptic": (0x370, 140),
    "Cyrillic": (0x400, 250),
    "Armenian, Hebrew, Arabic": (0x530, 460),
    "Indic": (0x900, 1000),
    "Thai, Lao, Tibetan": (0xE01, 400),
    "Georgian, Hangul Jamo, Ethiopic, Cherokee": (0x10A0, 850),
    "Khmer, Mongolian": (0x1780, 280),
    "signs": (0x2000, 700),
    "kana": (0x3041, 180),
    "Han": (0x4E00, 300),
    "Hangul": (0xAC00, 300),
    "Adlam, emoji": (0x1E900, 400),
}
MARKUP = ["</s>", "<s>", "<unk>", "<0x0A>", "▁", "<|end_of_text|>", "<|begin_of_text|>", "\n", "\t", "  ", "'S", "123"]


def random_texts(count: int, *, seed: int) -> list[str]:
    generator = random.Random(seed)

    def word() -> str:
        first, span = generator.choice(list(SCRIPTS.values()))
        return "".join(chr(first + generator.randrange(span)) for _ in range(generator.randrange(1, 8)))

    parts = (lambda: word(), lambda: generator.choice(MARKUP), lambda: " ")
    return ["".join(generator.choice(parts)() for _ in range(generator.randrange(12))) for _ in range(count)]


def udhr_texts(shared: Path, *, languages: int = 40) -> list[str]:
    files = sorted((shared / "data" / "udhr" / "raw").glob("*.jsonl"))
    chosen = files[:: max(1, len(files) // languages)]
    return [json.loads(line)["text"] for file in chosen for line in file.read_text(encoding="utf-8").splitlines()]


def assert_same_ids(tokenizer: Tokenizer, folder: Path, texts: list[str], *, split_special_tokens: bool) -> None:
    for prepend_bos in (False, True):
        tokenizer.save(folder, prepend_bos=prepend_bos)
        # Beside a Llama model the library looks at the model's type too.
        (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
        theirs = transformers.AutoTokenizer.from_pretrained(folder, split_special_tokens=split_special_tokens)
        assert (theirs.eos_token_id, theirs.bos_token_id) == (tokenizer.eod_id, tokenizer.bos_id)
        assert len(theirs) == tokenizer.vocab_size
        first = [tokenizer.bos_id] if prepend_bos else []
        for text, found, expected in zip(texts, theirs(texts)["input_ids"], tokenizer.encode_batch(texts), strict=True):
            assert found == first + expected.tolist(), ascii(text)
    for text in texts[:200]:
        ids = tokenizer.encode(text)
        assert theirs.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids), ascii(text)


@pytest.fixture(scope="module")
def sp_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("sp") / "tokenizer.model"
    texts = [text for text in random_texts(3000, seed=1) if text]
    train_sentencepiece(texts, path, vocab_size=6500, character_coverage=0.98)
    return load_tokenizer("SPMTokenizer", path)


@pytest.fixture(scope="module")
def tiktoken_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    tokens = [bytes([byte]) for byte in range(256)]
    words = {word.encode() for text in random_texts(3000, seed=2) for word in text.split(" ")}
    parts = {word[:length] for word in words for length in range(2, min(9, len(word) + 1))}
    tokens += sorted(parts, key=lambda part: (len(part), part))
    path = tmp_path_factory.mktemp("ranks") / "tokenizer.model"
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens)))
    return load_tokenizer("TiktokenTokenizer", path)


@pytest.mark.parametrize("kind", ["sp_tokenizer", "tiktoken_tokenizer"])
def test_small_tokenizers_on_random_text(tmp_path: Path, request: pytest.FixtureRequest, kind: str) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    assert_same_ids(tokenizer, tmp_path, random_texts(2000, seed=3), split_special_tokens=True)
    # And through a second round: what we read back from our own tokenizer.json.
    again = load_tokenizer("HFTokenizer", tmp_path)
    assert_same_ids(again, tmp_path / "again", random_texts(500, seed=4), split_special_tokens=True)


@pytest.mark.parametrize(("kind", "name"), [("SPMTokenizer", "llama2"), ("TiktokenTokenizer", "llama3")])
def test_llamas_tokenizers(tmp_path: Path, shared: Path, kind: str, name: str) -> None:
    tokenizer = load_tokenizer(kind, shared / "data" / "tokenizers" / name / "tokenizer.model")
    assert_same_ids(tokenizer, tmp_path / "udhr", udhr_texts(shared), split_special_tokens=False)
    assert_same_ids(tokenizer, tmp_path / "random", random_texts(2000, seed=5), split_special_tokens=True)


def test_sentencepiece_files_agree_with_transformers_own_reading_of_the_model(tmp_path: Path, shared: Path) -> None:
    """An independent reader of tokenizer.model: the same vocabulary, so ids mean the same pieces."""
    path = shared / "data" / "tokenizers" / "llama2" / "tokenizer.model"
    load_tokenizer("SPMTokenizer", path).save(tmp_path, prepend_bos=False)
    ours = transformers.AutoTokenizer.from_pretrained(tmp_path).get_vocab()
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "tokenizer.model").write_bytes(path.read_bytes())
    theirs = transformers.LlamaTokenizer.from_pretrained(tmp_path / "theirs").get_vocab()
    assert ours == theirs
