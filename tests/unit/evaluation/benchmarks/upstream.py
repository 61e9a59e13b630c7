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
