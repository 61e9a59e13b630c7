from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.schema import RESERVED_TIERS, MixtureConfig
from megatron.data.manifest import Manifest, ShardInfo, TokenizerInfo
from megatron.data.mixture import BELOW, UNTIERED, MixtureError, plan_mixture
from megatron.data.plan_table import plan_tables


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


def shares(*arguments: Any) -> dict[str, float]:
    return {corpus.shard.name: corpus.share for corpus in plan_mixture(*arguments).corpora}


def test_without_a_section_every_token_counts_the_same() -> None:
    assert shares(manifest(shard("a", 30), shard("b", 10)), None) == {"a": 0.75, "b": 0.25}


def test_shares_are_size_times_rate_of_the_tier() -> None:
    plan = plan_mixture(manifest(shard("big", 4000), shard("small", 500), shard("tiny", 10)), section())
    assert [corpus.tier for corpus in plan.corpora] == ["high", "low", "unseen"]
    # 4000 x 0.5 and 500 x 4 weigh the same; 10 words are not above 10.
    assert [corpus.share for corpus in plan.corpora] == [0.5, 0.5, 0.0]
    assert [corpus.shard.name for corpus in plan.trained] == ["big", "small"]


@pytest.mark.parametrize(("unit", "tier"), [("words", "low"), ("tokens", "low"), ("bytes", "high")])
def test_the_unit_decides_the_tier(unit: str, tier: str) -> None:
    plan = plan_mixture(manifest(shard("a", 900, words=20)), section(unit=unit))
    assert plan.corpora[0].tier == tier


def test_sources_get_their_shares_whatever_their_sizes() -> None:
    corpora = manifest(shard("a", 4000), shard("b", 2000), shard("c", 9, source="code"))
    planned = shares(corpora, section(sources={"monolingual": 3, "code": 1}))
    assert planned == pytest.approx({"a": 0.5, "b": 0.25, "c": 0.25})


def test_text_without_language_has_its_source_for_a_tier() -> None:
    assert plan_mixture(manifest(shard("c", 9, source="code")), section()).corpora[0].tier == "code"


def test_every_disagreement_about_sources_is_told_at_once() -> None:
    with pytest.raises(MixtureError) as caught:
        plan_mixture(manifest(shard("a", 4000)), section(sources={"books": 1.0}))
    assert "'books'" in str(caught.value) and "'monolingual'" in str(caught.value)


def test_a_source_of_corpora_too_small_to_train_on_needs_no_share() -> None:
    corpora = manifest(shard("a", 4000), shard("b", 5, source="bilingual"), shard("c", 9, source="bilingual"))
    assert shares(corpora, section(sources={"monolingual": 1})) == {"a": 1.0, "b": 0.0, "c": 0.0}
    with pytest.raises(MixtureError, match="'bilingual' a share, but all its 2 corpora are below the lowest tier"):
        plan_mixture(corpora, section(sources={"monolingual": 1, "bilingual": 1}))


def test_a_source_with_something_to_train_on_needs_a_share() -> None:
    corpora = manifest(shard("a", 4000), shard("b", 5, source="bilingual"), shard("c", 90, source="bilingual"))
    with pytest.raises(MixtureError, match=r"'bilingual', but mixture\.sources gives it no share"):
        plan_mixture(corpora, section(sources={"monolingual": 1}))
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
            plan_mixture(corpora, section(tiers={"all": {"above": 0, "rate": tokens_rate * 3}}))


@pytest.mark.parametrize("source", ["low", "high", "unseen", "untiered"])
def test_text_without_language_never_takes_a_tier_s_rate(source: str) -> None:
    code = shard("c", 500, source=source, language="zxx", script="Zyyy")
    plan = plan_mixture(manifest(shard("a", 500), code), section())
    assert [corpus.tier for corpus in plan.corpora] == ["low", f"{source} (no language)"]
    assert [corpus.share for corpus in plan.corpora] == [0.8, 0.2]  # 4 times as much as 1 time
    tiers = {"low": {"above": 10, "rate": 4}, "low (no language)": {"above": 1000, "rate": 4}}
    plan = plan_mixture(manifest(shard("c", 9, source="low", language="zxx", script="Zyyy")), section(tiers=tiers))
    assert plan.corpora[0].tier == "low (no language) (no language)"


def test_tiers_that_the_program_names_are_reserved() -> None:
    assert set(RESERVED_TIERS) == {BELOW, UNTIERED}


def test_a_mixture_of_nothing_is_refused() -> None:
    with pytest.raises(MixtureError, match=r"mixture\.tiers"):
        plan_mixture(manifest(shard("a", 5)), section())


@given(
    sizes=st.lists(st.integers(11, 10**6), min_size=1, max_size=30),
    samples=st.integers(0, 10**6),
)
def test_rows_add_up(sizes: list[int], samples: int) -> None:
    mixture = plan_mixture(manifest(*(shard(f"corpus{i}", size) for i, size in enumerate(sizes))), section())
    order = mixture.order(seed=0, seq_length=16)
    rows = mixture.rows(order, samples=samples)
    assert sum(corpus.share for corpus in mixture.corpora) == pytest.approx(1)
    assert sum(int(row["samples"]) for row in rows) == samples
    for row, size in zip(rows, sizes, strict=True):
        assert row["epochs"] == pytest.approx(int(row["samples"]) * 16 / size)


def test_tables_name_what_is_left_out() -> None:
    mixture = plan_mixture(manifest(shard("big", 4000), shard("tiny", 3)), section())
    text = plan_tables(mixture.rows(mixture.order(seed=0, seq_length=16), samples=100), corpora=1)
    assert "100.00%" in text
    assert "... and 1 corpora with fewer epochs" in text
    assert "left out, since their tier is not trained on: 1 corpora, 3 tokens" in text
