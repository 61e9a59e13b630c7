"""From YAML files to benchmarks, by name, by path or by suite."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from megatron.config.benchmark_schema import DEFAULT, BenchmarkConfig, Suites, SuitesConfig
from megatron.config.problems import Complaint, ConfigError, Problem, did_you_mean
from megatron.config.read import Entry, find_file, read_files
from megatron.config.templates import template_fields
from megatron.config.validation import problem_of

BENCHMARKS = Path(__file__).resolve().parents[2] / "configs" / "benchmarks"
"""The definitions that come with the project."""
_SUITES = "suites.yml"
_BASE = "based_on"


def load_benchmarks(names: Sequence[str], folder: Path = BENCHMARKS) -> list[BenchmarkConfig]:
    """Return benchmarks in the order of their names, each once.

    Args:
        names: of benchmarks or suites in the folder, or paths of files elsewhere, which have an ending or a slash.
        folder: holds the definitions and ``suites.yml``.

    Raises:
        ConfigError: lists every problem of all files, and every name that is not known.
    """
    suites = load_suites(folder)
    wanted = [each for name in names for each in suites.get(name, (name,))]
    found: dict[str, BenchmarkConfig] = {}
    problems: list[Problem] = []
    for name in dict.fromkeys(wanted):
        try:
            benchmark = load_benchmark(name, folder)
            found.setdefault(benchmark.name, benchmark)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return list(found.values())


def split_names(
    names: Sequence[str], *, others: Collection[str], folder: Path = BENCHMARKS
) -> tuple[list[str], list[str]]:
    """Divide names, those in suites too, into definitions of the folder and benchmarks that others run.

    Args:
        names: of benchmarks or suites, or paths of files.
        others: names of benchmarks that are defined elsewhere, by lm-evaluation-harness.
        folder: holds ``suites.yml``.

    Returns:
        The names and suites of the first kind, for :func:`load_benchmarks`, and the benchmarks of the second.

    Raises:
        ConfigError: a suite names a benchmark that nobody has.
    """
    found, entries = _read_suites(folder)
    own = [name for name in names if name in found.suites or name not in {*others, *found.harness}]
    foreign = dict.fromkeys(each for name in names for each in found.harness.get(name, (name,)) if each in others)
    unknown = {each: suite for suite in found.harness for each in found.harness[suite] if each not in others}
    if unknown:
        known = sorted(others)
        raise ConfigError(
            [
                Problem(
                    entries["harness"].place([suite]), f"harness.{suite}", f"has no benchmark {name!r}",
                    did_you_mean(name, known), name,
                )
                for name, suite in unknown.items()
            ]
        )  # fmt: skip
    return own, list(foreign)


def load_suites(folder: Path = BENCHMARKS) -> Suites:
    """Return the suites of a folder; none where it has no ``suites.yml``.

    Raises:
        ConfigError: the file is broken, or names benchmarks that the folder does not have.
    """
    found, entries = _read_suites(folder)
    suites, known = found.suites, names_in(folder)
    problems = []
    for suite, names in suites.items():
        for name in names:
            if name not in known:
                where, fix = entries["suites"].place([suite]), did_you_mean(name, known)
                problems.append(Problem(where, f"suites.{suite}", f"has no benchmark {name!r}", fix, name))
    if problems:
        raise ConfigError(problems)
    return suites


def _read_suites(folder: Path) -> tuple[SuitesConfig, dict[str, Entry]]:
    path = folder / _SUITES
    if not path.exists():
        return SuitesConfig(suites={}), {}
    entries, problems = read_files([path])
    try:
        found = SuitesConfig.model_validate({key: entry.value for key, entry in entries.items()})
    except ValidationError as error:
        raise ConfigError(
            [*problems, *(problem_of(details, SuitesConfig, entries) for details in error.errors())]
        ) from None
    if problems:
        raise ConfigError(problems)
    return found, entries


def names_in(folder: Path = BENCHMARKS) -> list[str]:
    """Return the names of the benchmarks of a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.yml") if path.name != _SUITES)


def load_benchmark(name: str, folder: Path = BENCHMARKS) -> BenchmarkConfig:
    """Return one benchmark.

    Args:
        name: of a file in the folder, or the path of a file elsewhere.
        folder: where names, also that of ``based_on``, are looked up.

    Raises:
        ConfigError: lists every problem.
    """
    path = _path_of(name, folder)
    entries, problems = read_files([path])
    if _BASE in entries:
        entries = _with_base(entries, folder, problems)
    if "name" in entries:
        entry = entries.pop("name")
        problems.append(Problem(entry.where, "name", "is not a known key", "The file's name is the name.", entry.value))
    values = {"name": path.stem, **{key: entry.value for key, entry in entries.items()}}
    entries["name"] = Entry(path.stem, str(path))
    try:
        benchmark = BenchmarkConfig.model_validate(values)
    except ValidationError as error:
        found = [problem_of(details, BenchmarkConfig, entries) for details in error.errors()]
        hidden = any(problem.hides_keys for problem in problems)
        problems += [problem for problem in found if not (hidden and problem.rule == "is missing")]
        raise ConfigError([_placed(problem, path) for problem in problems]) from None
    benchmark = benchmark.written_at({(): str(path), **_places(entries)})
    if not problems:
        problems = [
            Problem(benchmark.place(*_path(key)), ".".join(_path(key)), rule, fix)
            for key, rule, fix in _broken_rules(benchmark)
        ]
    if problems:
        raise ConfigError(problems)
    return benchmark


