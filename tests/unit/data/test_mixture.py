from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.mixture_schema import RESERVED_TIERS, MixtureConfig
from megatron.data.manifest import Manifest, ShardInfo, TokenizerInfo
from megatron.data.mixing.tiers import Powers
from megatron.data.mixture import BELOW, UNTIERED, Mixture, MixtureError, RunSize, plan_mixture

RUN = RunSize(seq_length=16, batch_size=4, train_iters=100)


def shard(
    name: str, tokens: int, *, source: str = "monolingual", words: int | None = None, **changes: Any
) -> ShardInfo:
    entry = {
        "name": name,
        "path": name,
        "split": "train",
        "source": source,
        "language": "zxx" if source == "code" else "eng",
        "script": "Zyyy" if source == "code" else "Latn",
        "documents": 1,
        "words": tokens if words is None else words,
        "tokens": tokens,
        "bytes": tokens * 4,
        "unk_tokens": 0,
        "dtype": "uint16",
        "content_hash": "0",
    }
    return ShardInfo(**{**entry, **changes})


def manifest(*shards: ShardInfo) -> Manifest:
    return Manifest(TokenizerInfo("SPMTokenizer", "f", 100, 2), shards)


def section(**values: Any) -> MixtureConfig:
    tiers = {"high": {"above": 1000, "rate": 0.5}, "low": {"above": 10, "rate": 4}}
    return MixtureConfig.model_validate({"unit": "words", "tiers": tiers, **values})


def plan(corpora: Manifest, mixture: MixtureConfig | None) -> Mixture:
    return plan_mixture(corpora, mixture, run=RUN)


def shares(corpora: Manifest, mixture: MixtureConfig | None) -> dict[str, float]:
    return {corpus.shard.name: corpus.share for corpus in plan(corpora, mixture).corpora}


def test_without_a_section_every_token_counts_the_same() -> None:
    assert shares(manifest(shard("a", 30), shard("b", 10)), None) == {"a": 0.75, "b": 0.25}


def test_shares_are_size_times_rate_of_the_tier() -> None:
    planned = plan(manifest(shard("big", 4000), shard("small", 500), shard("tiny", 10)), section())
    assert [corpus.tier for corpus in planned.corpora] == ["high", "low", "unseen"]
    # 4000 x 0.5 and 500 x 4 weigh the same; 10 words are not above 10.
    assert [corpus.share for corpus in planned.corpora] == [0.5, 0.5, 0.0]
    assert [corpus.shard.name for corpus in planned.trained] == ["big", "small"]


@pytest.mark.parametrize(("unit", "tier"), [("words", "low"), ("tokens", "low"), ("bytes", "high")])
def test_the_unit_decides_the_tier(unit: str, tier: str) -> None:
    planned = plan(manifest(shard("a", 900, words=20)), section(unit=unit))
    assert planned.corpora[0].tier == tier


def test_sources_get_their_shares_whatever_their_sizes() -> None:
    corpora = manifest(shard("a", 4000), shard("b", 2000), shard("c", 9, source="code"))
    planned = shares(corpora, section(sources={"monolingual": 3, "code": 1}))
    assert planned == pytest.approx({"a": 0.5, "b": 0.25, "c": 0.25})


def test_text_without_language_has_its_source_for_a_tier() -> None:
    assert plan(manifest(shard("c", 9, source="code")), section()).corpora[0].tier == "code"


def test_every_disagreement_about_sources_is_told_at_once() -> None:
    with pytest.raises(MixtureError) as caught:
        plan(manifest(shard("a", 4000)), section(sources={"books": 1.0}))
    assert "'books'" in str(caught.value) and "'monolingual'" in str(caught.value)


