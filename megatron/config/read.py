"""YAML files and ``key=value`` arguments as plain values that remember where they were written.

Files are merged at their top level. A top-level key with dots, as in ``mixture.exclude: {sources: [code]}``, adds to
the mapping that another file gives as ``mixture:``, or makes it, in whatever order the files come. It never replaces:
what two places give is a mistake, and both are named. ``key=value`` arguments of the command line do replace.

Files are read defensively: at most 16 MiB, safe tags only, no aliases (which could unfold without end), bounded
nesting, and no key twice.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from megatron.config.problems import ABSENT, Problem, shown

MAX_FILE_BYTES = 16 << 20
_MAX_DEPTH = 32
_SUFFIXES = (".yml", ".yaml", ".json")
_COMMAND_LINE = "command line"
# PyYAML lets errors of Python through when a value contradicts its tag, as in `!!int ""`.
_VALUE_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError)


KeyPath = tuple[str, ...]
"""Keys that lead into a mapping; an entry of a list goes by its number."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """The value of one top-level key.

    Attributes:
        value: what was written.
        where: the place, ``file.yml:12`` or ``command line``.
        places: the places of what is inside a mapping or list, as far as they are known.
    """

    value: Any
    where: str
    places: Mapping[KeyPath, str] = dataclasses.field(default_factory=dict)

    def place(self, path: Sequence[str]) -> str:
        """Return where the value at ``path`` was written, or the nearest around it."""
        for length in range(len(path), 0, -1):
            if (place := self.places.get(tuple(path[:length]))) is not None:
                return place
        return self.where

    def inside(self, path: Sequence[str]) -> Any:
        """Return the value at ``path``, or :data:`ABSENT`."""
        value = self.value
        for name in path:
            if isinstance(value, list) and name.isdecimal() and int(name) < len(value):
                value = value[int(name)]
            elif isinstance(value, dict) and name in value:
                value = value[name]
            else:
                return ABSENT
        return value

    def put(self, path: KeyPath, entry: Entry) -> Entry:
        """Return this entry with the value at ``path`` replaced or added.

        Raises:
            TypeError: the path meets something that is no mapping.
        """
        if not path:
            return entry
        kept = {other: place for other, place in self.places.items() if other[: len(path)] != path}
        moved = {path: entry.where, **{(*path, *inner): place for inner, place in entry.places.items()}}
        return Entry(_replaced(self.value, path, entry.value), self.where, {**kept, **moved})


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases, without dates, and with bounded nesting."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML's own class attribute)
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        mark = self.peek_event().start_mark
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(None, None, "aliases (*name) are not supported: write it out", mark)
        if self._depth >= _MAX_DEPTH:
            raise yaml.constructor.ConstructorError(None, None, f"more than {_MAX_DEPTH} levels of nesting", mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def normal_name(key: str) -> str:
    """Return a top-level key as the program spells it: ``-`` equals ``_``, but not in what follows a dot."""
    top, dot, rest = key.strip().partition(".")
    return top.replace("-", "_") + dot + rest


def find_file(path: str | Path) -> Path:
    """Return the file that a user means by ``path``: the suffix ``.yml`` may be left out."""
    path = Path(path)
    return path if path.is_file() or path.suffix in _SUFFIXES else path.with_name(path.name + ".yml")


def read_files(paths: Sequence[str | Path]) -> tuple[dict[str, Entry], list[Problem]]:
    """Merge YAML files at their top level, keys with dots into the mappings that they name.

    Returns:
        the entries by key (the first of a key given twice), and every problem met on the way.
    """
    written: list[tuple[KeyPath, Entry]] = []
    problems: list[Problem] = []
    seen: set[Path] = set()
    for path in map(find_file, paths):
        if path.resolve() in seen:
            problems.append(Problem(str(path), "this file", "is given twice", "Name it once."))
            continue
        seen.add(path.resolve())
        written += [(_split_name(key), entry) for key, entry in _read_file(path, problems)]
    entries: dict[str, Entry] = {}
    # Whole mappings first, so that the order of the files does not matter to what is added to them.
    for key_path, entry in sorted(written, key=lambda item: len(item[0])):
        problems += _add(entries, key_path, entry)
    return entries, problems


def _split_name(key: str) -> KeyPath:
    parts = tuple(key.split("."))
    return parts if all(parts) else (key,)  # `a..b` is no path; as a key it is unknown


def _add(entries: dict[str, Entry], path: KeyPath, entry: Entry) -> Iterator[Problem]:
    """Add what a file gives at ``path``, unless there is something already."""
    (top, *rest), key = path, ".".join(path)
    into = entries.get(top, Entry({}, entry.where) if rest else None)
    if into is None:
        entries[top] = entry
        return
    if into.inside(rest) is not ABSENT:
        place = into.place(rest)
        rule = f"is given a second time, also in {place}" if rest else f"is given a second time, first in {place}"
        yield Problem(entry.where, key, rule, "Keep one of the two.", entry.value)
        return
    try:
        entries[top] = into.put(tuple(rest), entry)
    except TypeError:
        length = next(n for n in range(len(rest)) if not isinstance(into.inside(rest[:n]), dict | None))
        outer, value = ".".join((top, *rest[:length])), into.inside(rest[:length])
        rule = f"reaches into {outer} = {shown(value)} ({into.place(rest[:length])}), which is no mapping"
        yield Problem(entry.where, key, rule, f"Give {outer} as a mapping, or remove one of the two.", entry.value)


def apply_overrides(entries: dict[str, Entry], overrides: Sequence[str]) -> list[Problem]:
    """Replace or add entries by ``key=value`` arguments; ``a.b=value`` reaches into the mapping under ``a``."""
    problems: list[Problem] = []
    seen: set[str] = set()
    for override in overrides:
        name, equals, text = override.partition("=")
        top, *path = name.split(".")
        top = normal_name(top)
        dotted = ".".join((top, *path))
        if not equals or not all((top, *path)):
            fix = "Write key=value, or key.inner=value for a key inside a mapping."
            problems.append(Problem(_COMMAND_LINE, repr(override), "is not a setting", fix))
            continue
        if dotted in seen:
            problems.append(Problem(_COMMAND_LINE, dotted, "is given twice", "Keep one of the two.", text))
            continue
        seen.add(dotted)
        try:
            value = yaml.load(text, Loader=_Loader)  # a subclass of SafeLoader
        except _VALUE_ERRORS as error:
            problems.append(Problem(_COMMAND_LINE, dotted, f"is not valid YAML: {_one_line(error)}", "Quote it.", text))
            continue
        try:
            entries[top] = entries.get(top, Entry(None, _COMMAND_LINE)).put(tuple(path), Entry(value, _COMMAND_LINE))
        except TypeError:
            fix = f"Give {top} as a whole."
            problems.append(Problem(_COMMAND_LINE, dotted, "reaches into a value that is no mapping", fix, value))
    return problems


def _replaced(before: Any, path: Sequence[str], value: Any) -> Any:
    """Return ``before`` with the value at ``path`` replaced; raises TypeError when the path meets a scalar."""
    if not path:
        return value
    if before is None:
        before = {}
    if not isinstance(before, dict):
        raise TypeError
    after = copy.copy(before)
    after[path[0]] = _replaced(before.get(path[0]), path[1:], value)
    return after


def _read_file(path: Path, problems: list[Problem]) -> Iterator[tuple[str, Entry]]:
    """Yield the top-level keys of one file in order; what cannot be read becomes a problem."""
    text = _read_text(path, problems)
    if text is None:
        return
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
    except yaml.YAMLError as error:
        problems.append(_unread(_place(path, error), f"is not valid YAML: {_one_line(error)}", ""))
        return
    if root is None:
        return
    if not isinstance(root, yaml.MappingNode):
        problems.append(_unread(str(path), "is not a mapping", "Write one `key: value` on each line."))
        return
    problems.extend(_inner_duplicates(root, path))
    seen: dict[str, str] = {}
    for key_node, value_node in root.value:
        where = f"{path}:{key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
            problems.append(Problem(where, "this key", "is not a word", "Quote it if it is meant.", key_node.value))
            continue
        key = normal_name(key_node.value)
        try:
            value = loader.construct_object(value_node, deep=True)
        except _VALUE_ERRORS as error:
            problems.append(Problem(where, key, f"has a value that cannot be read: {_one_line(error)}", ""))
            continue
        if key in seen:
            rule = f"is given a second time, first in {seen[key]}"
            problems.append(Problem(where, key, rule, "Keep one of the two.", value))
            continue
        seen[key] = where
        yield key, Entry(value, where, dict(_places_inside(value_node, path)))


def _places_inside(root: yaml.Node, path: Path) -> Iterator[tuple[KeyPath, str]]:
    """Yield where each value below a node is written: a key's line, or that of an entry of a list."""
    stack: list[tuple[KeyPath, yaml.Node]] = [((), root)]
    while stack:
        outer, node = stack.pop()
        children: list[tuple[str, yaml.Node, yaml.Node]] = []
        if isinstance(node, yaml.MappingNode):
            children = [(key.value, key, child) for key, child in node.value if isinstance(key, yaml.ScalarNode)]
        elif isinstance(node, yaml.SequenceNode) and not all(isinstance(n, yaml.ScalarNode) for n in node.value):
            children = [(str(number), child, child) for number, child in enumerate(node.value)]
        for name, place, child in children:
            yield (*outer, name), f"{path}:{place.start_mark.line + 1}"
            stack.append(((*outer, name), child))


