"""What a metric is computed of, and what all metrics share."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from megatron.utils.log import get_logger

logger = get_logger(__name__)

_LANGUAGE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
_SHOWN_CHARACTERS = 60


class MetricError(ValueError):
    """A metric has no such name, cannot be computed of what was given, or lacks what it needs."""


@dataclass(frozen=True)
class MetricSettings:
    """What some metrics need besides texts.

    Attributes:
        spbleu_model: the SentencePiece model of FLORES-200; without it spBLEU is not a number.
        bertscore_model: folder of an encoder in Hugging Face's format; without it BERTScore is not a number.
        bertscore_layers: whose hidden states are compared; by default :func:`bertscore.default_layers`.
        self_bleu_texts: most texts that Self-BLEU looks at; of more, a random choice that depends on ``seed`` alone.
        seed: of random choices.
    """

    spbleu_model: Path | None = None
    bertscore_model: Path | None = None
    bertscore_layers: int | None = None
    self_bleu_texts: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.self_bleu_texts < 2:
            raise MetricError(f"self_bleu_texts must be at least 2, not {self.self_bleu_texts}")
        if self.bertscore_layers is not None and self.bertscore_layers < 1:
            raise MetricError(f"bertscore_layers must be at least 1, not {self.bertscore_layers}")


@dataclass(frozen=True)
class Texts:
    """What a metric is computed of.

    Attributes:
        outputs: one for each item; empty ones count as what they are.
        references: of each item its right answers, ``[]`` where there are none.
        language: corpus code of the outputs, ``xxx_Ssss``.
        settings: what some metrics need besides.

    Raises:
        MetricError: the lists differ in length, or the language is no code.
    """

    outputs: Sequence[str]
    references: Sequence[Sequence[str]]
    language: str
    settings: MetricSettings = field(default_factory=MetricSettings)

    def __post_init__(self) -> None:
        problems = []
        if len(self.outputs) != len(self.references):
            problems.append(
                f"{len(self.outputs)} outputs do not match {len(self.references)} lists of references: "
                "give one list for each output, [] where there is no right answer"
            )
        if isinstance(self.outputs, str):
            problems.append("outputs must be a list of texts, not one text")
        bare = next((answers for answers in self.references if isinstance(answers, str)), None)
        if bare is not None:
            problems.append(f"the references {_short(bare)} must be a list of texts, not one text")
        if not _LANGUAGE.fullmatch(self.language):
            problems.append(f"language {_short(self.language)} is not like swh_Latn")
        if problems:
            raise MetricError("; ".join(problems))

    @property
    def script(self) -> str:
        """Script of the outputs, ISO 15924."""
        return self.language[4:]


def answered(texts: Texts) -> list[tuple[str, list[str]]]:
    """Return output and right answers of every item that has any; how many have none is logged."""
    found = [
        (output, list(answers)) for output, answers in zip(texts.outputs, texts.references, strict=True) if answers
    ]
    if 0 < len(found) < len(texts.outputs):
        warn_once(
            f"{texts.language}: {len(texts.outputs) - len(found)} of {len(texts.outputs)} items have no right answer; "
            "metrics that compare with one leave them out"
        )
    return found


@functools.lru_cache(maxsize=4096)
def warn_once(message: str) -> None:
    """Log a warning, the first time that it is given in this process."""
    logger.warning("%s", message)


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}...")
