"""A benchmark of programming problems: a model writes programs, and they are run."""

from __future__ import annotations

import dataclasses
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from megatron.evaluation.code.judge import REFUSED, Judgement, Sample, judge
from megatron.evaluation.code.languages import CodeError
from megatron.evaluation.code.problems import CodeProblem, read_problems
from megatron.evaluation.code.sandbox import Limits
from megatron.evaluation.keeper import Keeper
from megatron.evaluation.language_model import LanguageModel
from megatron.evaluation.results import ResultsFolder, Score
from megatron.generate.options import GenerationOptions
from megatron.generate.sampling import Sampling
from megatron.parallel.process import Peers


@dataclasses.dataclass(frozen=True)
class CodeOptions:
    """How programs are written and judged; by default as MultiPL-E does for pass@1.

    Attributes:
        num_samples: of each problem; pass@10 needs ten.
        sampling: how each token is chosen.
        maximum_tokens: most new tokens of a program.
        seed: of random choices.
        limit: at most so many problems; for trials only.
        limits: what a program may use.
        workers: programs that run at a time; half of the processors by default.
    """

    num_samples: int = 20
    sampling: Sampling = dataclasses.field(default_factory=lambda: Sampling(temperature=0.2, top_p=0.95))
    maximum_tokens: int = 512
    seed: int = 0
    limit: int | None = None
    limits: Limits = dataclasses.field(default_factory=Limits)
    workers: int | None = None

    def __post_init__(self) -> None:
        wrong = [
            f"{name} = {value}; it must be 1 or more"
            for name in ("num_samples", "maximum_tokens", "limit", "workers")
            if (value := getattr(self, name)) is not None and value < 1
        ]
        if self.num_samples > 1 and self.sampling.temperature == 0:
            wrong.append(
                f"num_samples = {self.num_samples} with temperature 0 gives the same program each time; raise the "
                "temperature or ask for 1"
            )
        if wrong:
            raise CodeError("\n".join(wrong))


def run_code(
    model: LanguageModel,
    *,
    name: str,
    problems: Path,
    allow_code_execution: bool,
    language: str = "eng_Latn",
    results: ResultsFolder | None = None,
    options: CodeOptions | None = None,
    peers: Peers | None = None,
) -> Score | None:
    """Let a model write programs, and run them against their tests.

    Every process of a layout calls this with the same arguments but ``results``. Programs run where the main process
    runs; the others wait for it, no longer than ``peers`` may.

    Args:
        model: writes.
        name: of the benchmark, such as ``humaneval`` or ``multipl-e-js``.
        problems: see :func:`megatron.evaluation.code.problems.read_problems`.
        allow_code_execution: the user's word that programs may be run here.
        language: corpus code of the language that the problems are described in.
        results: keeps the score and every program; what it already has with the same settings is not done again. None
            in processes that are not the main one, or where nothing is to be kept.
        options: how programs are written and judged.
        peers: the processes of the layout, so that the main one can tell the others what is done already.

    Returns:
        The score; None in processes that are not the main one.

    Raises:
        CodeError: programs may not or cannot be run; the file of problems cannot be used.
    """
    if not allow_code_execution:
        raise CodeError(REFUSED)
    options = options or CodeOptions()
    read = read_problems(problems, limit=options.limit)
    settings = _settings(options, read.fingerprint, read.languages)
    keeper = Keeper(results, peers or Peers())
    (earlier,) = keeper.there([(name, language, settings)])
    if earlier is not None:
        return next(iter(earlier), None)
    started = time.monotonic()
    samples = write_samples(model, read.problems, options)

    def made() -> tuple[Score, Iterator[dict[str, Any]]]:
        judged = judge(
            read.problems, samples, allow_code_execution=True, limits=options.limits, workers=options.workers
        )
        seconds = time.monotonic() - started
        items = len(read.problems)
        score = _score(judged, name=name, language=language, items=items, settings=settings, seconds=seconds)
        return score, _items(samples, judged)

    return next(iter(keeper.keep(made)), None)


def _score(
    judged: Judgement, *, name: str, language: str, items: int, settings: dict[str, Any], seconds: float
) -> Score:
    apart = {"network": "network-reachable", "files": "files-writable", "processes": "processes-reachable"}
    return Score(
        benchmark=name,
        language=language,
        metrics=judged.metrics,
        main="pass@1",
        higher_is_better=True,
        items=items,
        flags=tuple(flag for key, flag in apart.items() if not judged.isolation[key]),
        settings=settings,
        seconds=round(seconds, 3),
    )


def _items(samples: Sequence[Sample], judged: Judgement) -> Iterator[dict[str, Any]]:
    for sample, verdict in zip(samples, judged.verdicts, strict=True):
        yield {
            "problem": sample.problem, "completion": sample.completion, "outcome": verdict.outcome,
            "output": verdict.output, "seconds": round(verdict.seconds, 3),
        }  # fmt: skip


def write_samples(model: LanguageModel, problems: Sequence[CodeProblem], options: CodeOptions) -> list[Sample]:
    """Let a model complete every problem ``num_samples`` times; in the order of the problems.

    Raises:
        CodeError: a prompt is too long for the model.
    """
    prompts = {problem.id: model.tokenizer.encode(problem.prompt) for problem in problems}
    room = model.max_tokens - 1 - options.maximum_tokens
    too_long = [id for id, prompt in prompts.items() if len(prompt) > room]
    if too_long:
        raise CodeError(
            f"{len(too_long)} prompts, such as that of {too_long[0]!r}, and {options.maximum_tokens} new tokens are "
            f"more than the {model.max_tokens} tokens that the model takes; lower maximum_tokens"
        )
    # One call for all problems that end alike: a model writes many texts at a time.
    groups: dict[tuple[str, ...], list[CodeProblem]] = defaultdict(list)
    for problem in problems:
        groups[problem.stop].append(problem)
    written: dict[str, list[Sample]] = {}
    for stop, group in groups.items():
        asked = [prompts[problem.id] for problem in group for _ in range(options.num_samples)]
        how = GenerationOptions(options.maximum_tokens, stop, options.sampling, options.seed)
        texts = iter(model.write(asked, how))
        for problem in group:
            written[problem.id] = [Sample(problem.id, next(texts).text) for _ in range(options.num_samples)]
    return [sample for problem in problems for sample in written[problem.id]]


def _settings(options: CodeOptions, fingerprint: str, languages: list[str]) -> dict[str, Any]:
    how = dataclasses.asdict(options)
    del how["workers"]
    return {**how, "problems": fingerprint, "programming_languages": languages}
