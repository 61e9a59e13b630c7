"""The mixture as tables for people: by source and tier, by script, by language, and corpus by corpus."""

from __future__ import annotations

from collections.abc import Sequence

from megatron.data.planning.plan_groups import (
    Group,
    Row,
    SourcePhase,
    by_language,
    by_script,
    by_source,
    group_rows,
    tiers_of,
    wanted_share,
)
from megatron.utils.table import text_table

BY = {"script": by_script, "language": by_language}
"""What else a mixture can be added up by; a pair belongs half to each of its languages."""

_COLUMNS = (
    "corpus", "code", "tier", "source", "tokens", "estimated", "share", "wanted", "samples", "sampled_tokens", "epochs",
    "max_epochs", "capped", "repeats_at", "reason",
)  # fmt: skip
_TINY = 1e-9


def plan_tables(
    rows: Sequence[Row],
    *,
    corpora: int = 20,
    by: Sequence[str] = (),
    batch_size: int | None = None,
    samples: int | None = None,
    phases: Sequence[SourcePhase] = (),
) -> str:
    """Return the tables of a plan (or of what was used).

    Corpora that are left out are counted at the end, and listed only among single corpora.

    Args:
        rows: from :meth:`megatron.data.mixture.Mixture.rows`; a key ``estimated`` marks tokens that are estimates.
        corpora: how many single corpora (and scripts, and languages) to list; 0 lists all.
        by: further tables: ``script``, ``language``.
        batch_size: samples per step, to tell when corpora repeat in steps; in samples when absent.
        samples: length of the run, to tell which phases it reaches.
        phases: of the mixture; told when there are several.
    """
    table = _Tables(rows, batch_size)
    trained = [row for row in rows if not _is_left_out(row)]
    parts = [table.of("source", group_rows(trained, by_source)), table.of("tier", _named_tiers(trained))]
    for name in by:
        parts.append(_longest(table, f"{name} (pairs: half)", group_rows(trained, BY[name]), corpora))
    parts.append(_by_corpus(table, rows, corpora))
    parts += [part for part in (caps_summary(rows), phase_table(phases, batch_size, samples), _left_out(rows)) if part]
    if table.notes():
        parts.append(table.notes())
    return "\n\n".join(parts)


def plan_tsv(rows: Sequence[Row]) -> str:
    """Return every row as a line of tab-separated values, with a header."""
    lines = ["\t".join(_COLUMNS)]
    for row in rows:
        values = [row.get(column) for column in _COLUMNS]
        lines.append("\t".join("" if value is None else str(value) for value in values))
    return "\n".join(lines) + "\n"


def caps_summary(rows: Sequence[Row]) -> str:
    """Tell which tiers caps on epochs have taken tokens from, and which got them; empty when no corpus is capped."""
    total = sum(row["sampled_tokens"] for row in rows)
    capped = sum(bool(row.get("capped")) for row in rows)
    if not capped:
        return ""
    tiers = [
        tier
        for tier in _named_tiers([row for row in rows if not _is_left_out(row)])
        if max(tier.lost, tier.got) > _TINY
    ]
    moved = sum(tier.lost for tier in tiers)
    lines = [f"caps on epochs hold {_corpora(capped)} back; they moved {moved:.2%} of the tokens"]
    width = max((len(tier.name) for tier in tiers), default=0)
    for tier in sorted(tiers, key=lambda tier: tier.got - tier.lost):
        told = [f"{verb} {part * total:,.0f} ({part:.3%})" for verb, part in (("lost", tier.lost), ("got", tier.got))
                if part > _TINY]  # fmt: skip
        of_capped = f"; {tier.capped:,} of {tier.corpora:,} corpora capped" if tier.capped else ""
        lines.append(f"  {tier.name:<{width}}  {', '.join(told)}{of_capped}")
    return "\n".join(lines)


def phase_table(phases: Sequence[SourcePhase], batch_size: int | None, samples: int | None) -> str:
    """Tell where the phases start and what each source has in them; empty for a mixture of one phase."""
    if len(phases) < 2:
        return ""
    unit, size = ("step", batch_size) if batch_size else ("sample", 1)
    everywhere = {source: sum(phase.sources.get(source, 0.0) for phase in phases) for source in phases[0].sources}
    sources = sorted(everywhere, key=lambda source: -everywhere[source])
    heads = [f"{source:>{max(8, len(source))}}" for source in sources]
    lines = [f"{'phase':<6} {'after ' + unit:>12} {'ramp':>9} {' '.join(heads)}"]
    for number, phase in enumerate(phases, start=1):
        cells = [
            f"{phase.sources.get(source, 0.0):>{len(head)}.2%}" for source, head in zip(sources, heads, strict=True)
        ]
        late = "  not reached" if samples is not None and phase.first_sample >= samples else ""
        first, ramp = _quotient(phase.first_sample, size), _quotient(phase.ramp_samples, size)
        lines.append(f"{number:<6} {first:>12} {ramp:>9} {' '.join(cells)}{late}")
    return "\n".join(lines)