def test_a_source_of_corpora_too_small_to_train_on_needs_no_share() -> None:
    corpora = manifest(shard("a", 4000), shard("b", 5, source="bilingual"), shard("c", 9, source="bilingual"))
    assert shares(corpora, section(sources={"monolingual": 1})) == {"a": 1.0, "b": 0.0, "c": 0.0}
    with pytest.raises(MixtureError, match="'bilingual' a share, but all its 2 corpora are below the lowest tier"):
        plan(corpora, section(sources={"monolingual": 1, "bilingual": 1}))


def test_a_source_with_something_to_train_on_needs_a_share() -> None:
    corpora = manifest(shard("a", 4000), shard("b", 5, source="bilingual"), shard("c", 90, source="bilingual"))
    with pytest.raises(MixtureError, match=r"'bilingual', but mixture\.sources gives it no share"):
        plan(corpora, section(sources={"monolingual": 1}))
    assert shares(corpora, section(sources={"monolingual": 1, "bilingual": 1})) == {"a": 0.5, "b": 0.0, "c": 0.5}


@pytest.mark.parametrize("sources", [None, {"monolingual": 1}])
def test_shares_are_rounded_once(sources: dict[str, float] | None) -> None:
    # Added one by one, ten times 0.1 gives less than 1; Python 3.12 has another `sum` than 3.11.
    corpora = manifest(*(shard(f"corpus{i}", 1) for i in range(10)))
    tiers = {"all": {"above": 0, "rate": 0.1}}
    assert set(shares(corpora, section(tiers=tiers, sources=sources)).values()) == {0.1}


def test_shares_of_sources_are_rounded_once() -> None:
    corpora = manifest(*(shard(f"corpus{i}", 100, source=f"source{i}") for i in range(10)))
    assert set(shares(corpora, section(sources={f"source{i}": 0.1 for i in range(10)})).values()) == {0.1}


def test_numbers_beyond_floats_are_refused() -> None:
    corpora = manifest(shard("a", 4000), shard("b", 4000))
    for tokens_rate in (1e305, 1e304):  # infinite at once, and only as a sum
        with pytest.raises(MixtureError, match="too large"):
            plan(corpora, section(tiers={"all": {"above": 0, "rate": tokens_rate * 3}}))


def test_monolingual_text_of_no_known_language_has_a_size_tier() -> None:
    # MaLA lists zxx_Latn and zxx_Zyyy among its languages, below the lowest tier.
    corpora = manifest(shard("zxx_Latn", 9, language="zxx"), shard("a", 500))
    assert [corpus.tier for corpus in plan(corpora, section()).corpora] == [BELOW, "low"]


@pytest.mark.parametrize("source", ["low", "high", "unseen", "untiered"])
def test_text_without_language_never_takes_a_tier_s_rate(source: str) -> None:
    code = shard("c", 500, source=source, language="zxx", script="Zyyy")
    planned = plan(manifest(shard("a", 500), code), section())
    assert [corpus.tier for corpus in planned.corpora] == ["low", f"{source} (no language)"]
    assert [corpus.share for corpus in planned.corpora] == [0.8, 0.2]  # 4 times as much as 1 time
    tiers = {"low": {"above": 10, "rate": 4}, "low (no language)": {"above": 1000, "rate": 4}}
    planned = plan(manifest(shard("c", 9, source="low", language="zxx", script="Zyyy")), section(tiers=tiers))
    assert planned.corpora[0].tier == "low (no language) (no language)"


def test_tiers_that_the_program_names_are_reserved() -> None:
    assert set(RESERVED_TIERS) == {BELOW, UNTIERED}


def test_a_mixture_of_nothing_is_refused() -> None:
    with pytest.raises(MixtureError, match=r"mixture\.tiers"):
        plan(manifest(shard("a", 5)), section())


