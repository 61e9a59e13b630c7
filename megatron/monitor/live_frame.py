"""One picture of a run for the terminal, drawn from what is known of it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from megatron.monitor.console import format_duration, incident_text, start_line
from megatron.monitor.curve import draw
from megatron.monitor.live_run import LiveRun
from megatron.monitor.record import Event
from megatron.monitor.summary import TierLine

_NUMBERS_WIDTH, _LEAST_NAME_WIDTH = 34, 16
_LEAST_CHART_WIDTH, _LEAST_CHART_LINES, _MOST_CHART_LINES = 24, 8, 20
_BORDER_COLUMNS, _BORDER_LINES, _HEADING_LINES = 4, 2, 1
_SHOWN_INCIDENTS = 3

Line = tuple[str, Text]


def frame(
    run: LiveRun,
    *,
    name: str,
    now: float,
    width: int,
    height: int | None = None,
    ascii_only: bool = False,
    unreadable_lines: int = 0,
) -> Group:
    """Draw a run.

    Args:
        run: what is known of it.
        name: of the run.
        now: unix seconds.
        width: characters of a line.
        height: lines that there are; None for as many as it takes, with long texts on several.
        ascii_only: draw the curve without Braille.
        unreadable_lines: of the record, told where there is room.
    """
    notes, tiers, numbers = _notes(run, now), _tier_cells(run), _numbers(run)
    above = _header(run, name, now, width)
    begun = [_dim(start_line(run.start))] if run.start else []
    chart_lines = max(len(numbers), _LEAST_CHART_LINES)
    table_frame = _BORDER_LINES + _HEADING_LINES
    if height is None and unreadable_lines:
        notes.append(("left out", Text(f"{unreadable_lines} unreadable line(s), as a killed run leaves them")))
    if height is not None:
        free = height - len(above) - chart_lines - _BORDER_LINES - len(notes)
        if free < table_frame + len(tiers) + len(begun):
            begun = []
        tiers = _shorten(tiers, max(free - table_frame, 2))
        free -= len(begun) + (table_frame + len(tiers) if tiers else 0)
        chart_lines += max(min(free, _MOST_CHART_LINES - chart_lines), 0)
    parts: list[RenderableType] = [*above, *begun, _middle(run, numbers, width, chart_lines, ascii_only)]
    parts += [_labelled(notes, wrapped=height is None)] if notes else []
    parts += [_tier_panel(run, tiers)] if tiers else []
    return Group(*parts)


# ---- where the run stands --------------------------------------------------------------------------------------------


def _header(run: LiveRun, name: str, now: float, width: int) -> list[RenderableType]:
    """Return two lines: name, state and step; how much is done, and what is left."""
    first = Table.grid(expand=True, padding=(0, 2, 0, 0))
    first.add_column(no_wrap=True, overflow="ellipsis")
    first.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    first.add_column(justify="right", no_wrap=True)
    total = None if run.start is None else int(run.start["train_iters"])
    step = f"step {run.step:,}" + ("" if total is None else f" of {total:,}")
    state = _state(run, now)
    shown = max(width - len(state) - len(step) - 4, _LEAST_NAME_WIDTH)
    # Of a long path the end tells runs apart.
    name = name if len(name) <= shown else f"…{name[1 - shown :]}"
    first.add_row(Text(name, style="bold"), state, Text(step))
    if not total:
        return [first]
    second = Table.grid(expand=True, padding=(0, 2, 0, 0))
    second.add_column(ratio=1)
    second.add_column(justify="right", no_wrap=True)
    bar = ProgressBar(total=total, completed=min(run.step, total))
    second.add_row(bar, Text(f"{run.step / total:.1%}{_left(run, now)}"))
    return [first, second]


def _state(run: LiveRun, now: float) -> Text:
    if run.end is not None:
        reason = str(run.end["reason"])
        if reason == "finished":
            return Text(f"finished {_clock(run.end['time'])}", style="bold green")
        why = _one_line(reason.removeprefix("stopped: "))
        return Text(f"stopped {_clock(run.end['time'])}: {why}", style="bold red")
    if run.start is None:
        return Text("not started")
    silence = run.silent_seconds(now)
    if silence is not None:
        return Text(f"silent for {format_duration(silence)}", style="bold yellow")
    return Text("running", style="bold green")


def _left(run: LiveRun, now: float) -> str:
    left = run.seconds_left()
    if left is None or left == 0:
        return ""
    text = f", {format_duration(left)} left"
    goes_on = run.end is None and run.silent_seconds(now) is None
    return f"{text}, until {_clock(max(run.recent[-1]['time'] + left, now))}" if goes_on else text


# ---- curve and numbers -----------------------------------------------------------------------------------------------


def _middle(run: LiveRun, numbers: Sequence[Line], width: int, lines: int, ascii_only: bool) -> RenderableType:
    """Return the panels of the curve and of the numbers, side by side; the numbers alone where it is narrow."""
    inner = _NUMBERS_WIDTH - _BORDER_COLUMNS
    texts = [Text.assemble(label, " " * (inner - len(label) - len(text)), text) for label, text in numbers]
    panel_height = lines + _BORDER_LINES
    title = f"last {len(run.recent)} steps"
    right = Panel(
        Group(*texts), title=Text(title), title_align="left", width=_NUMBERS_WIDTH, height=panel_height
    )
    if width - _NUMBERS_WIDTH < _LEAST_CHART_WIDTH:
        return right
    points = run.curve.points
    title = f"loss, steps {points[0].first_step:,} to {points[-1].last_step:,}" if points else "loss"
    chart = _chart(run, width - _NUMBERS_WIDTH - _BORDER_COLUMNS, lines, ascii_only)
    left = Panel(chart, title=Text(title), title_align="left", height=panel_height)
    both = Table.grid()
    both.add_column(width=width - _NUMBERS_WIDTH)
    both.add_column(width=_NUMBERS_WIDTH)
    both.add_row(left, right)
    return both


def _chart(run: LiveRun, width: int, lines: int, ascii_only: bool) -> Text:
    if not run.curve.points:
        return _dim("no step has finished yet")
    labels = 9
    chart = draw(run.curve.points, width=width - labels, height=lines, ascii_only=ascii_only)
    text = Text(no_wrap=True)
    for number, line in enumerate(chart.lines):
        high = (">" if chart.is_cut else "") + _short(chart.high)
        label = high if number == 0 else _short(chart.low) if number == lines - 1 else ""
        text.append(f"{label:>{labels - 1}} ", style="dim")
        text.append(f"{line}\n", style="cyan")
    return text


def _numbers(run: LiveRun) -> list[Line]:
    if not run.recent:
        return []
    last = run.recent[-1]
    rate, seconds, waiting = run.tokens_per_second(), run.mean("seconds"), run.data_share()
    tflops, mfu = run.mean("tflops_per_process"), run.mean("mfu")
    processes = int(run.start["world_size"]) if run.start else 1
    of_a_process = rate / processes if rate is not None and processes > 1 else None
    step = ["" if seconds is None else _duration(seconds), _written(waiting, ".1%", " for data")]
    machine = {"TFLOP/s": _written(tflops, ",.1f"), "MFU": _written(mfu, ".1%")}
    lines = {
        "loss": _written(last["loss"], ".4f"),
        "  mean": _written(run.mean("loss"), ".4f"),
        "gradient norm": _written(last["gradient_norm"], ".3f"),
        "learning rate": _written(last["learning_rate"], ".2e"),
        "  of new tokens": _written(last.get("new_tokens_learning_rate"), ".2e"),
        "tokens/s": _written(rate, ",.0f"),
        "  a process": _written(of_a_process, ",.0f"),
        "  " + ", ".join(name for name, text in machine.items() if text): ", ".join(filter(None, machine.values())),
        "a step": ", ".join(filter(None, step)),
    }
    broken = {name for name in ("loss", "gradient_norm") if not math.isfinite(last[name])}
    style = {name.replace("_", " "): "bold red" for name in broken}
    return [(label, Text(text, style=style.get(label, ""))) for label, text in lines.items() if text]


def _written(value: float | None, form: str, unit: str = "") -> str:
    return "" if value is None else f"{value:{form}}{unit}"


# ---- checkpoints, sources and problems -------------------------------------------------------------------------------


def _notes(run: LiveRun, now: float) -> list[Line]:
    saved, failed = run.checkpoint, run.checkpoint_failed
    notes: list[Line] = []
    if saved is not None:
        notes.append(("checkpoint", Text(_checkpoint_text(saved, now))))
    if failed is not None:
        over = saved is not None and saved["time"] > failed["time"]
        text = f"step {failed['step']:,}: {_one_line(failed['reason'])}"
        notes.append(("not saved", Text(text, style="dim" if over else "bold red")))
    if sources := run.means("sources"):
        parts = [f"{source} {value:.4f}" for source, value in sources.items()]
        notes.append(("loss by source", Text("  ".join(parts))))
    slow = next((event for event in reversed(run.recent) if event.get("stragglers")), None)
    if slow is not None:
        notes.append(("slow", Text(_stragglers_text(slow), style="yellow")))
    for event in list(run.incidents)[-_SHOWN_INCIDENTS:]:
        text = f"step {event['step']:,}: {_one_line(incident_text(event))}"
        notes.append(("incident", Text(text, style="yellow")))
    return notes


def _checkpoint_text(event: Event, now: float) -> str:
    parts = [f"step {event['step']:,}, {format_duration(max(now - event['time'], 0.0))} ago"]
    parts.append(f"took {event['seconds']:.1f} s")
    waited = event.get("waited_seconds")
    return ", ".join([*parts, *([] if waited is None else [f"training waited {waited:.1f} s"])])


def _stragglers_text(event: Event) -> str:
    parts = [
        f"rank {one['rank']} on {one['host']} {_duration(one['seconds'])} (median {_duration(one['median'])})"
        for one in event["stragglers"]
    ]
    return f"step {event['step']:,}: {', '.join(parts)}"


def _labelled(notes: Sequence[Line], *, wrapped: bool) -> Table:
    table = Table.grid(expand=True, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, no_wrap=not wrapped, overflow="fold" if wrapped else "ellipsis")
    for label, text in notes:
        table.add_row(_dim(label), text)
    return table


# ---- tiers -----------------------------------------------------------------------------------------------------------


def _tier_cells(run: LiveRun) -> list[list[str]]:
    """Return the rows of the table: a tier, its validations where there are some, and the loss of its training text."""
    validation, losses = run.validation, run.means("tiers")
    lines = {line.name: line for line in validation.tiers} if validation else {}
    compared = validation is not None and validation.step != run.first_validated_step
    trained_only = [name for name in losses if name not in lines]
    names = [*sorted(trained_only, key=lambda name: run.tiers.index(name) if name in run.tiers else -1), *lines]
    return [_tier_row(name, lines.get(name), losses.get(name), compared=compared) for name in names]


def _tier_row(name: str, line: TierLine | None, loss: float | None, *, compared: bool) -> list[str]:
    trained = "" if loss is None else f"{loss:.4f}"
    if line is None:
        return [name, "", "", "", "", "", "", trained]
    change = [f"{line.after:.4f}", f"{line.relative:+.1%}", f"{line.improved:,}", f"{line.worse:,}"]
    return [name, f"{line.corpora:,}", f"{line.before:.4f}", *(change if compared else [""] * 4), trained]


def _shorten(rows: list[list[str]], count: int) -> list[list[str]]:
    """Leave rows out before the last one, which sums up, where there are more than ``count``."""
    if len(rows) <= count:
        return rows
    return [*rows[: count - 2], ["..."] + [""] * (len(rows[0]) - 1), rows[-1]] if count > 2 else rows[-count:]


def _tier_panel(run: LiveRun, rows: Sequence[Sequence[str]]) -> Panel:
    headings = ["tier", "corpora", "first", "now", "change", "better", "worse", "train loss"]
    used = [number for number in range(len(headings)) if any(row[number] for row in rows)]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for number in used:
        table.add_column(headings[number], justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(row[number]) for number in used), style="bold" if row[0] == "all" else "")
    return Panel(table, title=Text(_tier_title(run)), title_align="left")


def _tier_title(run: LiveRun) -> str:
    first, last = run.first_validated_step, run.validation
    if first is None or last is None:
        return "tiers"
    return f"bits per byte, step {first:,}" + (f" and step {last.step:,}" if last.step != first else "")


# ---- words -----------------------------------------------------------------------------------------------------------


def _dim(text: str) -> Text:
    return Text(text, style="dim", no_wrap=True, overflow="ellipsis")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _short(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.1e}"


def _duration(seconds: float) -> str:
    """Write the duration of a step, shorter ones in milliseconds."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds:,.0f} s"


def _clock(seconds: float) -> str:
    return time.strftime("%a %d %b %H:%M", time.localtime(seconds))
