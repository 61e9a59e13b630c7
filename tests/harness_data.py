"""Files of the benchmarks of lm-evaluation-harness, a few lines each, in every benchmark's own fields."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

_TEXTS = {
    "swh": "mtoto anasoma kitabu nyumbani leo asubuhi mama anapika chakula jikoni baba anafanya kazi shambani",
    "eng": "the child reads a book at home this morning mother cooks food in the kitchen father works outside",
    "zho": "孩子 今天 早上 在家 看书 妈妈 在 厨房 做饭 爸爸 在 田里 工作 天气 很 好",
    "spa": "el niño lee un libro en casa esta mañana madre cocina comida en la cocina padre trabaja fuera",
}
WORDS = {language: text.split() for language, text in _TEXTS.items()}


def sentence(language: str, number: int, length: int = 6) -> str:
    words = WORDS[language[:3]]
    chosen = [words[(number * 5 + place * (3 + number % 4)) % len(words)] for place in range(length)]
    return " ".join(chosen).capitalize() + "."


def xnli(language: str, number: int) -> dict[str, Any]:
    return {"premise": sentence(language, number), "hypothesis": sentence(language, number + 7, 4), "label": number % 3}


def xcopa(language: str, number: int) -> dict[str, Any]:
    return {
        "premise": sentence(language, number),
        "choice1": sentence(language, number + 2, 4),
        "choice2": sentence(language, number + 3, 5),
        "question": "cause" if number % 2 else "effect",
        "label": number % 2,
        "idx": number,
        "changed": False,
    }


def xstorycloze(language: str, number: int) -> dict[str, Any]:
    return {
        "story_id": f"story {number}",
        **{f"input_sentence_{place}": sentence(language, number + place) for place in range(1, 5)},
        "sentence_quiz1": sentence(language, number + 5, 5),
        "sentence_quiz2": sentence(language, number + 6, 7),
        "answer_right_ending": 1 + number % 2,
    }


def xwinograd(language: str, number: int) -> dict[str, Any]:
    return {
        "sentence": f"{sentence(language, number)[:-1]} _ {sentence(language, number + 1, 3)}",
        "option1": sentence(language, number + 2, 1)[:-1],
        "option2": sentence(language, number + 3, 1)[:-1],
        "answer": str(1 + number % 2),
    }


def belebele(language: str, number: int) -> dict[str, Any]:
    return {
        "link": "https://example.org",
        "question_number": 1,
        "flores_passage": sentence(language, number, 20),
        "question": f" {sentence(language, number, 5)[:-1]}? ",
        **{f"mc_answer{place}": sentence(language, number + place, 3) for place in range(1, 5)},
        "correct_answer_num": str(1 + number % 4),
        "dialect": language,
        "ds": "2023-05-03",
    }


def arc(language: str, number: int) -> dict[str, Any]:
    return {
        "id": f"ARC/{number}",
        "instruction": f"{sentence(language, number)} [title] [brackets]",
        **{f"option_{letter}": sentence(language, number + place, 3) for place, letter in enumerate("abcd")},
        "option_e": None if number % 2 else sentence(language, number + 9, 4),
        "answer": "ABCD"[number % 4],
    }


def mgsm(language: str, number: int, *, worked: bool = False) -> dict[str, Any]:
    labels = {"eng": "Question: ", "swh": "Swali: ", "zho": "问题：", "spa": "Pregunta: "}
    steps = {
        "eng": "Step-by-Step Answer: ",
        "swh": "Jibu la Hatua kwa Hatua: ",
        "zho": "逐步解答：",
        "spa": "Respuesta paso a paso: ",
    }
    asked = f"{sentence(language, number)} {number} + {number + 1} ?"
    return {
        "question": labels[language[:3]] + asked if worked else asked,
        "answer": f"{steps[language[:3]]}{number} + {number + 1} = {2 * number + 1}." if worked else None,
        "answer_number": 2 * number + 1,
        "equation_solution": f"{number} + {number + 1}" if worked else None,
    }


ROWS: dict[str, Callable[[str, int], dict[str, Any]]] = {
    "xnli": xnli, "xcopa": xcopa, "xstorycloze": xstorycloze, "xwinograd": xwinograd, "belebele": belebele, "arc": arc,
    "mgsm": mgsm,
}  # fmt: skip
#: Two languages of each.
LANGUAGES = {
    "xnli": ("swh_Latn", "zho_Hans"), "xcopa": ("swh_Latn", "zho_Hans"), "xstorycloze": ("swh_Latn", "eng_Latn"),
    "xwinograd": ("eng_Latn", "zho_Hans"), "belebele": ("swh_Latn", "zho_Hans"), "arc": ("spa_Latn", "zho_Hans"),
    "mgsm": ("swh_Latn", "zho_Hans"),
}  # fmt: skip


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def write_benchmarks(data: Path, *, count: int = 4) -> Path:
    """Write all benchmarks in two languages each, ``count`` questions in ``test`` and ``dev``, six in ``train``."""
    for name, languages in LANGUAGES.items():
        for language in languages:
            folder = data / name / language
            for split, first, number in (("test", 0, count), ("dev", 10, count), ("train", 20, 6)):
                more = {"worked": True} if name == "mgsm" and split == "train" else {}
                rows = [ROWS[name](language, first + row, **more) for row in range(number)]
                write_lines(folder / f"{split}.jsonl", rows)
    return data


def all_text() -> list[str]:
    """Return text of every language, to train a tokenizer on."""
    questions = ["Swali: Jibu la Hatua kwa Hatua: 问题： 逐步解答： Pregunta: Question: Answer: 0123456789 + ="]
    return [sentence(language, number, 30) for language in WORDS for number in range(20)] + questions
