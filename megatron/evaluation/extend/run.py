"""Gives a model rows for the new tokens of an extended tokenizer, and compares it with what it was."""

from __future__ import annotations

import dataclasses
import gc
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from megatron.checkpoint.extend.run import Operation, Surgery, planned
from megatron.checkpoint.folder import open_folder
from megatron.checkpoint.unfinished import WrongResultError
from megatron.config.layout import Layout
from megatron.evaluation.engine_model import open_engine_model
from megatron.evaluation.extend.compare import (
    JSON,
    TSV,
    LanguageChange,
    broken_pivots,
    compared,
    scant_pivots,
    score_languages,
    table_lines,
    write_tables,
)
from megatron.evaluation.extend.language_texts import LanguageTexts, read_language_texts
from megatron.evaluation.report.scores.tiers import Tiers, read_tiers
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.process import Peers, World

PIVOTS = ("eng_Latn",)

_LONGEST_CHARACTER = 4  # bytes in UTF-8


class PivotError(WrongResultError):
    """The vocabulary has cost a language more than it may; nothing is left of the new model but its numbers."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """What the model before and the model after are compared on.

    Attributes:
        texts: folder, as :func:`megatron.evaluation.extend.language_texts.read_language_texts` takes it.
        languages: corpus codes, or languages without a script; None for all. Pivots are always among them.
        text_bytes: most text of a language.
        pivots: corpus codes whose bits per byte may rise by ``max_pivot_change`` percent and no more.
        max_pivot_change: percent.
        tiers: a table of tiers or the record of a run, for the means.
        batch_tokens: most tokens in one forward pass.
    """

    texts: Path
    languages: Sequence[str] | None = None
    text_bytes: int = 100_000
    pivots: Sequence[str] = PIVOTS
    max_pivot_change: float = 1.0
    tiers: Path | None = None
    batch_tokens: int = 8192


def extend_model(surgery: Surgery, trial: Trial | None = None) -> Iterator[str]:
    """Write a model with rows for new tokens, and yield what there is to say.

    Args:
        surgery: which model, which tokenizer, how.
        trial: texts on which the model is compared with what it was; the tables are also written into its folder. One
            model at a time is in memory. None to compare nothing, and to need no more memory than some rows take.

    Raises:
        PivotError: a pivot has lost more than it may; nothing is left but the tables, beside the output.
        ValueError: it cannot be done; all that is wrong is told at once, and nothing has been written.
        OSError: something cannot be read or written.
    """
    problems: list[str] = []
    texts: LanguageTexts | None = None
    tiers: Tiers | None = None
    try:
        texts, tiers = _inputs(trial) if trial else (None, None)
    except (ValueError, OSError) as error:
        problems.append(str(error))
    try:
        operation = planned(surgery)
    except (ValueError, OSError) as error:
        problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
    yield from operation.notes
    if trial is None or texts is None:
        operation.write(lambda folder: None)
        yield "no texts were scored before and after: --texts"
        yield _done(surgery)
        return
    yield from texts.notes
    before = _scores(str(operation.source), texts, trial)  # that checkpoint, whatever a run writes by now
    changes: list[LanguageChange] = []

    def check(folder: Path) -> None:
        try:
            after = _scores(str(folder), texts, trial)
        except ValueError as error:
            raise PivotError(f"the new model cannot be scored: {error}. Nothing is left of it") from error
        changes.extend(compared(before, after, tiers=tiers))
        about = _about(surgery, trial)
        if broken := list(broken_pivots(changes, pivots=trial.pivots, most_percent=trial.max_pivot_change)):
            write_tables(changes, surgery.output.parent, about=about, prefix=f"{surgery.output.name}.")
            raise PivotError("\n".join([*broken, _advice(operation, surgery)]))
        write_tables(changes, folder, about=about)

    try:
        operation.write(check)
    except PivotError:
        if changes:
            yield from _told(changes, trial, tiers)
        raise
    yield from _told(changes, trial, tiers)
    yield _done(surgery)


def _told(changes: Sequence[LanguageChange], trial: Trial, tiers: Tiers | None) -> Iterator[str]:
    yield from table_lines(changes, tiers=tiers.order if tiers else ())
    yield from scant_pivots(changes, pivots=trial.pivots)


def _advice(operation: Operation, surgery: Surgery) -> str:
    """Say what can be done about a pivot that has lost too much."""
    option = "--init" if operation.source.architecture.tie_word_embeddings else "--init-output"
    ways = ["fewer new tokens", "a larger --max-pivot-change"]
    if (surgery.init_output or surgery.init) != "average":
        ways.insert(0, f"{option} average, with which pivots mostly change least")
    return (
        f"Nothing is left of the new model but its numbers, in {surgery.output}.{TSV} and {surgery.output}.{JSON}. "
        f"Try {', or '.join(ways)}"
    )


def _inputs(trial: Trial) -> tuple[LanguageTexts, Tiers | None]:
    problems = []
    if not (math.isfinite(trial.max_pivot_change) and trial.max_pivot_change >= 0):
        problems.append(f"--max-pivot-change {trial.max_pivot_change}: give a number of percent of at least 0")
    problems += [
        f"--{name} {value}: must be at least {least}"
        for name, value, least in (
            ("text-bytes", trial.text_bytes, _LONGEST_CHARACTER),
            ("batch-tokens", trial.batch_tokens, 1),
        )
        if value < least
    ]
    try:
        texts = read_language_texts(
            trial.texts,
            languages=trial.languages,
            always=trial.pivots,
            most_bytes=max(trial.text_bytes, _LONGEST_CHARACTER),
        )
    except (ValueError, OSError) as error:
        raise ValueError("\n".join([*problems, str(error)])) from error
    problems += [
        f"{trial.texts} has no texts of {code}, a pivot: add them, or name other languages after --pivots; "
        "--pivots with none after it sets no limit"
        for code in trial.pivots
        if code not in texts.texts
    ]
    if problems:
        raise ValueError("\n".join(problems))
    return texts, None if trial.tiers is None else read_tiers(trial.tiers)


def _scores(place: str, texts: LanguageTexts, trial: Trial) -> dict[str, dict[str, float]]:
    """Load a model in this process alone, score all texts, and let it go: in bfloat16 on a GPU, else in float32."""
    has_gpu = torch.cuda.is_available()
    world = World(rank=0, size=1, device=torch.device("cuda" if has_gpu else "cpu"))
    model = open_engine_model(
        open_folder(place),
        mesh=Mesh(Layout(), world),
        peers=Peers(),
        execution=Execution(torch.bfloat16 if has_gpu else torch.float32),
        batch_tokens=trial.batch_tokens,
    )
    found = score_languages(model, texts.texts)
    del model
    gc.collect()  # cycles would keep it beside the next one
    return found


def _about(surgery: Surgery, trial: Trial) -> dict[str, object]:
    return {
        "model": surgery.model,
        "tokenizer": str(surgery.tokenizer),
        "init": surgery.init,
        "init_output": surgery.init_output or surgery.init,
        "vocab_divisible_by": surgery.vocab_divisible_by,
        "seed": surgery.seed,
        "texts": str(trial.texts),
        "text_bytes": trial.text_bytes,
        "pivots": list(trial.pivots),
        "max_pivot_change": trial.max_pivot_change,
    }


def _done(surgery: Surgery) -> str:
    return f"{surgery.model} and {surgery.tokenizer} -> {surgery.output}"
