"""Small benchmarks as they come from upstream."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

SIB_LABELS = ("science/technology", "travel", "politics", "sports", "health", "entertainment", "geography")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def jsonl(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def sib200(folder: Path, languages: Sequence[str] = ("eng_Latn", "swh_Latn"), items: int = 9) -> Path:
    for code in languages:
        for split, count in {"train": 14, "dev": 3, "test": items}.items():
            rows = [
                f"{number}\t{SIB_LABELS[number % 7]}\tSentence {number} of {split} in {code}."
                for number in range(count)
            ]
            write(folder / code / f"{split}.tsv", "\n".join(["index_id\tcategory\ttext", *rows]) + "\n")
    return folder


def flores200(folder: Path, languages: Sequence[str] = ("eng_Latn", "swh_Latn", "kor_Hang")) -> Path:
    for code in languages:
        write(folder / "dev" / f"{code}.dev", "".join(f"dev {n} {code}\n" for n in range(6)))
        write(folder / "devtest" / f"{code}.devtest", "".join(f"test {n} {code}\n" for n in range(4)))
    return folder


def taxi1500(folder: Path, languages: Sequence[str] = ("eng_Latn", "swh_Latn")) -> Path:
    labels = ("Recommendation", "Faith", "Description", "Sin", "Grace", "Violence")
    for code in languages:
        for split, count in {"train": 12, "dev": 3, "test": 5}.items():
            rows = [f"{number}\t{labels[number % 6]}\tVerse {number} of {split} in {code}." for number in range(count)]
            write(folder / code / f"{code}_{split}.tsv", "\n".join(rows) + "\n")
    return folder


def xlsum(folder: Path) -> Path:
    for name in ("english", "swahili"):
        rows = [
            {"id": f"{name}{n}", "url": "u", "title": "t", "text": f"Long {name} text {n}.", "summary": f"Short {n}."}
            for n in range(3)
        ]
        jsonl(folder / f"{name}_test.jsonl", rows)
    return folder


def massivesumm(folder: Path) -> Path:
    rows = [{"language": "swa", "text": f"Maandishi marefu {n}.", "summary": f"Muhtasari {n}"} for n in range(3)]
    jsonl(folder / "test.jsonl", rows)
    return folder


def aya(folder: Path) -> Path:
    rows = [
        {"id": n, "inputs": f"Sema {n}", "targets": "Ndiyo", "language": "swh", "script": "Latn"} for n in range(3)
    ]
    jsonl(folder / "aya_human_annotated" / "test.jsonl", rows)
    return folder


def polywrite(folder: Path) -> Path:
    rows = [
        {
            "category": "email", "name": f"e{n}", "prompt_en": f"Write {n}", "lang_script": "swh_Latn", "uuid": f"u{n}",
            "prompt_translated": f"Andika {n}", "prompt_backtranslated": f"Write {n}", "bleu": 100.0, "chrf++": 99.5,
        }
        for n in range(3)
    ]  # fmt: skip
    jsonl(folder / "swh_Latn.jsonl", rows)
    return folder


def texts(folder: Path) -> Path:
    for code in ("eng_Latn", "swh_Latn"):
        write(folder / f"{code}.txt", "".join(f"text {n} {code}\n" for n in range(3)))
    return folder


EVERYTHING = {
    "sib200": sib200, "taxi1500": taxi1500, "flores200-text": flores200, "xlsum": xlsum,
    "massivesumm-long": massivesumm, "massivesumm-short": massivesumm, "aya": aya, "polywrite": polywrite,
    "glot500c": texts, "pbc": texts,
}  # fmt: skip
"""A benchmark of each prepared data to what writes its upstream files."""
