"""Small tokenizers of each kind, made from text in many scripts."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from megatron.tokenizer.train import train_sentencepiece

TEXTS = [
    "All human beings are born free and equal in dignity and rights.",
    "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan.",
    "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "人人生而自由,在尊严和权利上一律平等。",
    "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق.",
    "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው።",
    "for (i = 0; i < 10; ++i) {\n\treturn a[i] * 2026;\n}\n\n    # <s>not</s> a token",
]


def write_ranks(path: Path) -> Path:
    """Write tiktoken ranks: all bytes, and every beginning of the words of TEXTS, shorter ones first."""
    tokens = [bytes([byte]) for byte in range(256)]
    words = {f" {word}".encode() for text in TEXTS for word in text.split()}
    parts = {word[:length] for word in words for length in range(2, len(word) + 1)}
    parts |= {word[1:length] for word in words for length in range(3, len(word) + 1)}
    tokens += sorted(parts, key=lambda part: (len(part), part))
    path.write_bytes(b"".join(base64.b64encode(token) + f" {rank}\n".encode() for rank, token in enumerate(tokens)))
    return path


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return TEXTS


@pytest.fixture(scope="session")
def sp_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sp") / "tokenizer.model"
    train_sentencepiece(TEXTS * 3, path, vocab_size=700)
    return path


@pytest.fixture(scope="session")
def ranks_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ranks(tmp_path_factory.mktemp("ranks") / "tokenizer.model")


@pytest.fixture(scope="session")
def hf_folder(tmp_path_factory: pytest.TempPathFactory, sp_model: Path) -> Path:
    from megatron.tokenizer.load import load_tokenizer

    folder = tmp_path_factory.mktemp("hf")
    load_tokenizer("SPMTokenizer", sp_model).save(folder, prepend_bos=False)
    return folder


@pytest.fixture(scope="session")
def hf_ranks_folder(tmp_path_factory: pytest.TempPathFactory, ranks_file: Path) -> Path:
    from megatron.tokenizer.load import load_tokenizer

    folder = tmp_path_factory.mktemp("hf_ranks")
    load_tokenizer("TiktokenTokenizer", ranks_file).save(folder, prepend_bos=False)
    return folder
