"""Which corpora a mixture trains on: ``include`` and ``exclude`` by language, script, tier, source and name."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeGuard

from megatron.config.problems import did_you_mean
from megatron.data.mixing.tiers import has_language

if TYPE_CHECKING:
    from megatron.config.mixture_schema import MixtureConfig, SelectionConfig
    from megatron.data.manifest import ShardInfo

NOT_INCLUDED = "not included"
EXCLUDED = "excluded"

_LISTS = ("languages", "scripts", "tiers", "sources", "corpora")
_WILD = re.compile(r"[*?[]")
_HINTS = 20  # a search for a near name takes milliseconds among thousands


def selected(shards: Sequence[ShardInfo], tiers: Sequence[str], section: MixtureConfig | None) -> list[str]:
    """Return for each shard an empty text when it is chosen, else :data:`NOT_INCLUDED` or :data:`EXCLUDED`.

    Args:
        shards: the corpora.
        tiers: the tier of each.
        section: holds ``include`` and ``exclude``.
    """
    include = _matcher(section.include, both_sides=True) if section and _names_any(section.include) else None
    exclude = _matcher(section.exclude, both_sides=False) if section and _names_any(section.exclude) else None
    return [
        NOT_INCLUDED
        if include is not None and not include(shard, tier)
        else EXCLUDED
        if exclude is not None and exclude(shard, tier)
        else ""
        for shard, tier in zip(shards, tiers, strict=True)
    ]


def selection_problems(
    shards: Sequence[ShardInfo], tiers: Sequence[str], section: MixtureConfig | None, key: Callable[[str], str]
) -> Iterator[str]:
    """Yield a text for every entry that matches no corpus: it is usually misspelt.

    Args:
        shards: the corpora.
        tiers: the tier of each.
        section: holds ``include`` and ``exclude``.
        key: turns a name of the mixture's section into the YAML key that the user wrote.
    """
    given = [(name, getattr(section, name)) for name in ("include", "exclude") if section is not None]
    selections = [(name, selection) for name, selection in given if selection is not None]
    if not selections:
        return
    known = _known(shards, tiers)
    for name, selection in selections:
        where = key(name)
        for part in _LISTS:
            unknown = [entry for entry in getattr(selection, part) if not _is_known(entry, part, known[part])]
            yield from unknown_names(f"{where}.{part}", unknown, sorted(known[part]))


def unknown_names(where: str, names: Iterable[str], known: Sequence[str]) -> Iterator[str]:
    """Yield a text for each name that stands for no corpus, with the nearest name that does."""
    for number, name in enumerate(names):
        hint = did_you_mean(name, known) if number < _HINTS else ""
        if not hint:
            few = f" (there are: {', '.join(known)})" if len(known) <= _HINTS else ""
            hint = f"Take it out, or correct it{few}"
        yield f"{where} names {name!r}, which matches no corpus of the data. {hint}"


def _names_any(selection: SelectionConfig | None) -> TypeGuard[SelectionConfig]:
    return selection is not None and any(getattr(selection, part) for part in _LISTS)


def _known(shards: Sequence[ShardInfo], tiers: Sequence[str]) -> dict[str, set[str]]:
    spoken = [(shard, tier) for shard, tier in zip(shards, tiers, strict=True) if has_language(shard)]
    sides = [side for shard, _ in spoken for side in _sides(shard)]
    return {
        "languages": {name for language, code, _ in sides for name in (language, code)},
        "scripts": {script for _, _, script in sides},
        "tiers": {tier for _, tier in spoken},
        "sources": {shard.source for shard in shards},
        "corpora": {shard.name for shard in shards},
    }


def _is_known(entry: str, part: str, known: set[str]) -> bool:
    if entry in known:
        return True
    return part == "corpora" and any(fnmatch.fnmatchcase(name, entry) for name in known)


def _sides(shard: ShardInfo) -> list[tuple[str, str, str]]:
    """Return (language, code, script) of a language, or of both languages of a pair; nothing for other text."""
    if not has_language(shard):
        return []
    codes = shard.code.split("-")
    languages, scripts = shard.language.split("-"), shard.script.split("-")
    return list(zip(languages, codes, scripts, strict=False))


def _matcher(selection: SelectionConfig, *, both_sides: bool) -> Callable[[ShardInfo, str], bool]:
    """Return a test of a corpus and its tier: it must match one entry of every list that is given."""
    languages, scripts = set(selection.languages), set(selection.scripts)
    tiers, sources = set(selection.tiers), set(selection.sources)
    names = {name for name in selection.corpora if not _WILD.search(name)}
    wild = [re.compile(fnmatch.translate(name)) for name in selection.corpora if name not in names]
    enough = all if both_sides else any

    def matches(shard: ShardInfo, tier: str) -> bool:
        sides = _sides(shard)
        return (
            (not sources or shard.source in sources)
            and (not selection.corpora or shard.name in names or any(p.match(shard.name) for p in wild))
            and (not tiers or (bool(sides) and tier in tiers))
            and (not languages or (bool(sides) and enough(not languages.isdisjoint(s[:2]) for s in sides)))
            and (not scripts or (bool(sides) and enough(s[2] in scripts for s in sides)))
        )

    return matches
