"""What is known of the training text of languages: tier, tokens and source, from a table or from a run's record."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from megatron.evaluation.report.data import METRICS_NAME, ReportError, load_run
from megatron.evaluation.report.scores.values import UNMAPPED, Evaluation, Language, subject_of
from megatron.monitor.summary import TIER_ORDER, order_tiers

_MAX_BYTES = 1 << 28
_MOST_SHOWN = 5
_CODES = ("code", "language", "corpus")


@dataclasses.dataclass(frozen=True)
class Tiers:
    """Languages by code, the tiers in their order, and the name of the file that says so."""

    languages: Mapping[str, Language] = dataclasses.field(default_factory=dict)
    order: tuple[str, ...] = ()
    origin: str = ""

    def language(self, code: str) -> Language:
        """Return what is known of a code; of a pair with English that is the other side."""
        known = self.languages.get(subject_of(code)) or self.languages.get(code)
        return dataclasses.replace(known, code=code) if known else Language(code)


def read_tiers(path: Path) -> Tiers:
    """Read tiers.

    Args:
        path: a tab-separated table with the columns ``code`` (or ``language``), ``tier`` and, if known, ``tokens`` and
            ``source``; or a run: its ``save`` folder, ``metrics.jsonl``, or the ``mixture.json`` of a checkpoint.

    Raises:
        ReportError: the file cannot be read or has no tiers; every problem with its line.
        MetricsError: the folder holds no record.
    """
    if not path.exists():
        raise ReportError(f"{path} does not exist: give a table of tiers, or the `save` folder of a run")
    if path.is_dir() or path.name == METRICS_NAME:
        run = load_run(path if path.is_dir() else path.parent)
        rows: Sequence[Mapping[str, Any]] = run.planned or run.used
        if not rows:
            raise ReportError(f"{path}: the record holds no mixture, so no tiers; give a table of tiers")
        _check_rows(path, rows)
    elif path.suffix == ".json":
        rows = _mixture_rows(path)
    else:
        rows = _table_rows(path)
    origin = path.name if path.is_file() else f"{path.resolve().name}/{METRICS_NAME}"
    return Tiers(_languages(rows), _order(rows), origin)


def unmapped_line(evaluation: Evaluation, tiers: Tiers) -> str:
    """Say which languages of an evaluation the tiers do not know, with a few of both; nothing where all are known."""
    languages = {subject_of(row.language.code): row.language for table in evaluation.tables for row in table.rows}
    unmapped = sorted(code for code, language in languages.items() if language.tier == UNMAPPED)
    if not unmapped:
        return ""
    near = {subject_of(code): f"{code} ({', '.join(others)} has)" for code, others in evaluation.other_scripts.items()}
    shown = [near.get(code, code) for code in sorted(unmapped, key=lambda code: code not in near)[:_MOST_SHOWN]]
    more = ", ..." if len(unmapped) > len(shown) else ""
    none = f"none of the {len(languages):,} languages of the results has a tier"
    some = f"{len(unmapped):,} of {len(languages):,} languages of the results have no tier"
    has = sorted(code for code, language in tiers.languages.items() if language.tier != UNMAPPED)
    of_file = f"; it has tiers of {len(has):,}, such as {', '.join(has[:_MOST_SHOWN])}" if has else "; it has no tiers"
    return (
        f"{none if len(unmapped) == len(languages) else some}: {', '.join(shown)}{more}{of_file}. Codes must be the "
        "same, xxx_Ssss"
    )


def _languages(rows: Sequence[Mapping[str, Any]]) -> dict[str, Language]:
    """Join the rows of one language: the tier of its largest corpus, all of its sources, the sum of its tokens."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["code"], []).append(row)
    found = {}
    for code, group in groups.items():
        tokens = [int(row["tokens"]) for row in group if row["tokens"] is not None]
        largest = max(group, key=lambda row: row["tokens"] or 0)
        source = " + ".join(sorted({row["source"] for row in group if row["source"]}))
        found[code] = Language(code, largest["tier"] or UNMAPPED, source, sum(tokens) if tokens else None)
    return found


def _order(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    tiered = [row for row in rows if row["tier"]]
    if any(row["tokens"] for row in tiered):
        return tuple(order_tiers([{**row, "tokens": row["tokens"] or 0} for row in tiered]))
    names = dict.fromkeys(str(row["tier"]) for row in tiered)
    return (*(name for name in TIER_ORDER if name in names), *(name for name in names if name not in TIER_ORDER))


def _mixture_rows(path: Path) -> list[Mapping[str, Any]]:
    _check_size(path)
    try:
        rows = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise ReportError(f"{path}: not valid JSON ({error}); give the mixture.json of a checkpoint") from None
    _check_rows(path, rows)
    return list(rows)


def _check_rows(path: Path, rows: object) -> None:
    types = {"code": str, "source": str, "tier": str | None, "tokens": int}
    if not isinstance(rows, Sequence) or not all(
        isinstance(row, dict) and all(isinstance(row.get(name, ...), kind) for name, kind in types.items())
        for row in rows
    ):
        raise ReportError(f"{path}: no mixture; its rows have `code`, `tier`, `source` and `tokens`")


def _table_rows(path: Path) -> list[Mapping[str, Any]]:
    _check_size(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = list(csv.reader(_without_comments(text), delimiter="\t", quoting=csv.QUOTE_NONE))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReportError(f"{path}: no tab-separated UTF-8 ({error}); save it as such") from None
    header = [name.strip() for name in lines[0]] if lines else []
    key = next((name for name in _CODES if name in header), None)
    if key is None or "tier" not in header:
        raise ReportError(
            f"{path}: the columns {' '.join(header) or '(none)'} are no table of tiers; needed are `code` (or "
            "`language`) and `tier`, separated by tabs"
        )
    rows: list[Mapping[str, Any]] = []
    problems: list[str] = []
    seen: set[tuple[str, str]] = set()
    for number, cells in enumerate(lines[1:], start=2):
        record = dict(zip(header, [cell.strip() for cell in cells], strict=False))
        code, tokens = record.get(key, ""), record.get("tokens", "").removeprefix("~")
        if not any(record.values()):
            continue
        identity = (code, record.get("source", ""))
        if not code or identity in seen:
            problems.append(f"row {number}: {'no code' if not code else f'{code} is given twice; keep one'}")
        if tokens and not tokens.isdecimal():
            problems.append(f"row {number}: tokens = {tokens!r} is not a whole number; write it with digits only")
        seen.add(identity)
        known = int(tokens) if tokens.isdecimal() else None
        rows.append({"code": code, "tier": record.get("tier", ""), "source": record.get("source", ""), "tokens": known})
    if problems:
        more = [f"... and {len(problems) - 20} more"] if len(problems) > 20 else []
        raise ReportError(f"{path}:\n" + "\n".join([*problems[:20], *more]))
    return rows


def _without_comments(text: str) -> Iterable[str]:
    return (line for line in text.splitlines() if not line.startswith("#"))


def _check_size(path: Path) -> None:
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise ReportError(f"{path}: {size:,} bytes are too many for a table of tiers (at most {_MAX_BYTES:,})")
