"""The benchmarks that lm-evaluation-harness does here: its tasks, our languages, local files, and how many shots."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from megatron.evaluation.harness import languages

TEXT = "text"
"""A string that is not empty."""

OPTIONAL_TEXT = "optional text"
"""A string, or nothing."""

GAP = "text with a gap"
"""A string with an underscore in it, where something is left out."""

NUMBER = "number"
"""A whole number."""

Rule = str | tuple[str | int, ...]
"""What a field holds: one of the above, or one of these values."""


@dataclasses.dataclass(frozen=True)
class HarnessBenchmark:
    """A family of tasks of lm-evaluation-harness, one for each language.

    Attributes:
        task: name of a task, with the language in place of ``{}``.
        package: the folder of lm-evaluation-harness that defines them.
        data: the folder of the benchmark's files.
        languages: corpus code to lm-evaluation-harness's name of the language.
        test: its split that is evaluated, and our file of it.
        shots: its split that the shots are drawn from, and our file of it.
        num_fewshot: how many shots by default. Where no number is known that published results were made with, it is
            lm-evaluation-harness's own: none.
        fields: of a line of the files, and what each holds.
        main: the metric that stands for the benchmark.
    """

    task: str
    package: str
    data: str
    languages: Mapping[str, str]
    test: tuple[str, str]
    shots: tuple[str, str]
    num_fewshot: int
    fields: Mapping[str, Rule]
    main: str = "acc"


_MGSM_FIELDS = {"question": TEXT, "answer": OPTIONAL_TEXT, "answer_number": NUMBER}


def _mgsm(kind: str) -> HarnessBenchmark:
    return HarnessBenchmark(
        task=f"mgsm_{kind}_{{}}",
        package="mgsm",
        data="mgsm",
        languages=languages.MGSM,
        test=("test", "test"),
        shots=("train", "train"),
        num_fewshot=3,
        fields=_MGSM_FIELDS,
        main="exact_match_flexible_extract",
    )


#: By the name that scores carry. Datasets: facebook/xnli, cambridgeltl/xcopa, juletxara/xstory_cloze,
#: Muennighoff/xwinograd, facebook/belebele, alexandrainst/m_arc, juletxara/mgsm.
BENCHMARKS: Mapping[str, HarnessBenchmark] = {
    "xnli": HarnessBenchmark(
        task="xnli_{}",
        package="xnli",
        data="xnli",
        languages=languages.XNLI,
        test=("validation", "dev"),  # that is what lm-evaluation-harness evaluates
        shots=("train", "train"),
        num_fewshot=0,
        fields={"premise": TEXT, "hypothesis": TEXT, "label": (0, 1, 2)},
    ),
    "xcopa": HarnessBenchmark(
        task="xcopa_{}",
        package="xcopa",
        data="xcopa",
        languages=languages.XCOPA,
        test=("test", "test"),
        shots=("validation", "dev"),
        num_fewshot=0,
        fields={"premise": TEXT, "choice1": TEXT, "choice2": TEXT, "question": ("cause", "effect"), "label": (0, 1)},
    ),
    "xstorycloze": HarnessBenchmark(
        task="xstorycloze_{}",
        package="xstorycloze",
        data="xstorycloze",
        languages=languages.XSTORYCLOZE,
        test=("eval", "test"),
        shots=("train", "train"),
        num_fewshot=0,
        fields={
            **{f"input_sentence_{number}": TEXT for number in range(1, 5)},
            "sentence_quiz1": TEXT,
            "sentence_quiz2": TEXT,
            "answer_right_ending": (1, 2),
        },
    ),
    "xwinograd": HarnessBenchmark(
        task="xwinograd_{}",
        package="xwinograd",
        data="xwinograd",
        languages=languages.XWINOGRAD,
        test=("test", "test"),
        shots=("test", "test"),
        num_fewshot=0,
        fields={"sentence": GAP, "option1": TEXT, "option2": TEXT, "answer": ("1", "2")},
    ),
    "belebele": HarnessBenchmark(
        task="belebele_{}",
        package="belebele",
        data="belebele",
        languages=languages.BELEBELE,
        test=("test", "test"),
        shots=("test", "test"),
        num_fewshot=0,
        fields={
            "flores_passage": TEXT,
            "question": TEXT,
            **{f"mc_answer{number}": TEXT for number in range(1, 5)},
            "correct_answer_num": ("1", "2", "3", "4"),
        },
    ),
    "arc": HarnessBenchmark(
        task="arc_{}",
        package="okapi/arc_multilingual",
        data="arc",
        languages=languages.ARC,
        test=("test", "test"),
        shots=("train", "train"),
        num_fewshot=5,
        fields={
            "id": TEXT,
            "instruction": TEXT,
            **{f"option_{letter}": OPTIONAL_TEXT for letter in "abcde"},
            "answer": ("A", "B", "C", "D", "E"),
        },
        main="acc_norm",
    ),
    "mgsm-direct": _mgsm("direct"),
    "mgsm-cot": _mgsm("native_cot"),
    "mgsm-cot-eng": _mgsm("en_cot"),
}
