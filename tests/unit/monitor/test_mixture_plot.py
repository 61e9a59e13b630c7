from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from megatron.monitor.mixture_plot import course, draw_mixture

TIERS = {"high": (10**9, 0.1), "medium": (10**7, 2.0), "low": (10**5, 8.0)}


def rows(**changes: Any) -> list[dict[str, Any]]:
    found = [
        {"tier": tier, "source": "monolingual", "tokens": tokens * (number + 1),
         "sampled_tokens": int(tokens * (number + 1) * epochs), "epochs": epochs, **changes}
        for tier, (tokens, epochs) in TIERS.items()
        for number in range(5)
    ]  # fmt: skip
    found.append({"tier": "code", "source": "code", "tokens": 10**8, "sampled_tokens": 10**8, "epochs": 1.0})
    found.append({"tier": "unseen", "source": "monolingual", "tokens": 10, "sampled_tokens": 0, "epochs": 0.0})
    return found


def texts(svg: Path) -> str:
    return "\n".join(re.findall(r">([^<>]+)</text>", svg.read_text(encoding="utf-8")))


def test_a_picture_is_1280_pixels_wide(tmp_path: Path) -> None:
    path = tmp_path / "new" / "plan.png"
    draw_mixture(path, rows(), batch_size=8, samples=800)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20], "big") == 1280
    draw_mixture(tmp_path / "plan.pdf", rows(), batch_size=8, samples=800)
    assert (tmp_path / "plan.pdf").read_bytes().startswith(b"%PDF")


def test_it_names_what_it_shows(tmp_path: Path) -> None:
    capped = rows(max_epochs=8.0)
    for row in capped:
        row["capped"] = row["tier"] == "low"
    draw_mixture(tmp_path / "plan.svg", capped, batch_size=8, samples=800)
    shown = texts(tmp_path / "plan.svg")
    for text in ("monolingual", "high", "medium", "low", "code", "at most 8 epochs", "5 held back by a cap",
                 "in 100 steps, 16 corpora"):  # fmt: skip
        assert text in shown, text
    assert "unseen" not in shown and "over the run" not in shown


def test_phases_are_drawn_up_to_the_end_of_the_run(tmp_path: Path) -> None:
    phases = [(0, 0, {"monolingual": 0.9, "code": 0.1}), (400, 80, {"monolingual": 0.5, "code": 0.5}),
              (10**6, 0, {"monolingual": 0.1, "code": 0.9})]  # fmt: skip
    draw_mixture(tmp_path / "plan.svg", rows(), batch_size=8, samples=800, phases=phases)
    shown = texts(tmp_path / "plan.svg")
    assert "The sources over the run" in shown and "step" in shown
    assert "125,000" not in shown


def test_it_is_the_same_file_every_time(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        draw_mixture(tmp_path / name, rows(), batch_size=8, samples=800)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_many_sources_and_strange_names_can_be_drawn(tmp_path: Path) -> None:
    many = [{**rows()[0], "source": f"source $\\x$ {number} <b>"} for number in range(12)]
    draw_mixture(tmp_path / "plan.svg", many, batch_size=8, samples=800)
    draw_mixture(tmp_path / "one.png", rows()[:1], batch_size=8, samples=800)


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"plan\.gif: a picture is one of \.png, \.svg, \.pdf"):
        draw_mixture(tmp_path / "plan.gif", rows(), batch_size=8, samples=800)
    with pytest.raises(ValueError, match="no corpus is trained on"):
        draw_mixture(tmp_path / "plan.png", rows()[-1:], batch_size=8, samples=800)


def test_no_window_system_is_touched(tmp_path: Path) -> None:
    there = "matplotlib.pyplot" in sys.modules
    draw_mixture(tmp_path / "plan.png", rows(), batch_size=8, samples=800)
    assert ("matplotlib.pyplot" in sys.modules) == there


def test_a_run_may_end_within_a_ramp() -> None:
    phases = [(0, 0, {"a": 1.0}), (40, 80, {"a": 0.5, "b": 0.5}), (200, 0, {"b": 1.0})]
    assert course(phases, 80) == [(0, {"a": 1.0}), (40, {"a": 1.0}), (80, {"a": 0.75, "b": 0.25}),
                                   (80, {"a": 0.75, "b": 0.25})]  # fmt: skip
    assert [first for first, _ in course(phases, 300)] == [0, 40, 120, 200, 200, 300]