@given(
    sizes=st.lists(st.integers(11, 10**6), min_size=1, max_size=30),
    samples=st.integers(0, 10**6),
)
def test_rows_add_up(sizes: list[int], samples: int) -> None:
    mixture = plan(manifest(*(shard(f"corpus{i}", size) for i, size in enumerate(sizes))), section())
    order = mixture.order(seed=0, seq_length=16)
    rows = mixture.rows(order, samples=samples)
    assert sum(corpus.share for corpus in mixture.corpora) == pytest.approx(1)
    assert sum(int(row["samples"]) for row in rows) == samples
    for row, size in zip(rows, sizes, strict=True):
        assert row["epochs"] == pytest.approx(int(row["samples"]) * 16 / size)


def test_without_tiers_the_bounds_are_those_of_the_mala_corpus() -> None:
    corpora = manifest(shard("a", 3 * 10**6), shard("b", 10**6), shard("c", 10**5))
    planned = plan(corpora, MixtureConfig())
    assert [corpus.tier for corpus in planned.corpora] == ["medium-low", "low", "unseen"]
    assert [corpus.share for corpus in planned.corpora] == [0.75, 0.25, 0.0]
    assert [corpus.reason for corpus in planned.corpora] == ["", "", "below the lowest tier"]


def test_a_source_can_have_tiers_of_its_own() -> None:
    corpora = manifest(shard("a", 500), shard("b", 500, source="bilingual"), shard("c", 5, source="bilingual"))
    own = {"share": 1, "tiers": {"pairs": {"above": 0, "rate": 2}}}
    planned = plan(corpora, section(sources={"monolingual": 1, "bilingual": own}))
    assert [corpus.tier for corpus in planned.corpora] == ["low", "pairs", "pairs"]
    assert [corpus.share for corpus in planned.corpora] == [0.5, 0.5 * (1000 / 1010), 0.5 * (10 / 1010)]


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        (0, [1 / 3, 1 / 3, 1 / 3]),
        (0.3, [0.761, 0.191, 0.048]),  # GPT-NeoX documents this, and computes 0.031, 0.773 and 0.196
        (1, [1e6 / 1010100, 1e4 / 1010100, 100 / 1010100]),
        (None, [1e6 / 1010100, 1e4 / 1010100, 100 / 1010100]),
    ],
)
def test_alpha_is_an_exponent_of_the_tokens(alpha: float | None, expected: list[float]) -> None:
    corpora = manifest(shard("a", 10**6), shard("b", 10**4), shard("c", 100))
    tiers = {"all": {"above": 0, "rate": 3}}
    assert list(shares(corpora, section(alpha=alpha, tiers=tiers)).values()) == pytest.approx(expected, abs=5e-4)
    assert list(shares(corpora, section(alpha=alpha, tiers=tiers, sources={"monolingual": 7})).values()) == (
        pytest.approx(expected, abs=5e-4)
    )


def test_alpha_multiplies_with_the_rate() -> None:
    # 4000^0.5 x 0.5 and 250^0.5 x 4
    corpora = manifest(shard("a", 4000), shard("b", 250))
    assert shares(corpora, section(alpha=0.5)) == pytest.approx({"a": 1 / 3, "b": 2 / 3})


@given(st.integers(1, 10**13), st.floats(0, 1))
def test_powers_are_powers(tokens: int, alpha: float) -> None:
    assert Powers().of(tokens, alpha) == pytest.approx(tokens**alpha, rel=1e-14)


def test_a_source_s_own_alpha_holds_there_alone() -> None:
    corpora = manifest(shard("a", 900), shard("b", 100), shard("c", 900, source="code"), shard("d", 100, source="code"))
    sources = {"monolingual": 1, "code": {"share": 1, "alpha": 0.5}}
    assert shares(corpora, section(sources=sources)) == pytest.approx({"a": 0.45, "b": 0.05, "c": 0.375, "d": 0.125})


def test_sources_without_shares_count_by_what_is_wanted_of_them() -> None:
    corpora = manifest(shard("a", 100), shard("b", 100, source="code"), shard("c", 100, source="books"))
    assert shares(corpora, section(sources={"code": {"alpha": 0.5}})) == pytest.approx(
        {"a": 400 / 810, "b": 10 / 810, "c": 400 / 810}
    )


