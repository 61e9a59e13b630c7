"""A picture of a mixture: what is taken more or less often than it comes, how often it is repeated, and when.

It is drawn from the rows of a plan or of a run's record, so planned and used mixtures look alike.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
"""One row of a ``mixture`` event: tier, source, tokens, sampled_tokens, epochs; max_epochs and capped where known."""

Phase = tuple[int, int, Mapping[str, float]]
"""First sample, samples of the ramp, and the share of every source."""

_WIDTH, _DPI = 12.8, 100
_INK, _FAINT = "#222222", "#b8b8b8"
_SUFFIXES = (".png", ".svg", ".pdf")

# Okabe and Ito's colours, which people with any common colour blindness can tell apart; a marker says the same again.
_HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "^", "s", "D", "P", "X", "v")
# The usual sources look the same in every picture; others take what is left.
_USUAL = ("monolingual", "bilingual", "code", "instruction", "paper", "book")
_LIGHTEST = 0.62
_LABELS = 0.24
"""Part of the width of the panel of shares that its labels take."""
_EPOCHS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclasses.dataclass(frozen=True)
class _Part:
    """A source, or a tier of one, as it is drawn."""

    name: str
    rows: Sequence[Row]
    colour: tuple[float, float, float]
    marker: str
    is_source: bool

    @property
    def tokens(self) -> int:
        return sum(row["tokens"] for row in self.rows)

    @property
    def trained(self) -> int:
        return sum(row["sampled_tokens"] for row in self.rows)


def draw_mixture(
    path: Path, rows: Sequence[Row], *, batch_size: int, samples: int, phases: Sequence[Phase] = ()
) -> None:
    """Draw a mixture into a file of 1,280 pixels' width.

    Args:
        path: ends in ``.png``, ``.svg`` or ``.pdf``.
        rows: one for each corpus.
        batch_size: samples per step.
        samples: length of the run.
        phases: of the mixture; drawn when there are several.

    Raises:
        ValueError: another suffix, or nothing is trained on.
    """
    if path.suffix not in _SUFFIXES:
        raise ValueError(f"{path}: a picture is one of {', '.join(_SUFFIXES)}; change the name")
    rows = [row for row in rows if row["sampled_tokens"]]
    if not rows:
        raise ValueError("there is nothing to draw: no corpus is trained on")
    # Pictures are for few; importing their library takes half a second.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    parts = _parts(rows)
    upper = max(4.6, 1.6 + 0.27 * len(parts))
    lower = 3.0 if len(phases) > 1 else 0.0
    # Text stays text, so that an SVG can be searched; and a name with dollars is no formula.
    style = {"svg.fonttype": "none", "svg.hashsalt": "mixture", "font.size": 10, "text.parse_math": False}
    with rc_context(style):
        figure = Figure(figsize=(_WIDTH, upper + lower), dpi=_DPI, layout="constrained")
        grid = figure.add_gridspec(2 if lower else 1, 2, height_ratios=[upper, lower] if lower else [1])
        _draw_shares(figure.add_subplot(grid[0, 0]), parts)
        _draw_epochs(figure.add_subplot(grid[0, 1]), [part for part in parts if not _is_sum(part, parts)])
        if lower:
            _draw_phases(figure.add_subplot(grid[1, :]), parts, phases, batch_size=batch_size, samples=samples)
        tokens = sum(row["sampled_tokens"] for row in rows)
        figure.suptitle(
            f"{_short(tokens)} tokens in {samples / batch_size:,.0f} steps, {len(rows):,} corpora",
            color=_INK, fontweight="bold",
        )  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _parts(rows: Sequence[Row]) -> list[_Part]:
    """Return every source, each followed by its tiers when it has several; the largest first."""
    sources = _grouped(rows, "source")
    sources.sort(key=lambda item: -sum(row["tokens"] for row in item[1]))
    parts = []
    looks = _looks([source for source, _ in sources])
    for source, of_source in sources:
        number = looks[source]
        hue, marker = _rgb(_HUES[number % len(_HUES)]), _MARKERS[number % len(_MARKERS)]
        parts.append(_Part(source, of_source, hue, marker, is_source=True))
        tiers = _grouped(of_source, "tier")
        tiers.sort(key=lambda item: -sum(row["tokens"] for row in item[1]) / len(item[1]))
        for place, (tier, of_tier) in enumerate(tiers if len(tiers) > 1 else []):
            # Small corpora are light, so that the many of them do not bury the few large ones.
            light = _LIGHTEST * place / (len(tiers) - 1)
            parts.append(_Part(tier, of_tier, _lightened(hue, light), marker, is_source=False))
    return parts


def _looks(sources: Sequence[str]) -> dict[str, int]:
    """Return the number of every source's colour and marker."""
    usual = {source: _USUAL.index(source) for source in sources if source in _USUAL}
    free = [number for number in range(len(_HUES)) if number not in usual.values()]
    others = [source for source in sources if source not in usual]
    return {**usual, **{source: free[place % len(free)] for place, source in enumerate(others)}}


