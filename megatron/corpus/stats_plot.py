"""A picture of a corpus: what the stages dropped, how large the corpora are, and what their text costs in tokens."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from megatron.config.mixture_schema import MALA_TIERS
from megatron.corpus.pieces import CorpusName
from megatron.corpus.stats import Row, TokenSizes
from megatron.corpus.tally import Tally
from megatron.data.mixing.tiers import BELOW
from megatron.utils.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH, _HEIGHT, _DPI = 12.8, 9.0, 100
_FAINT = "#b8b8b8"
# Okabe and Ito's colours, which people with any common colour blindness can tell apart.
_HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STAGES = ("script", "clean", "filters", "paragraphs", "dedup", "split")
_SCRIPTS = 24


def draw_stats(path: Path, rows: Sequence[Row], tally: Tally, corpora: Sequence[CorpusName]) -> None:
    """Draw three panels into a PNG file of 1,280 pixels' width.

    Args:
        path: the file.
        rows: a row for each corpus.
        tally: what the stages have counted.
        corpora: the corpora of the rows.
    """
    # Not pyplot, which keeps figures and a back end for the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2)
    _draw_drops(figure.add_subplot(grid[0, 0]), tally)
    _draw_sizes(figure.add_subplot(grid[0, 1]), rows)
    _draw_costs(figure.add_subplot(grid[1, :]), rows, {corpus.name: corpus for corpus in corpora})
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def _draw_drops(axes: Axes, tally: Tally) -> None:
    """Bars of documents dropped, one for each rule that dropped any."""
    dropped: dict[tuple[str, str], int] = {}
    for key, documents, _ in tally.items(kind="dropped"):
        if key.stage in _STAGES:
            dropped[(key.stage, key.rule)] = dropped.get((key.stage, key.rule), 0) + documents
    ordered = sorted(dropped.items(), key=lambda item: (_STAGES.index(item[0][0]), -item[1]))
    names = [f"{stage}: {rule.replace('_', ' ')}" for (stage, rule), _ in ordered]
    counts = [count for _, count in ordered]
    hues = [_HUES[_STAGES.index(stage) % len(_HUES)] for (stage, _), _ in ordered]
    axes.barh(range(len(names)), counts, color=hues)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.bar_label(axes.containers[0], labels=[f" {count:,}" for count in counts], fontsize=8)  # type: ignore[arg-type]
    axes.margins(x=0.15)
    axes.set_title("Documents dropped", loc="left")
    _plain(axes)


def _draw_sizes(axes: Axes, rows: Sequence[Row]) -> None:
    """Corpora in the order of their size, coloured by tier."""
    sizes = [max(1, row.text.of("words")) for row in rows]
    order = sorted(range(len(rows)), key=lambda place: -sizes[place])
    rank = {place: number for number, place in enumerate(order, start=1)}
    tiers = [name for name in (*MALA_TIERS, BELOW, "") if any(row.tier == name for row in rows)]
    tiers += sorted({row.tier for row in rows} - set(tiers))
    for number, tier in enumerate(tiers):
        places = [place for place in range(len(rows)) if rows[place].tier == tier]
        xs, ys = [rank[place] for place in places], [sizes[place] for place in places]
        axes.scatter(xs, ys, s=8, color=_HUES[number % len(_HUES)], label=f"{tier or 'no language'} ({len(places)})")
    axes.set_yscale("log")
    axes.set_xlabel("corpora, the largest first")
    axes.set_title("Words of each corpus, and the tier that they propose", loc="left")
    axes.legend(fontsize=8, frameon=False)
    _plain(axes)


def _draw_costs(axes: Axes, rows: Sequence[Row], corpora: Mapping[str, CorpusName]) -> None:
    """Bytes per token of the corpora of each script, for every tokenizer."""
    tokenizers = list(dict.fromkeys(name for row in rows for name in row.tokens))
    by_script: dict[str, list[Row]] = {}
    for row in rows:
        corpus = corpora[row.name]
        if corpus.has_language and not corpus.is_pair:
            by_script.setdefault(corpus.labels[0].script, []).append(row)
    scripts = sorted(by_script, key=lambda script: (-len(by_script[script]), script))[:_SCRIPTS]
    if not tokenizers or not scripts:
        axes.text(0.5, 0.5, "no tokenizer was given", ha="center", color=_FAINT)
        axes.set_axis_off()
        return
    for number, tokenizer in enumerate(tokenizers):
        label: str | None = tokenizer
        offset = (number - (len(tokenizers) - 1) / 2) * 0.8 / len(tokenizers)
        for place, script in enumerate(scripts):
            costs = [_cost(row.tokens.get(tokenizer)) for row in by_script[script]]
            known = [cost for cost in costs if cost is not None]
            hue, x = _HUES[number % len(_HUES)], place + offset
            axes.plot([x] * len(known), known, "o", markersize=3, alpha=0.35, color=hue)
            if known:
                axes.plot([x - 0.15, x + 0.15], [statistics.median(known)] * 2, color=hue, linewidth=2, label=label)
                label = None
    axes.set_xticks(range(len(scripts)), [f"{script}\n{len(by_script[script])}" for script in scripts], fontsize=8)
    axes.set_ylabel("bytes per token")
    axes.set_title("What text costs: each corpus a dot, the median of each script a line", loc="left")
    axes.legend(fontsize=8, frameon=False)
    _plain(axes)


def _cost(held: TokenSizes | None) -> float | None:
    return held.bytes / held.tokens if held is not None and held.tokens else None


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", color=_FAINT, linewidth=0.3)
    axes.set_axisbelow(True)
