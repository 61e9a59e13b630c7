"""The reference pages of all keys, written from the schemas and the key table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.config.corpus_schema import CorpusConfig
from megatron.config.fields import Section, sections_in
from megatron.config.keys import GROUPS, LATER_KEYS, NEOX_KEYS, NeoxKey, Status
from megatron.config.schema import SECTIONS

_INTRODUCTION = """\
# Configuration

Written by `tools/config_reference.py` from `megatron/config/schema.py` and `keys.py`: change those, not this page.

    deepy.py train.py [-d DIR] model.yml data.yml run.yml [key=value ...]
    deepy.py --check model.yml data.yml run.yml [key=value ...]

- The files are merged at their top level; `-` equals `_` in a key, and `.yml` may be left out. The same key in two
  files is an error.
- A key with dots adds to the mapping of another file, in whatever order they come: with `mixture: {...}` in
  `data.yml`, `mixture.exclude: {sources: [code]}` in `study.yml` is all that the study needs to say. It cannot replace
  anything: what two files give is an error.
- `key=value` arguments win over the files; `optimizer.params.lr=1e-4` reaches inside a mapping.
- `1e-5` is a number, a whole number will do where a number is asked for, letter case of fixed words does not matter,
  and `null` means that the key is not given.
- Aliases (`*name`) are not read. A file has at most 16 MiB.
- All problems are reported at once. `--check` starts nothing: it prints every setting, the number of parameters,
  tokens, the learning rate over the steps, and every problem."""

_STATUS_TEXT: Mapping[Status, str] = {
    Status.USED: "means here what it means there",
    Status.RENAMED: "is translated to the key named",
    Status.FIXED: "has only the values named, and may be left out",
    Status.IGNORED: "has no effect; any other value than those that say so anyway gives a warning with the reason",
    Status.REJECTED: "is an error with the reason, unless its value asks for nothing",
}
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def reference() -> str:
    """Return the whole page as Markdown."""
    blocks = [_INTRODUCTION, "## Keys", *map(_section, SECTIONS, SECTIONS.values()), *_later(), *_neox()]
    return "\n\n".join(blocks) + "\n"


_CORPUS_INTRODUCTION = """\
# Settings of the corpus pipeline

Written by `tools/config_reference.py` from `megatron/config/corpus_schema.py`: change that, not this page.

    tools/corpus.py STAGE --config corpus.yml more.yml [key=value ...]

Files merge and values are written as on [the page of a run's keys](configuration.md). [corpus.md](corpus.md) says what
the stages do."""


def corpus_reference() -> str:
    """Return the page of the corpus pipeline's settings as Markdown."""
    return "\n\n".join([_CORPUS_INTRODUCTION, _section("All settings", CorpusConfig)]) + "\n"


_BENCHMARK_INTRODUCTION = """\
# Keys of a benchmark

Written by `tools/config_reference.py` from `megatron/config/benchmark_schema.py`: change that, not this page.

A benchmark is one file; [evaluation.md](evaluation.md) says what it is for. `based_on: NAME` takes everything that the
file does not say from another one in the same folder, which may be based on another in turn, and merges mappings."""


def benchmark_reference() -> str:
    """Return the page of a benchmark's keys as Markdown."""
    return "\n\n".join([_BENCHMARK_INTRODUCTION, _section("All keys", BenchmarkConfig)]) + "\n"


def _section(name: str, section: type[Section]) -> str:
    blocks = [f"### {name}", _summary(section), _fields(section)]
    for inner in dict.fromkeys(_inner_sections(section)):  # phases have tiers and sources, too: each table comes once
        blocks += [f"`{inner.__name__}`: {_summary(inner)}", _fields(inner)]
    return "\n\n".join(blocks)


def _inner_sections(section: type[Section]) -> Iterator[type[Section]]:
    for field in section.model_fields.values():
        for inner in sections_in(field.annotation):
            yield inner
            yield from _inner_sections(inner)


def _summary(section: type[Section]) -> str:
    return " ".join((section.__doc__ or "").split()).replace("``", "`")


def _fields(section: type[Section]) -> str:
    properties = section.model_json_schema()["properties"]
    rows = []
    for key, field in section.model_fields.items():
        default = "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
        rows.append((f"`{key}`", _type(properties[key]), default, " ".join((field.description or "").split())))
    return _table(("key", "value", "default", "meaning"), rows)


def _default(value: object) -> str:
    if value is None or value == ():
        return "-"
    if isinstance(value, Section) or (isinstance(value, dict) and value):
        return "see below"
    return _literal(value)


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    return f"`{value!r}`" if isinstance(value, str) and not value.strip() else f"`{value}`"


def _type(schema: Mapping[str, Any]) -> str:
    """Say in words what a JSON schema allows."""
    if "anyOf" in schema:
        return " or ".join(_type(choice) for choice in schema["anyOf"] if choice.get("type") != "null")
    if not schema:
        return "any"
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{choice}`" for choice in schema.get("enum", [schema.get("const")]))
    reference_to = schema.get("$ref", "").rpartition("/")[2]
    if reference_to:
        return f"`{reference_to}`"
    kind = schema.get("type")
    if kind == "object":
        # Names with a pattern of their own have the type of their values under it.
        values = schema.get("additionalProperties") or next(iter(schema["patternProperties"].values()))
        return f"name to {_type(values)}"
    if kind == "array":
        items = schema.get("prefixItems")
        return f"list of {len(items)}: {_type(items[0])}" if items else f"list: {_type(schema['items'])}"
    words = {"integer": "whole number", "number": "number", "boolean": "`true` or `false`", "string": "text"}
    limits = [f"{text} {schema[name]:g}" for name, text in _BOUNDS.items() if name in schema]
    return " ".join([words.get(str(kind), "any"), " and ".join(limits)]).strip()


def _later() -> Iterator[str]:
    yield "## Keys to come"
    yield "Not supported yet. A file may hold them with `null`, or with the value named, which asks for nothing."
    rows = [
        (f"`{key.name}`", ", ".join(_literal(value) for value in key.accepts if value is not None) or "-", _now(key))
        for key in LATER_KEYS.values()
    ]
    yield _table(("key", "value that passes", "until then"), rows)


def _now(key: NeoxKey) -> str:
    return key.note.partition(": ")[2]


def _neox() -> Iterator[str]:
    counts = {status: sum(key.status is status for key in NEOX_KEYS.values()) for status in Status}
    yield f"## GPT-NeoX's {len(NEOX_KEYS)} keys"
    yield "What becomes of each key of a GPT-NeoX file:"
    yield "\n".join(f"- **{status.value}** ({counts[status]}): {_STATUS_TEXT[status]}." for status in Status)
    yield (
        "`intermediate_size` is Hugging Face's. GPT-NeoX's is about three times as large; it is recognised by "
        "`mlp_multiple_of` or `expansion_factor` beside it, translated, and the translation is printed."
    )
    for name, keys in GROUPS.items():
        yield f"### {name}"
        rows = [(f"`{key.name}`", _default(key.default), key.status.value, _note(key)) for key in keys]
        yield _table(("key", "GPT-NeoX's default", "here", "note"), rows)


def _note(key: NeoxKey) -> str:
    if key.status is Status.RENAMED:
        return f"`{key.note}`"
    values = [value for value in key.accepts if value is not None]
    if key.status is Status.USED or not values or (key.status is Status.IGNORED and key.accepts == (key.default,)):
        return key.note
    return f"{key.note} (accepted: {', '.join(map(_literal, values))})"


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)
