from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.config.mixture_schema import MixtureConfig
from megatron.data.manifest import Manifest, ShardInfo, TokenizerInfo
from megatron.data.mixing.phases import PhaseStart, samples_of
from megatron.data.mixture import Mixture, MixtureError, RunSize, plan_mixture
from megatron.data.order import SampleOrder
from megatron.data.phased_interleaving import OrderPhase

RUN = RunSize(seq_length=16, batch_size=10, train_iters=100)


def shard(name: str, tokens: int, source: str = "monolingual") -> ShardInfo:
    return ShardInfo(
        name=name,
        path=name,
        split="train",
        source=source,
        language="zxx" if source == "code" else "eng",
        script="Zyyy" if source == "code" else "Latn",
        documents=1,
        words=tokens,
        tokens=tokens,
        bytes=tokens,
        unk_tokens=0,
        dtype="uint16",
        content_hash="0",
    )


def manifest(**sizes: int) -> Manifest:
    shards = [shard(name, tokens, "code" if name.startswith("c") else "monolingual") for name, tokens in sizes.items()]
    return Manifest(TokenizerInfo("SPMTokenizer", "f", 100, 2), tuple(shards))


def plan(corpora: Manifest, run: RunSize = RUN, **values: Any) -> Mixture:
    tiers = {"high": {"above": 1000, "rate": 1}, "low": {"above": 10, "rate": 4}}
    return plan_mixture(corpora, MixtureConfig.model_validate({"tiers": tiers, **values}), run=run)


def shares(planned: Mixture) -> list[dict[str, float]]:
    names = [corpus.shard.name for corpus in planned.trained]
    return [dict(zip(names, phase.shares, strict=True)) for phase in planned.phases]


def test_a_phase_replaces_the_keys_that_it_names() -> None:
    planned = plan(
        manifest(a=2000, b=500, c=70),
        sources={"monolingual": 3, "code": 1},
        phases=[
            {"from_step": 20, "ramp_steps": 5, "sources": {"monolingual": 1, "code": 1}},
            {"from_tokens": 8001, "ramp_tokens": 17, "exclude": {"sources": ["code"]}, "alpha": 0},
        ],
    )
    assert shares(planned) == [
        {"a": 0.375, "b": 0.375, "c": 0.25},
        {"a": 0.25, "b": 0.25, "c": 0.5},
        {"a": 0.2, "b": 0.8, "c": 0.0},
    ]
    starts = [(p.first_sample, p.ramp_samples, p.from_step, p.ramp_steps) for p in planned.phases]
    assert starts == [(0, 0, None, None), (200, 50, 20, 5), (501, 2, None, None)]
    # Half of a ramp still goes to the phase before it.
    lengths = samples_of([PhaseStart(0, 0), PhaseStart(200, 50), PhaseStart(501, 2)], 1000)
    assert lengths == [225, 277, 498]
    assert planned.corpora[2].share == pytest.approx((225 * 0.25 + 277 * 0.5) / 1000)
    assert planned.not_reached == ()


@given(st.data())
def test_phases_get_the_samples_that_the_order_gives_them(data: st.DataObject) -> None:
    starts = [PhaseStart(0, 0)]
    for _ in range(data.draw(st.integers(0, 3))):
        first = starts[-1].first + max(1, starts[-1].ramp) + data.draw(st.integers(0, 20))
        starts.append(PhaseStart(first, data.draw(st.integers(0, 20))))
    total = data.draw(st.integers(0, 120))
    # A corpus for each phase: then the order's counts are the phases' lengths.
    phases = [
        OrderPhase(start.first, start.ramp, tuple(float(i == k) for i in range(len(starts))))
        for k, start in enumerate(starts)
    ]
    order = SampleOrder(seed=0, names="abcd"[: len(starts)], tokens=[9] * len(starts), phases=phases, seq_length=2)
    assert samples_of(starts, total) == order.interleaving.counts(total)


def test_a_corpus_of_a_later_phase_alone_is_trained_on() -> None:
    phases = [{"from_step": 50, "sources": {"monolingual": 1, "code": 1}, "exclude": {"corpora": ["z"]}}]
    sources, exclude = {"monolingual": 1, "code": 1}, {"sources": ["code"]}
    planned = plan(manifest(a=2000, c=70, z=300), sources=sources, exclude=exclude, phases=phases)
    assert [(corpus.shard.name, corpus.reason) for corpus in planned.corpora] == [("a", ""), ("c", ""), ("z", "")]
    assert shares(planned) == [{"a": 0.625, "c": 0.0, "z": 0.375}, {"a": 0.5, "c": 0.5, "z": 0.0}]
    assert planned.corpora[1].share == 0.25
    order = planned.order(seed=0, seq_length=16)
    drawn = Counter(order.sample(i).corpus for i in range(1000))
    assert [row["samples"] for row in planned.rows(order, samples=1000)] == [drawn[0], drawn[1], drawn[2]]