def _read_text(path: Path, problems: list[Problem]) -> str | None:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            rule = f"is larger than {MAX_FILE_BYTES >> 20} MiB"
            problems.append(_unread(str(path), rule, "Is it a configuration at all?"))
            return None
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        problems.append(_unread(str(path), "does not exist", "Check the path."))
    except OSError as error:
        problems.append(_unread(str(path), f"cannot be read: {error.strerror}", "Check the path."))
    except UnicodeDecodeError as error:
        problems.append(_unread(str(path), f"is not UTF-8 at byte {error.start}", "Save it as UTF-8."))
    return None


def _unread(where: str, rule: str, fix: str) -> Problem:
    return Problem(where, "this file", rule, fix, hides_keys=True)


def _inner_duplicates(root: yaml.MappingNode, path: Path) -> Iterator[Problem]:
    """Find keys given twice in one mapping below the top level, where the later would silently win."""
    stack: list[tuple[str, yaml.Node]] = [(str(key.value), value) for key, value in root.value]
    while stack:
        name, node = stack.pop()
        if isinstance(node, yaml.SequenceNode):
            stack.extend((name, child) for child in node.value)
        if not isinstance(node, yaml.MappingNode):
            continue
        seen: set[str] = set()
        for key, value in node.value:
            dotted = f"{name}.{key.value}"
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                where = f"{path}:{key.start_mark.line + 1}"
                value_shown = value.value if isinstance(value, yaml.ScalarNode) else ABSENT
                yield Problem(where, dotted, "is given a second time", "Keep one of the two.", value_shown)
            seen.add(str(key.value))
            stack.append((dotted, value))


def _place(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"{path}:{mark.line + 1}" if mark is not None else str(path)


def _one_line(error: Exception) -> str:
    return str(getattr(error, "problem", None) or error).splitlines()[0]
