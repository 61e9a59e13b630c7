"""What a definition asks of its records, fields and labels, looked for before a model is asked anything."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.config.problems import did_you_mean
from megatron.config.templates import template_fields
from megatron.evaluation.benchmarks.data import Items, Record
from megatron.evaluation.benchmarks.manifest import BenchmarkDataError


def plain_fields(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of a record that templates can have, texts and numbers, as text."""
    return {key: str(value) for key, value in record.items() if isinstance(value, str | int | float)}


class FieldProblem(NamedTuple):
    """What records lack.

    Attributes:
        of: the key of the definition, what is missing, and the file's name: the same in many languages.
        text: all of it, for people.
    """

    of: tuple[str, ...]
    text: str


def check_fields(
    benchmark: BenchmarkConfig, language: str, items: Items, records: Sequence[Record], *, names: Collection[str]
) -> None:
    """Find out whether records have the fields that the templates, `reference` and `shorten` name.

    Args:
        benchmark: the definition.
        language: corpus code.
        items: all records of the language.
        records: those of them that are asked about.
        names: what templates may name besides.

    Raises:
        BenchmarkDataError: lists every field that is missing, with the files and the fields that there are.
    """
    if problems := [problem.text for problem in field_problems(benchmark, language, items, records, names=names)]:
        raise BenchmarkDataError("\n".join(dict.fromkeys(problems)))


def field_problems(
    benchmark: BenchmarkConfig, language: str, items: Items, records: Sequence[Record], *, names: Collection[str]
) -> Iterator[FieldProblem]:
    """Yield every field that is missing; the arguments are those of :func:`check_fields`."""
    file = f"{benchmark.data}/{language}/test.jsonl"
    if benchmark.kind == "text":
        if lacking := sum(not isinstance(record.get("text"), str) for record in records):
            told = f"{benchmark.name}: {lacking} of {len(records)} records of {file} have no field 'text'"
            yield FieldProblem(("text", "test"), f"{told}; prepare records that have it")
        return
    label = ["label"] if benchmark.kind == "choices" else []
    for key, known in (("instruction", [*names]), ("premise", [*names]), ("answer", [*names, *label])):
        if key == "answer" and not label:
            continue
        for field in sorted(template_fields(getattr(benchmark, key) or "") - {*known}):
            yield FieldProblem(
                (key, field),
                f"{benchmark.place(key)}: `{key}` asks for {{{field}}}; there is {_listed(known)}. "
                f"{_fix(field, known)}",
            )
    yield from _missing(benchmark, file, records, [*_of_records(benchmark, names)], names)
    if benchmark.shots:
        file = f"{benchmark.data}/{language}/{benchmark.shots_from}.jsonl"
        yield from _missing(benchmark, file, items.shots, [*_of_shots(benchmark, names)], names)


def label_problems(
    benchmark: BenchmarkConfig, language: str, items: Items, records: Sequence[Record]
) -> Iterator[FieldProblem]:
    """Yield the labels of records, those that shots are taken from too, that a definition of `choices` lacks."""
    if benchmark.kind != "choices":
        return
    used = {str(record.get(str(benchmark.reference))) for record in (*records, *items.shots)}
    if unknown := sorted(used - benchmark.labels.keys()):
        yield FieldProblem(
            ("labels", *unknown),
            f"{benchmark.place('labels')}: {benchmark.name}, {language}: records have labels that the benchmark does "
            f"not: {unknown}",
        )


def _of_records(benchmark: BenchmarkConfig, names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield what a record must have: key of the definition, field."""
    for field in sorted(template_fields(benchmark.prompt) - {*names}):
        yield "prompt", field
    if benchmark.reference is not None:
        yield "reference", benchmark.reference
    if benchmark.shorten is not None:
        yield "shorten", benchmark.shorten


def _of_shots(benchmark: BenchmarkConfig, names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield what a record must have that is shown with its answer."""
    for key in ("prompt", "answer") if benchmark.shot is None else ("shot",):
        for field in sorted(template_fields(getattr(benchmark, key)) - {*names}):
            yield key, field
    if benchmark.kind == "choices" and benchmark.reference is not None:
        yield "reference", benchmark.reference


def _missing(
    benchmark: BenchmarkConfig,
    file: str,
    records: Sequence[Record],
    needs: Sequence[tuple[str, str]],
    names: Collection[str],
) -> Iterator[FieldProblem]:
    found = [plain_fields(record).keys() for record in records]
    known = sorted(set().union(*found))
    for key, field in needs:
        if lacking := sum(field not in fields for fields in found):
            there = known if key in ("reference", "shorten") else [*known, *names]
            yield FieldProblem(
                (key, field, Path(file).stem),
                f"{benchmark.place(key)}: `{key}` names the field {field!r}, which {lacking} of {len(records)} records "
                f"of {file} lack; there is {_listed(there)}. {_fix(field, there)}",
            )


def _listed(known: Collection[str]) -> str:
    return ", ".join(sorted(known)) or "none"


def _fix(field: str, known: Collection[str]) -> str:
    return did_you_mean(field, known) or "Name one of these, or prepare records that have it."
