"""Corpora of a few sentences in scripts that the small tokenizers do not know."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from megatron.tokenizer.extend.source import Source

SENTENCES = {
    "eng_Latn": "All human beings are born free and equal in dignity and rights. They are endowed with reason and "
    "conscience and should act towards one another in a spirit of brotherhood.",
    "fin_Latn": "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan. Heille on annettu järki "
    "ja omatunto, ja heidän on toimittava toisiaan kohtaan veljeyden hengessä.",
    "ell_Grek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα. Είναι "
    "προικισμένοι με λογική και συνείδηση, και οφείλουν να συμπεριφέρονται μεταξύ τους με πνεύμα αδελφοσύνης.",
    "hye_Armn": "Բոլոր մարդիկ ծնվում են ազատ ու հավասար իրենց արժանապատվությամբ ու իրավունքներով։ Նրանք ունեն "
    "բանականություն ու խիղճ և միմյանց պետք է եղբայրաբար վերաբերվեն։",
    "tha_Thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ต่างมีเหตุผลและมโนธรรม "
    "และควรปฏิบัติต่อกันด้วยเจตนารมณ์แห่งภราดรภาพ",
}
CODE = "for (i = 0; i < 10; ++i) {\n\treturn a[i] * 2026;\n}\n\n    # <s>not</s> a token"


def documents(code: str, *, count: int = 10) -> list[str]:
    """Return documents of the words of a sentence in other orders, two lines each."""
    draw = random.Random(code)
    words = SENTENCES[code].split()
    return [
        "\n".join(" ".join(draw.sample(words, len(words))) for _ in range(2)) + f" {number}" for number in range(count)
    ]


@pytest.fixture(scope="session")
def sources() -> list[Source]:
    """English and code as pivots, and four languages to learn."""

    def source(code: str, texts: list[str], *, is_pivot: bool) -> Source:
        return Source(code, code, lambda: list(texts), is_pivot)

    learnt = [source(code, documents(code), is_pivot=False) for code in SENTENCES if code != "eng_Latn"]
    return [
        source("eng_Latn", documents("eng_Latn", count=30), is_pivot=True),
        source("code", [CODE], is_pivot=True),
        *learnt,
    ]


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same on disk."""
    folder = tmp_path_factory.mktemp("corpora")
    for code in SENTENCES:
        lines = [json.dumps({"text": text}) for text in documents(code, count=30 if code == "eng_Latn" else 10)]
        (folder / f"{code}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "code.jsonl").write_text(json.dumps({"text": CODE}) + "\n")
    return folder
