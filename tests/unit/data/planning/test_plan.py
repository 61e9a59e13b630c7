from __future__ import annotations

from pathlib import Path

import pytest

from megatron.config.mixture_schema import MixtureConfig
from megatron.config.schema import BatchConfig, DataConfig, TrainConfig
from megatron.data.mixture import RunSize
from megatron.data.planning.counts import CountsError
from megatron.data.planning.plan import plan_counts, run_size

TABLE = (
    "name\tsource\twords\ttokens\nswh_Latn\tmonolingual\t500\t\neng_Latn\tmonolingual\t5000\t8000\npy\tcode\t\t4000\n"
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "counts.tsv"
    path.write_text(TABLE)
    return path


def mixture(**values: object) -> MixtureConfig:
    tiers = {"high": {"above": 1000, "rate": 1}, "low": {"above": 10, "rate": 4}}
    return MixtureConfig.model_validate({"tiers": tiers, "sources": {"monolingual": 3, "code": 1}, **values})


def test_counts_are_planned_like_shards(table: Path) -> None:
    size = RunSize(seq_length=10, batch_size=4, train_iters=100)
    plan = plan_counts([table], mixture(), tokens_per_word="2", run=size, seed=1)
    rows = {row["corpus"]: row for row in plan.rows}
    assert {name: row["sampled_tokens"] for name, row in rows.items()} == {
        "eng_Latn": pytest.approx(2000, abs=20), "swh_Latn": pytest.approx(1000, abs=20),
        "py": pytest.approx(1000, abs=20),
    }  # fmt: skip
    assert {name: row["estimated"] for name, row in rows.items()} == {"eng_Latn": False, "swh_Latn": True, "py": False}
    assert (plan.batch_size, plan.samples, len(plan.phases)) == (4, 400, 1)
    assert plan.phases[0].sources == pytest.approx({"monolingual": 0.75, "code": 0.25})
    assert plan.bound is not None and plan.bound < 2


def test_phases_are_added_up_by_source(table: Path) -> None:
    section = mixture(phases=[{"from_step": 50, "ramp_steps": 10, "sources": {"monolingual": 1, "code": 1}}])
    size = RunSize(seq_length=10, batch_size=4, train_iters=100)
    phases = plan_counts([table], section, tokens_per_word="2", run=size, seed=1).phases
    assert [(phase.first_sample, phase.ramp_samples) for phase in phases] == [(0, 0), (200, 40)]
    assert phases[1].sources == pytest.approx({"monolingual": 0.5, "code": 0.5})


def test_a_unit_that_the_counts_lack_is_refused(table: Path) -> None:
    size = RunSize(seq_length=10, batch_size=4, train_iters=100)
    with pytest.raises(CountsError, match="bytes"):
        plan_counts([table], mixture(unit="bytes"), tokens_per_word="2", run=size, seed=1)


def test_a_whole_batch_does_not_depend_on_the_machine() -> None:
    data, train = DataConfig(seq_length=8), TrainConfig(train_iters=3)
    whole = BatchConfig(train_batch_size=4096)
    assert run_size(data, whole, train, processes=7) == RunSize(seq_length=8, batch_size=4096, train_iters=3)
    part = BatchConfig(train_micro_batch_size_per_gpu=2, gradient_accumulation_steps=3)
    assert run_size(data, part, train, processes=7).batch_size == 42


def test_monolingual_text_without_a_language_code_has_the_tier_of_its_size(tmp_path: Path) -> None:
    path = tmp_path / "languages.tsv"  # MaLA has such corpora, which EMMA-500 leaves out for their size
    path.write_text("code\ttexts\ttokens\nswh_Latn\t9\t500\nzxx_Latn\t9\t5\n")
    size = RunSize(seq_length=10, batch_size=1, train_iters=10)
    rows = plan_counts([path], mixture(sources=None), tokens_per_word="2", run=size, seed=1).rows
    assert [(row["corpus"], row["tier"], row["reason"]) for row in rows] == [
        ("swh_Latn", "low", ""), ("zxx_Latn", "unseen", "below the lowest tier"),
    ]  # fmt: skip