def _is_sum(part: _Part, parts: Sequence[_Part]) -> bool:
    """Tell whether the tiers that follow a source stand for it."""
    following = parts[parts.index(part) + 1 :][:1]
    return part.is_source and bool(following) and not following[0].is_source


def _grouped(rows: Sequence[Row], key: str) -> list[tuple[str, list[Row]]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str(row[key]), []).append(row)
    return list(groups.items())


def _draw_shares(axes: Axes, parts: Sequence[_Part]) -> None:
    """Draw each part's share of the text and of the training tokens, joined by a line."""
    held, trained = (sum(getattr(part, key) for part in parts if part.is_source) for key in ("tokens", "trained"))
    for place, part in enumerate(parts):
        before, after = part.tokens / held, part.trained / trained
        axes.plot([before, after], [place, place], color=part.colour, linewidth=2.2, zorder=2)
        axes.plot(before, place, "o", markersize=6.5, color="white", markeredgecolor=part.colour, zorder=3)
        axes.plot(after, place, part.marker, markersize=7.5, color=part.colour, markeredgecolor=_INK,
                  markeredgewidth=0.5, zorder=4)  # fmt: skip
        label = f"{_percent(after)}  ×{after / before:.2g}"
        axes.annotate(label, (max(before, after), place), xytext=(8, 0), textcoords="offset points", va="center",
                      fontsize=8.5, color=_INK, fontweight="bold" if part.is_source else "normal")  # fmt: skip
    axes.set_xscale("log")
    low = axes.get_xlim()[0]
    axes.set_xlim(low, low ** (-_LABELS / (1 - _LABELS)))  # room for the labels beyond 100 %
    decades = range(0, math.ceil(math.log10(low)) - 1, -1 if low > 1e-6 else -2)
    axes.set_xticks([10.0**power for power in decades])
    axes.set_ylim(len(parts) - 0.4, -0.6)
    axes.set_yticks(range(len(parts)), [part.name for part in parts])
    for part, tick in zip(parts, axes.yaxis.get_major_ticks(), strict=True):
        tick.label1.set_fontweight("bold" if part.is_source else "normal")
    axes.set_xlabel("share of the text (hollow) and of the training tokens (filled)")
    axes.set_title("Sampled more, or less, than its size", loc="left", fontsize=11)
    axes.xaxis.set_major_formatter(lambda value, _: _percent(value))
    _tidy(axes, grid="x")