def test_a_corpus_below_the_tiers_of_the_first_phase_goes_by_the_tier_of_the_next() -> None:
    planned = plan(manifest(a=2000, b=5), phases=[{"from_step": 50, "tiers": {"any": {"above": 0, "rate": 1}}}])
    assert [(corpus.tier, corpus.reason) for corpus in planned.corpora] == [("high", ""), ("any", "")]


def test_phases_after_the_run_are_planned_and_listed() -> None:
    phases = [{"from_step": 100, "weights": {"c": 1}, "exclude": {}}]
    planned = plan(manifest(a=2000, c=70), phases=phases, exclude={"corpora": ["c"]})
    assert [phase.first_sample for phase in planned.not_reached] == [1000]
    assert [corpus.share for corpus in planned.corpora] == [1.0, 0.0]
    assert shares(planned) == [{"a": 1.0, "c": 0.0}, {"a": 0.0, "c": 1.0}]


def test_limits_count_over_a_border() -> None:
    # c: 2 x 2000 tokens are 250 samples of the 1,000; wanted are 100 and 400.
    planned = plan(
        manifest(a=200_000, c=2000),
        sources={"monolingual": 0.8, "code": {"share": 0.2, "max_epochs": 2}},
        phases=[{"from_step": 50, "sources": {"monolingual": 0.2, "code": {"share": 0.8, "max_epochs": 2}}}],
    )
    assert shares(planned) == [
        pytest.approx({"a": 0.9, "c": 0.1}),
        pytest.approx({"a": 0.6, "c": 0.4}),
    ]
    assert planned.corpora[1].capped and not planned.corpora[0].capped
    assert (planned.corpora[1].wanted, planned.corpora[1].share) == (pytest.approx(0.5), pytest.approx(0.25))
    rows = planned.rows(planned.order(seed=0, seq_length=16), samples=RUN.samples)
    assert rows[1]["samples"] == 250 and rows[1]["epochs"] == 2.0


def test_the_tier_s_limit_comes_before_the_source_s_and_that_before_the_mixture_s() -> None:
    def limits(tier: float | None, source: float | None, mixture: float | None) -> float | None:
        tiers = {"all": {"above": 0, "rate": 1, "max_epochs": tier}}
        sources = {"monolingual": {"max_epochs": source}}
        planned = plan(manifest(a=10**6), tiers=tiers, sources=sources, max_epochs=mixture)
        return planned.corpora[0].max_epochs

    assert [limits(3, 2, 1), limits(None, 2, 1), limits(None, None, 1), limits(None, None, None)] == [3, 2, 1, None]


def test_the_lowest_limit_of_the_phases_that_train_on_a_corpus_holds() -> None:
    def limits(**phase: Any) -> list[float | None]:
        tiers = {"all": {"above": 0, "rate": 1, "max_epochs": 2}}
        planned = plan(manifest(a=10**6, b=10**6), max_epochs=5, phases=[{"from_step": 50, "tiers": tiers, **phase}])
        return [corpus.max_epochs for corpus in planned.corpora]

    assert limits() == [2, 2]
    assert limits(exclude={"corpora": ["b"]}) == [2, 5]
    assert limits(from_step=100) == [5, 5]  # after the planned run


def test_a_run_longer_than_the_limits_allow_is_refused_with_the_numbers() -> None:
    with pytest.raises(MixtureError) as caught:
        plan(manifest(a=2000, b=500), max_epochs=4)
    assert str(caught.value) == (
        "mixture: max_epochs (of the mixture, its sources and tiers) leaves 10,000 training tokens here, but 16,000 "
        "are planned; raise max_epochs, train on more corpora, or plan for fewer tokens"
    )
    phases = [{"from_step": 50, "include": {"corpora": ["b"]}}]
    with pytest.raises(MixtureError, match=r"^mixture\.phases\.0: max_epochs .* leaves 2,000 .* but 8,000 are planned"):
        plan(manifest(a=200_000, b=500), max_epochs=4, phases=phases)


def test_limits_are_reckoned_for_the_planned_tokens() -> None:
    corpora = manifest(a=200_000, c=2000)
    values: dict[str, Any] = {"sources": {"monolingual": 1, "code": {"share": 1, "max_epochs": 2}}}
    short, long = plan(corpora, **values), plan(corpora, RunSize(16, 10, 200), **values)
    assert [mixture.corpora[1].share for mixture in (short, long)] == pytest.approx([0.25, 0.125])
    fixed = plan(corpora, RunSize(16, 10, 200), **values, planned_tokens=15_999.5)
    assert fixed.planned_samples == 1000
    assert fixed.phases == short.phases