def _percent(part: float) -> str:
    """Write a share: two decimals, and for the smallest corpora the first digit that is not 0."""
    return f"{part:.2%}" if part >= 1e-4 or not part else f"{100 * part:.1g}%"


def _quotient(samples: int, size: int) -> str:
    return f"{samples // size:,}" if samples % size == 0 else f"{samples / size:,.1f}"


class _Tables:
    """Lays groups out; remembers which notes the tables need."""

    def __init__(self, rows: Sequence[Row], batch_size: int | None) -> None:
        self._batch_size = batch_size
        self._moved = any(abs(row["share"] - wanted_share(row)) > _TINY for row in rows)
        self._repeats = any("repeats_at" in row for row in rows)
        self._trained = sum(row["sampled_tokens"] for row in rows) or 1
        self._rows = rows

    def of(self, title: str, groups: Sequence[Group]) -> str:
        """Return one table."""
        head = [title, "corpora", "tokens", "share", *(["uncapped"] if self._moved else [])]
        # The space stands where the lines below have the mark of a cap.
        head += ["trained tokens", "epochs", "most "]
        head += ["repeats at " + ("step" if self._batch_size else "sample")] if self._repeats else []
        return text_table([head, *(self._cells(group) for group in groups)])

    def _cells(self, group: Group) -> list[str]:
        cells = [group.name, f"{group.corpora:,}", f"{'~' if group.estimated else ''}{group.tokens:,.0f}"]
        # Of what the table shows: a run that has paused, or was planned as part of a longer one, has had other shares.
        cells += [_percent(group.trained / self._trained), *([_percent(group.wanted)] if self._moved else [])]
        mark = "*" if group.capped else " "
        cells += [f"{group.trained:,.0f}", f"{group.epochs:.2f}", f"{group.most_epochs:.2f}{mark}"]
        if self._repeats:
            # Steps are counted from 1 on, samples from 0.
            at = group.repeats_at
            cells.append("" if at is None else f"{at // self._batch_size + 1 if self._batch_size else at:,}")
        return cells

    def notes(self) -> str:
        """Explain the marks that the tables hold."""
        lines = []
        if any(row.get("capped") for row in self._rows):
            lines.append("* held back by a cap on epochs (max_epochs)")
        if any(row.get("estimated") for row in self._rows):
            lines.append("~ an estimate: tokens reckoned from words, or a size that the table of counts marks with ~")
        return "\n".join(lines)


def _named_tiers(rows: Sequence[Row]) -> list[Group]:
    """Return the tiers of all sources under names that tell the source; text without a language has its source's."""
    groups = []
    for source, tiers in tiers_of(rows):
        for tier in tiers:
            tier.name = source if tier.name == source else f"{source}, {tier.name}"
            groups.append(tier)
    return groups


def _by_corpus(table: _Tables, rows: Sequence[Row], number: int) -> str:
    ordered = sorted(rows, key=lambda row: (-row["epochs"], row["corpus"]))
    groups = [group for row in ordered for group in group_rows([row], lambda row: [(str(row["corpus"]), 1.0)])]
    shown = groups[:number] if number else groups
    more = f"\n... and {len(groups) - len(shown):,} corpora with fewer epochs" if len(shown) < len(groups) else ""
    return table.of("corpus", shown) + more


def _longest(table: _Tables, title: str, groups: Sequence[Group], number: int) -> str:
    ordered = sorted(groups, key=lambda group: (-group.trained, group.name))
    shown = ordered[:number] if number else ordered
    more = f"\n... and {len(ordered) - len(shown):,} more with fewer tokens" if len(shown) < len(ordered) else ""
    return table.of(title, shown) + more


def _is_left_out(row: Row) -> bool:
    """Tell whether a corpus is not trained on; one of a phase that is still to come is not left out."""
    return bool(row["share"] == 0 if row.get("reason") is None else row["reason"])


def _corpora(number: int) -> str:
    return "1 corpus" if number == 1 else f"{number:,} corpora"


def _left_out(rows: Sequence[Row]) -> str:
    """Count the corpora that are not trained on, by the reason."""
    groups: dict[str, list[Row]] = {}
    for row in filter(_is_left_out, rows):
        groups.setdefault(row.get("reason") or "since their tier is not trained on", []).append(row)
    lines = [
        f"left out, {reason}: {_corpora(len(group))}, {sum(row['tokens'] for row in group):,} tokens"
        for reason, group in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]
    return "\n".join(lines)