def _places(entries: Mapping[str, Entry]) -> dict[tuple[str, ...], str]:
    inner = {(key, *path): place for key, entry in entries.items() for path, place in entry.places.items()}
    return {**{(key,): entry.where for key, entry in entries.items()}, **inner}


def _path(key: str | tuple[str, ...]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else key


def _path_of(name: str, folder: Path) -> Path:
    if "/" in name or Path(name).suffix in (".yml", ".yaml"):
        return find_file(name)
    path = folder / f"{name}.yml"
    if not path.is_file():
        known = [*names_in(folder), *load_suites(folder)]
        fix = did_you_mean(name, known) or f"There are: {', '.join(known)}."
        raise ConfigError([Problem(str(folder), "this folder", f"has no benchmark or suite {name!r}", fix)])
    return path


def _with_base(
    entries: dict[str, Entry], folder: Path, problems: list[Problem], above: tuple[str, ...] = ()
) -> dict[str, Entry]:
    """Add what the file does not say from the one that it is based on, which may be based on another one in turn.

    Mappings are merged. ``above`` are the names of those on the way from the first file to this one.
    """
    base = entries.pop(_BASE)
    if not isinstance(base.value, str) or not (path := folder / f"{base.value}.yml").is_file():
        fix = did_you_mean(str(base.value), names_in(folder)) or "Name a benchmark of the same folder."
        problems.append(Problem(base.where, _BASE, "names no benchmark", fix, base.value))
        return entries
    if base.value in above:
        circle = " -> ".join((*above, base.value))
        problems.append(Problem(base.where, _BASE, f"goes round in a circle: {circle}", "Leave one out.", base.value))
        return entries
    below, found = read_files([path])
    problems += found
    if _BASE in below:
        below = _with_base(below, folder, problems, (*above, base.value))
    for key, entry in entries.items():
        before = below.get(key)
        places = {**(before.places if before else {}), **entry.places}
        below[key] = Entry(_merged(before.value if before else None, entry.value), entry.where, places)
    return below


def _merged(before: Any, after: Any) -> Any:
    if not isinstance(before, dict) or not isinstance(after, dict):
        return after
    return {**before, **{key: _merged(before.get(key), value) for key, value in after.items()}}


def _placed(problem: Problem, path: Path) -> Problem:
    """Say at least which file a problem is in."""
    return problem if problem.where else Problem(str(path), problem.key, problem.rule, problem.fix, problem.value)


def _broken_rules(benchmark: BenchmarkConfig) -> Iterator[Complaint]:
    """Find what no single key can say: key, rule, fix."""
    kind = benchmark.kind
    if benchmark.parity_with is not None and kind != "text":
        yield "parity_with", "is for benchmarks of kind text only", "Leave it out."
    if kind == "text":
        for key in ("prompt", "instruction", "answer", "shot", "labels", "pivot", "shots", "premise"):
            if getattr(benchmark, key):
                yield key, "means nothing to kind `text`", "Remove it."
        return
    if not benchmark.prompt:
        yield "prompt", "is missing", "Add `prompt: ...`."
    if benchmark.shots and benchmark.shot is None and not benchmark.answer:
        yield "answer", "is missing, so shots would have no answers", "Add `answer: ...`."
    for field, texts in benchmark.wording.items():
        if DEFAULT not in texts:
            yield ("wording", field), "has no `default`", "Add one; English will do."
    if benchmark.shorten and benchmark.shorten not in template_fields(benchmark.prompt):
        yield "shorten", f"names {benchmark.shorten!r}, which is no field of the prompt", "Name one."
    if kind == "choices":
        yield from _broken_choices(benchmark)
    elif benchmark.labels or benchmark.premise or benchmark.scoring != "likelihood":
        yield "kind", "is not `choices`, but there are labels, a premise or a scoring", "Remove them."


def _broken_choices(benchmark: BenchmarkConfig) -> Iterator[Complaint]:
    if len(benchmark.labels) < 2:
        yield "labels", "are fewer than two", "List what can be answered."
    if "label" not in template_fields(benchmark.answer):
        yield "answer", "has no field {label}", 'Write `answer: " {label}"`.'
    if benchmark.reference is None:
        yield "reference", "is missing", "Name the field that holds the right label."
    written: dict[str | tuple[str, ...], Mapping[str, str]] = {
        ("label_texts", language): texts for language, texts in benchmark.label_texts.items()
    }
    for key, texts in (("labels", benchmark.labels), *written.items()):
        if len(set(texts.values())) < len(texts):
            yield key, "writes two labels alike", "Make them differ."
    for language, texts in benchmark.label_texts.items():
        if texts.keys() != benchmark.labels.keys():
            yield ("label_texts", language), "does not have exactly the labels of `labels`", "Give each a text."