def test_every_problem_of_every_phase_is_told_once() -> None:
    with pytest.raises(MixtureError) as caught:
        plan(
            manifest(a=2000, c=70),
            sources={"monolingual": 1, "books": 1, "code": 1},
            phases=[
                {"ramp_steps": 5},
                {"from_step": 1, "from_tokens": 5},
                {"from_step": 10, "ramp_steps": 10, "ramp_tokens": 7},
                {"from_step": 20, "ramp_steps": 10, "sources": {"monolingual": 1, "code": 1}},
                {"from_step": 29, "sources": {"papers": 1}},
                {"from_step": 12, "weights": {"b": 1}},
            ],
        )
    assert [problem.partition(" ")[0] for problem in caught.value.problems] == [
        "mixture.phases.0",
        "mixture.phases.1",
        "mixture.phases.2",
        "mixture.phases.4",
        "mixture.phases.5",
        "mixture.sources",
        "mixture.phases.4.sources",
        "the",
        "the",
        "mixture.phases.5.weights",
    ]
    text = str(caught.value)
    assert "starts at sample 290, but the ramp of the phase before it lasts until 300" in text
    assert "starts at sample 120, but the phase before it at 290" in text
    assert "the data has the source 'code', but mixture.phases.4.sources gives it no share" in text


tokens = st.integers(11, 10**5)


@settings(max_examples=60)
@given(st.data())
def test_shares_add_up_and_no_limit_is_exceeded(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(tokens, min_size=2, max_size=10))
    corpora = manifest(**{f"{'c' if i % 3 else 'm'}{i}": size for i, size in enumerate(sizes)})
    alpha = st.sampled_from([0, 0.3, 1])
    values: dict[str, Any] = {
        "sources": {"monolingual": 3, "code": {"share": 1, "alpha": data.draw(alpha)}},
        "max_epochs": data.draw(st.sampled_from([1, 2.5, 10])),
        "phases": [
            {"from_step": 30, "ramp_steps": data.draw(st.integers(1, 20)), "alpha": data.draw(alpha)},
            {"from_step": 60, "sources": {"monolingual": 1, "code": 3}},
        ],
    }
    try:
        planned = plan(corpora, **values)
    except MixtureError as error:
        assert "raise max_epochs" in str(error)
        return
    assert planned == plan(corpora, **values)
    for phase in planned.phases:
        assert sum(phase.shares) == pytest.approx(1, abs=1e-8)
    assert sum(corpus.share for corpus in planned.corpora) == pytest.approx(1, abs=1e-9)
    assert sum(corpus.wanted for corpus in planned.corpora) == pytest.approx(1, abs=1e-9)
    for corpus in planned.corpora:
        assert corpus.max_epochs is not None
        assert corpus.share * RUN.tokens <= corpus.max_epochs * corpus.shard.tokens * (1 + 1e-9)
    rows = planned.rows(planned.order(seed=0, seq_length=16), samples=RUN.samples)
    for row, corpus in zip(rows, planned.corpora, strict=True):
        assert abs(int(str(row["samples"])) - corpus.share * RUN.samples) < 1.5 * len(planned.phases)


def test_a_phase_may_not_name_a_source_that_it_leaves_out() -> None:
    left_out = {"exclude": {"sources": ["code"]}, "sources": {"monolingual": 1, "code": 1}}
    both = {"from_step": 50, "sources": {"monolingual": 1, "code": 2}}
    corpora = manifest(a=20_000, c=20_000)
    # The mixture itself may: a study leaves out what the mix that it is made of names.
    assert shares(plan(corpora, **left_out)) == [{"a": 1.0}]
    with pytest.raises(MixtureError, match=r"mixture\.phases\.0\.sources names 'code', but") as error:
        plan(corpora, **left_out, phases=[both])
    assert len(error.value.problems) == 1
    planned = plan(corpora, **left_out, phases=[{**both, "exclude": {}}])
    assert shares(planned)[1] == pytest.approx({"a": 1 / 3, "c": 2 / 3})


def test_a_temperature_without_tiers_leaves_nothing_out() -> None:
    planned = plan(manifest(a=50_000, b=20), tiers=None, alpha=0.5)
    assert [corpus.tier for corpus in planned.trained] == ["untiered", "untiered"]
    assert shares(planned)[0]["b"] == pytest.approx(20**0.5 / (20**0.5 + 50_000**0.5))
    assert [corpus.reason for corpus in plan(manifest(c=50, b=20), tiers=None, max_epochs=900).corpora] == [
        "", "below the lowest tier",
    ]  # fmt: skip


def test_share_0_leaves_a_source_out() -> None:
    corpora = manifest(a=20_000, c=20_000)
    sources = {"monolingual": 1, "code": 0}
    planned = plan(corpora, sources=sources)
    assert [corpus.reason for corpus in planned.corpora] == ["", "share 0 of its source"]
    planned = plan(corpora, sources=sources, phases=[{"from_step": 50, "sources": {"monolingual": 1, "code": 3}}])
    assert shares(planned) == [{"a": 1.0, "c": 0.0}, {"a": 0.25, "c": 0.75}]
    with pytest.raises(MixtureError, match=r"no corpus is left to train on .of 2 corpora, 2 share 0 of its source"):
        plan(corpora, sources={"monolingual": 0, "code": 0})
