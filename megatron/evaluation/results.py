"""The results of a model: one line for each benchmark and language, kept as soon as it is known."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from megatron.evaluation.json_lines import FileError, read_json_lines
from megatron.utils.files import fingerprint_bytes, write_bytes

LOSSY = "lossy"
"""Flag of a language of which the tokenizer cannot write every text: what it leaves out costs the model nothing."""

SCORED_BY = ("main_metric", "metrics", "empty_outputs")
"""Settings that decide what items come to; all others decide the items."""

_SCORES, _MODEL, _ITEMS = "scores.jsonl", "model.json", "items"


class ResultsError(ValueError):
    """A folder of results cannot be read, or belongs to another model."""


class IncompleteError(ValueError):
    """Some benchmarks could not be scored in some languages; the others have been.

    Args:
        problems: one for each.
        scores: of the others.
    """

    def __init__(self, problems: Sequence[str], scores: Sequence[Score]) -> None:
        super().__init__("\n".join(problems))
        self.problems, self.scores = list(problems), list(scores)


@dataclasses.dataclass(frozen=True)
class Score:
    """How well a model does one benchmark in one language.

    Attributes:
        benchmark: its name, such as ``sib200`` or ``flores200-from-eng``.
        language: corpus code, ``xxx_Ssss``, or of a pair ``xxx_Ssss-yyy_Ssss``.
        metrics: values by name; not a number where there is none.
        main: the metric that stands for the benchmark.
        higher_is_better: whether larger values of it are better.
        items: how many texts or questions the values are of.
        flags: what a reader must know of this language, such as ``lossy``: the tokenizer cannot write all of its text.
        settings: everything that decides the values, the hash of the data included. A score is made again when they
            change.
        seconds: that it took, the model's answers included.
        items_hash: of the file of its items; empty where that is not known.
    """

    benchmark: str
    language: str
    metrics: Mapping[str, float]
    main: str
    higher_is_better: bool
    items: int
    flags: tuple[str, ...] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    items_hash: str = ""

    @property
    def value(self) -> float:
        """Value of the main metric."""
        return self.metrics[self.main]


class ResultsFolder:
    """The results of one model in a folder: ``scores.jsonl``, ``model.json``, and the texts behind every score.

    ``scores.jsonl`` is only ever appended to; a process that is killed loses the line that it was writing at worst. Of
    several lines with the same benchmark and language the last one counts.

    Args:
        folder: made when missing.
        model: what tells this model from others: the hash of its weights or its step, its tokenizer; and its name,
            which may change.

    Attributes:
        folder: as given.

    Raises:
        ResultsError: the folder holds the results of another model.
    """

    def __init__(self, folder: Path, *, model: Mapping[str, Any]) -> None:
        self.folder = folder
        path = folder / _MODEL
        if path.exists():
            there = read_model(folder)
            differing = sorted(key for key in {*there, *model} - {"name"} if there.get(key) != model.get(key))
            if differing:
                told = ", ".join(f"{key} was {there.get(key)!r}, now {model.get(key)!r}" for key in differing)
                raise ResultsError(f"{folder} holds the results of another model ({told}); give another folder")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(path, orjson.dumps(dict(model), option=orjson.OPT_INDENT_2))
        self._scores = {(score.benchmark, score.language): score for score in read_scores(folder)}

    def has(self, benchmark: str, language: str, settings: Mapping[str, Any]) -> bool:
        """Return whether a score with these settings is there."""
        score = self._scores.get((benchmark, language))
        return score is not None and _plain(score.settings) == _plain(settings)

    def of_same_items(self, benchmark: str, language: str, settings: Mapping[str, Any]) -> Score | None:
        """Return a score whose items the same settings decide, whatever they are scored by; None if there is none."""
        score = self._scores.get((benchmark, language))
        return score if score is not None and items_settings(score.settings) == items_settings(settings) else None

    def items(self, score: Score) -> list[dict[str, Any]]:
        """Return the items that a score is made of.

        Raises:
            ResultsError: they are gone, torn, incomplete, or those of another score.
        """
        path = items_path(self.folder, score.benchmark, score.language)
        whose = f"of {score.benchmark} in {score.language}"
        if not score.items_hash:
            raise ResultsError(f"the score {whose} does not say which items it is made of; evaluate the model again")
        try:
            found, fingerprint = read_json_lines(path, dict)
        except FileError as error:
            raise ResultsError(f"the items {whose} cannot be used: {error}; evaluate the model again") from None
        if len(found) != score.items:
            raise ResultsError(f"{path} has {len(found)} items, its score has {score.items}; evaluate the model again")
        if fingerprint != score.items_hash:
            raise ResultsError(f"{path} is not the file that its score is made of; evaluate the model again")
        return found

    def add(self, score: Score, items: Iterable[Mapping[str, Any]]) -> Score:
        """Keep a score and the items that it is made of; return the score with their hash.

        Args:
            score: replaces an earlier one of the same benchmark and language.
            items: one record for each text or question: what was asked, what came out, what it counts.
        """
        path = items_path(self.folder, score.benchmark, score.language)
        how = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
        data = b"".join(orjson.dumps(item, option=how) for item in items)
        score = dataclasses.replace(score, items_hash=fingerprint_bytes(data))
        write_bytes(path, data)
        scores = self.folder / _SCORES
        torn = scores.exists() and not scores.read_bytes().endswith(b"\n") and scores.stat().st_size > 0
        with scores.open("ab", buffering=0) as file:
            file.write((b"\n" if torn else b"") + orjson.dumps(_to_line(score), option=orjson.OPT_APPEND_NEWLINE))
            os.fsync(file.fileno())
        self._scores[score.benchmark, score.language] = score
        return score

    def scores(self) -> list[Score]:
        """Return all scores, sorted by benchmark and language."""
        return [self._scores[key] for key in sorted(self._scores)]


def items_settings(settings: Mapping[str, Any]) -> Any:
    """Return those settings that decide the items of a score, as JSON gives them back."""
    return {name: value for name, value in _plain(settings).items() if name not in SCORED_BY}


def read_model(folder: Path) -> dict[str, Any]:
    """Return what tells the model of these results from others.

    Raises:
        ResultsError: the folder holds no results.
    """
    try:
        found = orjson.loads((folder / _MODEL).read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise ResultsError(f"{folder} holds no results: {_MODEL} cannot be read ({error})") from None
    if not isinstance(found, dict):
        raise ResultsError(f"{folder / _MODEL} is not an object")
    return found


def read_scores(folder: Path) -> list[Score]:
    """Return the last score of every benchmark and language, sorted; a line that a killed process tore is passed over.

    Raises:
        ResultsError: a line is whole, and no score.
    """
    path = folder / _SCORES
    if not path.exists():
        return []
    found = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        try:
            score = _from_line(record)
        except (KeyError, TypeError, ValueError) as error:
            raise ResultsError(f"{path}, line {number}: no score ({error!r})") from None
        found[score.benchmark, score.language] = score
    return [found[key] for key in sorted(found)]


def items_path(folder: Path, benchmark: str, language: str) -> Path:
    """Return the file of a score's items, one JSON object a line."""
    return folder / _ITEMS / benchmark / f"{language}.jsonl"


def read_items(folder: Path, benchmark: str, language: str) -> list[dict[str, Any]]:
    """Return the items of a score, whatever they are; none where they have been removed.

    Raises:
        FileError: they cannot be read.
    """
    path = items_path(folder, benchmark, language)
    return read_json_lines(path, dict)[0] if path.exists() else []


def _to_line(score: Score) -> dict[str, Any]:
    # JSON has no numbers that are none.
    metrics = {name: value if math.isfinite(value) else None for name, value in score.metrics.items()}
    return {**dataclasses.asdict(score), "metrics": metrics}


def _from_line(record: Mapping[str, Any]) -> Score:
    names: Sequence[str] = [field.name for field in dataclasses.fields(Score)]
    values = {name: record[name] for name in names if name in record}
    values["metrics"] = {name: math.nan if value is None else float(value) for name, value in record["metrics"].items()}
    score = Score(**{**values, "flags": tuple(record.get("flags", ()))})
    if score.main not in score.metrics:
        raise ValueError(f"metrics have no {score.main!r}")
    return score


def _plain(settings: Mapping[str, Any]) -> Any:
    """Return settings as JSON gives them back."""
    return orjson.loads(orjson.dumps(dict(settings)))