def test_either_all_sources_have_a_share_or_none() -> None:
    corpora = manifest(shard("a", 100), shard("b", 100, source="code"))
    with pytest.raises(MixtureError, match=r"mixture\.sources\.code has no share, but other sources have one"):
        plan(corpora, section(sources={"monolingual": 1, "code": {"max_epochs": 2}}))


def test_tiers_of_text_without_language_are_told_to_be_useless() -> None:
    own = {"share": 1, "tiers": {"code": {"above": 0, "rate": 2}}}
    with pytest.raises(MixtureError, match=r"mixture\.sources\.code\.tiers has no effect"):
        plan(manifest(shard("b", 100, source="code")), section(sources={"code": own}))


def test_weights_are_shares_of_the_run() -> None:
    corpora = manifest(shard("a", 4000), shard("b", 5), shard("c", 9, source="code"), shard("d", 9))
    planned = plan(corpora, MixtureConfig.model_validate({"weights": {"a": 1, "b": 2, "c": 1, "d": 0}}))
    assert [corpus.share for corpus in planned.corpora] == [0.25, 0.5, 0.25, 0]
    assert [corpus.reason for corpus in planned.corpora] == ["", "", "", "no weight"]
    assert {corpus.tier for corpus in planned.corpora} == {UNTIERED}
    # Tiers only name them then.
    planned = plan(corpora, section(weights={"a": 1, "b": 3, "c": 4}))
    assert [corpus.tier for corpus in planned.corpora] == ["high", BELOW, "code", BELOW]
    assert [corpus.share for corpus in planned.corpora] == [0.125, 0.375, 0.5, 0]


def test_weights_of_what_is_not_there_are_told() -> None:
    corpora = manifest(shard("eng_Latn", 10), shard("swh_Latn", 10))
    with pytest.raises(MixtureError) as caught:
        plan(corpora, MixtureConfig.model_validate({"weights": {"eng_Latm": 1, "swh_Latn": 0}}))
    assert caught.value.problems == (
        "mixture.weights names 'eng_Latm', which matches no corpus of the data. Did you mean 'eng_Latn'?",
    )
    with pytest.raises(MixtureError, match=r"of 1 corpora, 1 no weight\); change mixture\.weights"):
        plan(manifest(shard("a", 10)), MixtureConfig.model_validate({"weights": {"a": 0}}))


def test_rows_tell_the_plan_and_what_was_taken() -> None:
    corpora = manifest(shard("a", 160), shard("b", 1600), shard("c", 3))
    planned = plan(corpora, section(max_epochs=8))
    rows = planned.rows(planned.order(seed=0, seq_length=16), samples=RUN.samples)
    # Of 6,400 tokens a wants 640 x 6400 / 1440; its limit is 8 x 160.
    assert rows[0] == {
        "corpus": "a",
        "code": "eng_Latn",
        "tier": "low",
        "source": "monolingual",
        "tokens": 160,
        "share": pytest.approx(0.2),
        "wanted": pytest.approx(640 / 1440),
        "max_epochs": 8,
        "capped": True,
        "reason": "",
        "samples": 80,
        "sampled_tokens": 1280,
        "epochs": 8.0,
        "repeats_at": rows[0]["repeats_at"],
    }
    order = planned.order(seed=0, seq_length=16)
    repeat = next(i for i in range(RUN.samples) if order.sample(i).corpus == 0 and order.sample(i).epoch == 1)
    assert rows[0]["repeats_at"] == repeat
    assert rows[1]["capped"] is False
    assert (rows[2]["samples"], rows[2]["repeats_at"], rows[2]["reason"]) == (0, None, "below the lowest tier")
    assert all(row["repeats_at"] is None for row in planned.rows(order, samples=5))
    assert planned.rows(order, samples=RUN.samples, repeats=False)[0]["repeats_at"] is None
