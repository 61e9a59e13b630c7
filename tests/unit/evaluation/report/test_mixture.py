from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from megatron.evaluation.report.data import load_run
from megatron.evaluation.report.mixture import corpus_parts, mixture_section
from megatron.evaluation.used_mixture import used_plan
from megatron.monitor.record import MetricsError, MetricsWriter

TIERS = {"high": "t0", "low": "t1"}


def rows(**changes: Any) -> list[dict[str, Any]]:
    base = {"source": "monolingual", "share": 0.5, "samples": 40, "sampled_tokens": 400}
    return [
        {**base, "corpus": "eng_Latn", "code": "eng_Latn", "tier": "high", "tokens": 1000, "epochs": 0.4},
        {**base, "corpus": "swh_Latn", "code": "swh_Latn", "tier": "low", "tokens": 100, "epochs": 4.0, **changes},
    ]


def record(folder: Path, *, used: bool, phases: Sequence[dict[str, Any]] = (), **changes: Any) -> Path:
    with MetricsWriter(folder / "metrics.jsonl") as writer:
        writer.write("start", 0, tokens_per_step=80, train_iters=10, resumed_from=None)
        writer.write("mixture", 0, kind="planned", rows=rows(**changes), phases=list(phases))
        if used:
            writer.write("mixture", 10, kind="used", rows=rows(**changes))
            writer.write("end", 10, reason="finished")
    return folder


def test_caps_and_repeats_are_shown(tmp_path: Path) -> None:
    run = load_run(record(tmp_path, used=True, max_epochs=4.0, capped=True, repeats_at=20))
    html = mixture_section(run, TIERS)
    assert "Cap" in html and "<b>4</b>" in html
    assert "Limits on epochs held 1 corpus back" in html
    assert "Repeats from step" in html and ">3</td>" in html  # sample 20 of 8 samples a step


def test_records_without_caps_have_no_such_columns(tmp_path: Path) -> None:
    html = mixture_section(load_run(record(tmp_path, used=True)), TIERS)
    assert "Cap" not in html and "Repeats" not in html
    assert "4.00" in html


def test_a_cap_that_holds_nothing_back_is_not_bold(tmp_path: Path) -> None:
    html = mixture_section(load_run(record(tmp_path, used=False, max_epochs=8.0, capped=False)), TIERS)
    assert "Cap" in html and "<b>" not in html


def test_parts_take_what_was_used_over_what_was_planned() -> None:
    parts = corpus_parts(rows(max_epochs=4.0, repeats_at=20), rows(max_epochs=4.0, repeats_at=30, capped=True))
    assert [(part.max_epochs, part.repeats_at, part.capped) for part in parts] == [(None, None, False), (4.0, 30, True)]


def test_the_used_mixture_has_the_shape_of_a_plan(tmp_path: Path) -> None:
    plan = used_plan(record(tmp_path, used=True, repeats_at=20))
    assert (plan.batch_size, plan.samples, plan.bound, list(plan.phases)) == (8, 80, None, [])
    assert [row["corpus"] for row in plan.rows] == ["eng_Latn", "swh_Latn"]


PHASES = (
    {"first_sample": 0, "ramp_samples": 0, "sources": {"monolingual": 1.0}},
    {"first_sample": 40, "ramp_samples": 16, "sources": {"monolingual": 0.5, "code": 0.5}},
)


def test_phases_are_drawn_and_listed(tmp_path: Path) -> None:
    folder = record(tmp_path, used=True, phases=PHASES)
    html = mixture_section(load_run(folder), TIERS)
    assert "Shares of the sources as planned" in html and "code" in html
    assert [(phase.first_sample, phase.sources["monolingual"]) for phase in used_plan(folder).phases] == [
        (0, 1.0), (40, 0.5),
    ]  # fmt: skip


def test_one_phase_needs_no_chart(tmp_path: Path) -> None:
    run = load_run(record(tmp_path, used=True, phases=PHASES[:1]))
    assert "Shares of the sources" not in mixture_section(run, TIERS)


def test_the_used_share_is_counted() -> None:
    used = rows()
    used[0]["sampled_tokens"] = 1200
    assert [(part.planned, part.used) for part in corpus_parts(rows(), used)] == [(0.5, 0.75), (0.5, 0.25)]


def test_a_run_that_is_not_over_has_no_used_mixture(tmp_path: Path) -> None:
    with pytest.raises(MetricsError, match="no used mixture yet"):
        used_plan(record(tmp_path, used=False))
    with pytest.raises(MetricsError, match="does not exist"):
        used_plan(tmp_path / "none")
