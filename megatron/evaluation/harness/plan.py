"""What there is to do: which benchmarks in which languages, with their files read and checked."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from megatron.evaluation.benchmarks.data import chosen_languages
from megatron.evaluation.benchmarks.manifest import MANIFEST, BenchmarkDataError, load_manifest
from megatron.evaluation.harness.benchmarks import BENCHMARKS
from megatron.evaluation.harness.installed import HarnessError
from megatron.evaluation.harness.rows import split_path
from megatron.evaluation.harness.tasks import Job, read_job
from megatron.utils.log import get_logger

logger = get_logger(__name__)

_MAX_SHOWN = 8


def plan_jobs(
    data: Path,
    *,
    tasks: Sequence[str] | None = None,
    languages: Sequence[str] | None = None,
    num_fewshot: Mapping[str, int] | None = None,
    tells: bool = True,
) -> list[Job]:
    """Read the files of all benchmarks and languages that are asked for.

    Args:
        data: the folder that holds the benchmarks.
        tasks: names of benchmarks, each of which must have been prepared; all that have been by default.
        languages: corpus codes, or languages without a script (``swh``), which stand for all of theirs; all of each
            benchmark by default. Those without files are told and left out, be it all of them.
        num_fewshot: shots by benchmark, where they are not to be the default.
        tells: whether this process tells of them.

    Raises:
        HarnessError: an unknown name; files that are missing or wrong; no file of any language, where none was asked
            for. All problems together.
    """
    shots = num_fewshot or {}
    names = list(dict.fromkeys(BENCHMARKS if tasks is None else tasks))
    problems = _wrong_names(names, shots)
    jobs: list[Job] = []
    absent = _languages_of_none(names, languages)
    for name in names:
        if name not in BENCHMARKS:
            continue
        benchmark = BENCHMARKS[name]
        if tasks is not None and not (data / benchmark.data).is_dir():
            folder = data / benchmark.data
            problems.append(f"{folder}, for {name}, is not there; make it with tools/prepare_benchmark.py")
            continue
        hashes = _hashes(data / benchmark.data, problems)
        for code in chosen_languages(list(benchmark.languages), languages)[0]:
            if not split_path(data, benchmark, code, benchmark.test[1]).exists():
                absent.append(f"{name} {code}")
                continue
            count = max(0, shots.get(name, benchmark.num_fewshot))
            job = read_job(name, code, data=data, num_fewshot=count, hashes=hashes.get(code, {}), problems=problems)
            jobs += [] if job is None else [job]
    if not jobs and not problems and languages is None:
        problems.append(f"{data} holds no files of what was asked for ({', '.join(names)}); prepare them first")
    if problems:
        raise HarnessError("\n".join(problems))
    if absent and tells:
        shown = ", ".join(absent[:_MAX_SHOWN]) + (" ..." if len(absent) > _MAX_SHOWN else "")
        level = logging.INFO if languages is None else logging.WARNING
        logger.log(level, "lm-evaluation-harness: no files of %d languages of benchmarks: %s", len(absent), shown)
    return jobs


def _hashes(folder: Path, problems: list[str]) -> dict[str, dict[str, str]]:
    """Return the SHA-256 of every file by language and split, as far as a manifest names them."""
    if not (folder / MANIFEST).exists():
        return {}
    try:
        languages = load_manifest(folder).languages
    except BenchmarkDataError as error:
        problems.append(str(error))
        return {}
    return {code: {split: file.sha256 for split, file in found.files.items()} for code, found in languages.items()}


def _languages_of_none(names: Iterable[str], languages: Sequence[str] | None) -> list[str]:
    had = dict.fromkeys(code for name in names if name in BENCHMARKS for code in BENCHMARKS[name].languages)
    return [f"{code} (in none of them)" for code in chosen_languages(list(had), languages)[1]]


def _wrong_names(names: Iterable[str], shots: Mapping[str, int]) -> list[str]:
    known = ", ".join(BENCHMARKS)
    return [
        *(f"there is no benchmark {name}; there are {known}" for name in names if name not in BENCHMARKS),
        *(f"num_fewshot names {name}; there are {known}" for name in shots if name not in BENCHMARKS),
        *(f"num_fewshot of {name} is {count}; it must be 0 or more" for name, count in shots.items() if count < 0),
    ]
