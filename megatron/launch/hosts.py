"""Machines and their slots from a hostfile, with GPT-NeoX's ``include`` and ``exclude``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

_LINE = re.compile(r"(?P<host>\S+)\s+slots\s*=\s*(?P<slots>\d+)")
Hosts = dict[str, list[int]]
"""Machine -> the slots (GPUs) to use on it, in order."""


def read_hosts(path: Path, *, include: str | None = None, exclude: str | None = None) -> Hosts:
    """Read a hostfile, lines of ``name slots=8``; empty lines and what follows a ``#`` are nothing.

    Args:
        path: the file.
        include: only these, such as ``node1@node2:0,2``: machines with ``@`` between them, slots after a colon.
        exclude: all but these; only one of the two may be given.

    Raises:
        ValueError: every line that cannot be read, and every name and slot that is not there.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"hostfile {path} cannot be read: {error}") from None
    hosts: Hosts = {}
    problems = []
    for number, line in enumerate(lines, start=1):
        text = line.split("#")[0].strip()
        match = _LINE.fullmatch(text)
        if not text:
            continue
        if match is None or match["host"].startswith("-"):
            problems.append(f"{path}:{number}: {text!r} is no `name slots=8`")
        elif match["host"] in hosts:
            problems.append(f"{path}:{number}: {match['host']} is named twice")
        else:
            hosts[match["host"]] = list(range(int(match["slots"])))
    if not hosts and not problems:
        problems.append(f"hostfile {path} names no machine: write lines of `name slots=8`")
    if include is not None and exclude is not None:
        problems.append("include and exclude are given together: keep one of them")
    chosen = hosts
    if include is not None and not problems:
        named = _filter(include, hosts, "include", problems)
        chosen = {host: named[host] for host in hosts if host in named}
    if exclude is not None and not problems:
        named = _filter(exclude, hosts, "exclude", problems)
        chosen = {host: [slot for slot in hosts[host] if slot not in named.get(host, ())] for host in hosts}
    chosen = {host: slots for host, slots in chosen.items() if slots}
    if not chosen and not problems:
        problems.append(f"of {path}, include and exclude leave no machine")
    if problems:
        raise ValueError("\n".join(problems))
    return chosen


def _filter(text: str, hosts: Mapping[str, list[int]], key: str, problems: list[str]) -> Hosts:
    """Read ``node1@node2:0,2``; without slots a machine stands for all of its own."""
    named: Hosts = {}
    for part in text.split("@"):
        host, _, slots = part.strip().partition(":")
        if host not in hosts:
            problems.append(f"{key} names {host!r}, which is not in the hostfile")
            continue
        numbers = [int(slot) if slot.strip().isdecimal() else -1 for slot in slots.split(",")] if slots else hosts[host]
        if wrong := [number for number in numbers if number not in hosts[host]]:
            problems.append(f"{key} = {text!r}: {host} has no slot {wrong[0] if wrong[0] >= 0 else slots!r}")
        named[host] = sorted({*named.get(host, ()), *numbers})
    return named