def _draw_epochs(axes: Axes, parts: Sequence[_Part]) -> None:
    """Draw every corpus by its size and its epochs, with the caps."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    for part in parts:
        for capped in (False, True):
            rows = [row for row in part.rows if bool(row.get("capped")) == capped]
            if rows:
                axes.scatter([row["tokens"] for row in rows], [row["epochs"] for row in rows], s=34, marker=part.marker,
                             color=[part.colour], edgecolors=_INK if capped else "white",
                             linewidths=1.1 if capped else 0.4, zorder=3 + capped)  # fmt: skip
    _draw_caps(axes, parts)
    axes.set_xlabel("tokens of the corpus")
    axes.set_ylabel("epochs in the run")
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.1, high * 1.2)
    axes.set_yticks([tick for tick in _EPOCHS if low <= tick <= high])
    number = sum(bool(row.get("capped")) for part in parts for row in part.rows)
    note = f" (dark edge: {number:,} held back by a cap)" if number else " (colours as on the left)"
    axes.set_title(f"Epochs of every corpus{note}", loc="left", fontsize=11)
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _tidy(axes, grid="both")


def _draw_caps(axes: Axes, parts: Sequence[_Part]) -> None:
    """Draw each cap over the sizes of the corpora that it is for, and name it once, at its left end."""
    left_ends: dict[float, float] = {}
    for part in parts:
        for cap in sorted({float(row["max_epochs"]) for row in part.rows if row.get("max_epochs")}):
            sizes = [row["tokens"] for row in part.rows if row.get("max_epochs") == cap]
            ends = (min(sizes) / 1.25, max(sizes) * 1.25)
            axes.plot(ends, (cap, cap), color=part.colour, linewidth=1.6, linestyle=(0, (4, 1.5)), zorder=2)
            left_ends[cap] = min(ends[0], left_ends.get(cap, ends[0]))
    for cap, left in left_ends.items():
        axes.annotate(f"at most {cap:g} epochs", (left, cap), xytext=(0, 7), textcoords="offset points", fontsize=8.5,
                      color=_INK)  # fmt: skip


def _draw_phases(axes: Axes, parts: Sequence[_Part], phases: Sequence[Phase], *, batch_size: int, samples: int) -> None:
    """Draw the share of every source over the steps."""
    points = course(phases, samples)
    sources = [part for part in parts if part.is_source]
    steps = [first / batch_size for first, _ in points]
    heights = [[shares.get(part.name, 0.0) for _, shares in points] for part in sources]
    axes.stackplot(steps, heights, labels=[part.name for part in sources], colors=[part.colour for part in sources],
                   edgecolor="white", linewidth=0.6)  # fmt: skip
    axes.set_xlim(0, samples / batch_size)
    axes.set_ylim(0, 1)
    axes.set_xlabel("step")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_title("The sources over the run", loc="left", fontsize=11)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, reverse=True)
    _tidy(axes, grid=None)


def course(phases: Sequence[Phase], samples: int) -> list[tuple[int, Mapping[str, float]]]:
    """Return the corners of the sources' shares over the samples of a run, which may end within a ramp."""
    now = phases[0][2]
    points = [(0, now)]
    for first, ramp, shares in phases[1:]:
        if first >= samples:
            break
        done = min(1.0, (samples - first) / ramp) if ramp else 1.0
        points.append((first, now))
        now = {
            source: (1 - done) * now.get(source, 0.0) + done * shares.get(source, 0.0) for source in {**now, **shares}
        }
        points.append((min(first + ramp, samples), now))
    return [*points, (samples, now)]


def _tidy(axes: Axes, *, grid: Literal["x", "both"] | None) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK, labelsize=9)
    axes.minorticks_off()
    if grid is not None:
        axes.grid(axis=grid, color=_FAINT, linewidth=0.5, alpha=0.6)
        axes.set_axisbelow(True)


def _percent(part: float) -> str:
    """Write a share: one decimal from 1 % on, two digits that count below."""
    return f"{part * 100:.1f}%".replace(".0%", "%") if part >= 0.01 else f"{part * 100:.2g}%"


def _short(value: float) -> str:
    """Write a number of tokens in a few characters."""
    for size, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= size:
            return f"{value / size:,.4g} {suffix}"
    return f"{value:g}"


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return red, green, blue


def _lightened(colour: tuple[float, float, float], part: float) -> tuple[float, float, float]:
    red, green, blue = (channel + (1 - channel) * part for channel in colour)
    return red, green, blue
