"""Judges programs: runs each against its tests, counts how they end, and estimates pass@k."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from megatron.evaluation.code.languages import CodeError, language_of
from megatron.evaluation.code.problems import CodeProblem, read_objects, text_field
from megatron.evaluation.code.sandbox import OUTCOMES, PASSED, Limits, Verdict, check_language, run_program
from megatron.evaluation.metrics.pass_at_k import pass_at_k
from megatron.utils.log import progress

KS = (1, 10, 100)

REFUSED = (
    "judging programs means running what a model wrote; their processes are confined, but nothing short of a virtual "
    "machine is safe from hostile code. Give --allow-code-execution if you accept that on this machine"
)


class Sample(NamedTuple):
    """One completion of a problem.

    Attributes:
        problem: its id.
        completion: what the model wrote after the prompt.
    """

    problem: str
    completion: str


@dataclasses.dataclass(frozen=True)
class Judgement:
    """How the samples of some problems did.

    Attributes:
        verdicts: of each sample, in their order.
        metrics: ``pass@1``, ``pass@10``, ``pass@100`` as far as there are so many samples of every problem, means over
            problems; and how many samples ended in each way.
        isolation: what the programs were kept apart from.
    """

    verdicts: list[Verdict]
    metrics: dict[str, float]
    isolation: dict[str, Any]


def judge(
    problems: Sequence[CodeProblem],
    samples: Sequence[Sample],
    *,
    allow_code_execution: bool,
    limits: Limits | None = None,
    workers: int | None = None,
) -> Judgement:
    """Run every sample against the tests of its problem; equal programs are run once.

    Args:
        problems: every one of them needs samples, all of them equally many.
        samples: in any order.
        allow_code_execution: the user's word that programs may be run here.
        limits: of each program.
        workers: programs that run at a time; half of the processors that this process may use by default.

    Raises:
        CodeError: it is not allowed; samples are missing or of no problem; a language cannot be run here.
    """
    if not allow_code_execution:
        raise CodeError(REFUSED)
    by_id = {problem.id: problem for problem in problems}
    per_problem = _check_counts(by_id, samples)
    isolation = check_languages(sorted({problem.language for problem in problems}), limits=limits)
    programs = [(by_id[id].language, by_id[id].program(completion)) for id, completion in samples]
    unlike = list(dict.fromkeys(programs))
    with ThreadPoolExecutor(workers or max(1, len(os.sched_getaffinity(0)) // 2)) as pool:
        run = pool.map(lambda program: run_program(program[1], language_of(program[0]), limits), unlike)
        found = list(progress(run, description="running programs", total=len(unlike), unit="program"))
    verdict_of = dict(zip(unlike, found, strict=True))
    verdicts = [verdict_of[program] for program in programs]
    return Judgement(verdicts, _metrics(by_id, samples, verdicts, per_problem), isolation)


def check_languages(names: Sequence[str], *, limits: Limits | None = None) -> dict[str, Any]:
    """Run a right program in each language, and return what programs are kept from.

    Raises:
        CodeError: a language is not known, or its programs cannot be run here.
    """
    isolation: dict[str, Any] = {}
    for name in names:
        isolation = dict(check_language(name, language_of(name), limits).isolation)
    return isolation


def _check_counts(problems: dict[str, CodeProblem], samples: Sequence[Sample]) -> int:
    counts = Counter(sample.problem for sample in samples)
    unknown = sorted(set(counts) - set(problems))
    if unknown:
        raise CodeError(f"{len(unknown)} problems that samples are of are not there, such as {unknown[0]!r}")
    per_problem = {counts[id] for id in problems}
    if len(per_problem) != 1 or 0 in per_problem:
        fewest = min(problems, key=lambda id: counts[id])
        raise CodeError(
            f"problems have {min(per_problem)} to {max(per_problem)} samples ({fewest!r} has {counts[fewest]}); each "
            "must have equally many, and at least one"
        )
    return per_problem.pop()


def _metrics(
    problems: dict[str, CodeProblem], samples: Sequence[Sample], verdicts: Sequence[Verdict], per_problem: int
) -> dict[str, float]:
    correct: dict[str, int] = defaultdict(int)
    for sample, verdict in zip(samples, verdicts, strict=True):
        correct[sample.problem] += verdict.outcome == PASSED
    metrics = {
        f"pass@{k}": sum(pass_at_k(per_problem, correct[id], k) for id in problems) / len(problems)
        for k in KS
        if k <= per_problem
    }
    ended = Counter(verdict.outcome for verdict in verdicts)
    return {**metrics, **{outcome.replace(" ", "_"): float(ended[outcome]) for outcome in OUTCOMES}}


def read_samples(path: Path) -> list[Sample]:
    """Read samples: one object a line, with ``task_id`` (or ``problem``, ``name``) and ``completion``.

    Raises:
        CodeError: the file cannot be read, or lines are no samples; all of them together.
    """
    return read_objects(path, _sample, what="samples")[0]


def _sample(record: dict[str, Any]) -> Sample:
    return Sample(text_field(record, "task_id", "problem", "name"), text_field(record, "completion"))
