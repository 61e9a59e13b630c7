from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron.checkpoint.store import CheckpointError
from megatron.config.mixture_schema import MixtureConfig
from megatron.data.manifest import Manifest, ShardInfo, TokenizerInfo
from megatron.data.mixture import RunSize, plan_mixture
from megatron.data.order import ORDER_VERSION
from megatron.train.identity import check_same_run, mixture_identity

RUN = RunSize(seq_length=16, batch_size=10, train_iters=100)
SIZES = {"a": 20_000, "b": 5000, "c": 2000}


def shard(name: str, tokens: int, **changes: Any) -> ShardInfo:
    entry = ShardInfo(
        name=name,
        path=name,
        split="train",
        source="code" if name.startswith("c") else "monolingual",
        language="zxx" if name.startswith("c") else "eng",
        script="Zyyy" if name.startswith("c") else "Latn",
        documents=1,
        words=tokens,
        tokens=tokens,
        bytes=tokens,
        unk_tokens=0,
        dtype="uint16",
        content_hash=f"hash of {name}",
    )
    return dataclasses.replace(entry, **changes)


def identity(*shards: ShardInfo, sizes: Mapping[str, int] = SIZES, run: RunSize = RUN, **values: Any) -> dict[str, Any]:
    """Return a run's identity, as far as its mixture goes."""
    corpora = shards or tuple(shard(name, tokens) for name, tokens in sizes.items())
    section = MixtureConfig.model_validate({"tiers": {"all": {"above": 0, "rate": 1}}, **values})
    manifest = Manifest(TokenizerInfo("SPMTokenizer", "f", 100, 2), corpora)
    planned = mixture_identity(plan_mixture(manifest, section, run=run))
    return {"mixture": planned, "order": ORDER_VERSION, "seed": 1, "seq_length": 16}


def complaint(before: dict[str, Any], now: dict[str, Any], *, samples: int | None = 600) -> str:
    """Return what is said against resuming, or an empty text."""
    state = json.loads(json.dumps({**before, "samples": samples, "step": 60}))
    try:
        check_same_run(state, now, Path("run/global_step60"))
    except CheckpointError as error:
        text = str(error).removeprefix("run/global_step60 belongs to another run: ")
        return text.partition(". Give another `save` folder")[0]
    return ""


LATER = {"from_tokens": 800 * 16, "ramp_tokens": 160, "sources": {"monolingual": 1, "code": 1}}


def test_the_same_run_is_the_same() -> None:
    values = {"alpha": 0.3, "phases": [LATER], "max_epochs": 8}
    assert complaint(identity(**values), identity(**values)) == ""


def test_phases_that_have_not_begun_may_change() -> None:
    before = identity(phases=[LATER])
    assert complaint(before, identity()) == ""
    assert complaint(identity(), before) == ""
    assert complaint(before, identity(phases=[{**LATER, "ramp_tokens": 320, "alpha": 0.5}])) == ""
    # A phase that would begin with the next sample has no sample yet.
    assert complaint(before, identity(), samples=800) == ""
    assert complaint(before, identity(), samples=801) == (
        "the mixture had 2 phases in the first 801 samples, and has 1 now"
    )


def test_a_phase_that_has_begun_may_not_change() -> None:
    before = identity(phases=[LATER])
    changed = identity(phases=[{**LATER, "sources": {"monolingual": 1, "code": 2}}])
    assert complaint(before, changed, samples=805) == "a has another share (so do 2 more corpora)"
    assert complaint(before, identity(phases=[{**LATER, "ramp_tokens": 320}]), samples=805) == (
        "phase 1 of the mixture has a ramp of samples: 20, not 10"
    )
    assert complaint(before, identity(phases=[{**LATER, "from_tokens": 801 * 16}]), samples=805) == (
        "phase 1 of the mixture starts at sample 801, not 800"
    )


def test_what_limits_do_to_a_later_phase_leaves_the_samples_before_it_as_they_were() -> None:
    """Shares that differ in their last bits alone break ties between equal corpora otherwise."""
    corpora = tuple(shard(f"x{i}", 1000, source=f"s{name}") for i, name in enumerate("122233123"))
    base = {
        "tiers": {"all": {"above": 0, "rate": 1}},
        "alpha": 0,
        "sources": {"s1": 2, "s2": 1, "s3": 1},
        "exclude": {"corpora": ["x3"]},
        "max_epochs": 2,
    }
    phased = {**base, "phases": [{"from_tokens": 800 * 16, "exclude": {}}]}
    manifest = Manifest(TokenizerInfo("SPMTokenizer", "f", 100, 2), corpora)
    mixtures = [plan_mixture(manifest, MixtureConfig.model_validate(values), run=RUN) for values in (base, phased)]
    drawn = []
    for mixture in mixtures:
        order = mixture.order(seed=1, seq_length=16)
        drawn.append([mixture.trained[corpus].shard.name for corpus in order.interleaving.assign(0, 800)])
    assert drawn[0] == drawn[1]
    assert complaint(identity(*corpora, **base), identity(*corpora, **phased), samples=800) == ""


def test_corpora_of_later_phases_alone_may_come_and_go() -> None:
    without_code = {"sources": {"monolingual": 1, "code": 1}, "exclude": {"sources": ["code"]}}
    phase = {**LATER, "exclude": {"corpora": ["a"]}}
    before = identity(sizes={"a": 20_000, "b": 5000}, tiers={"all": {"above": 0, "rate": 1}})
    now = identity(**without_code, phases=[phase])
    assert list(now["mixture"]["corpora"]) == ["a", "b", "c"]
    assert complaint(before, now) == ""
    assert complaint(now, before) == ""
    # Once it has begun, c has been trained on.
    assert "c is gone" in complaint(now, before, samples=900)
    corpora = (shard("a", 20_000), shard("b", 5000), shard("c", 2000, content_hash="x"))
    other = identity(*corpora, **without_code, phases=[phase])
    assert complaint(now, other) == ""
    assert complaint(now, other, samples=900) == "c holds other text"


def test_what_is_told_of_corpora() -> None:
    before = identity()
    assert complaint(before, identity(sizes={**SIZES, "d": 10})) == (
        "d is new; a has another share (so do 2 more corpora)"
    )
    assert complaint(before, identity(sizes={"a": 20_000, "b": 5000})) == (
        "c is gone; a has another share (so do 1 more corpora)"
    )
    assert complaint(before, identity(sizes=dict(reversed(SIZES.items())))) == ""
    even = {"a": 5000, "b": 5000, "c": 2000}
    assert complaint(identity(sizes=even), identity(sizes=dict(reversed(even.items())))) == (
        "corpora of equal shares are listed in another order in the manifest"
    )


def test_parts_of_a_file_are_told_apart() -> None:
    weights = {"weights": {"a": 1}}
    whole = identity(shard("a", 100), **weights)
    assert whole["mixture"]["corpora"] == {"a": ["hash of a", 100]}
    part = identity(shard("a", 100, first_document=3, first_token=40), **weights)
    assert part["mixture"]["corpora"] == {"a": ["hash of a", 100, 3, 40]}
    assert complaint(whole, part) == complaint(part, whole) == "a holds other text"
    assert complaint(whole, identity(shard("a", 90), **weights)) == "a holds other text"


def test_another_length_is_told_to_be_the_reason_for_other_shares() -> None:
    longer = RunSize(16, 10, 150)
    caps: dict[str, Any] = {"sources": {"monolingual": 1, "code": {"share": 1, "max_epochs": 2}}}
    before, now = identity(**caps), identity(**caps, run=longer)
    assert complaint(before, now) == (
        "a has another share (so do 2 more corpora), since max_epochs is now reckoned for 24,000 training tokens, not "
        "for 16,000: set mixture.planned_tokens to 16000"
    )
    assert complaint(before, identity(**caps, run=longer, planned_tokens=16000)) == ""
    after = {"from_step": 100, "weights": {"c": 1}}
    # What is appended after the planned tokens changes nothing before.
    assert complaint(before, identity(**caps, run=longer, planned_tokens=16000, phases=[after])) == ""
    # Without limits the length does not matter, and is not blamed.
    assert complaint(identity(), identity(run=longer)) == ""
    assert complaint(identity(), identity(run=longer, alpha=0.5)) == "a has another share (so do 2 more corpora)"


def test_a_later_phase_is_told_to_be_the_reason_for_other_shares() -> None:
    caps: dict[str, Any] = {"sources": {"monolingual": 1, "code": {"share": 1, "max_epochs": 2}}}
    before = identity(**caps, phases=[LATER])
    now = identity(**caps, phases=[{**LATER, "sources": {"monolingual": 1, "code": 9}}])
    assert complaint(before, now) == (
        "a has another share (so do 2 more corpora), since max_epochs counts over all phases, and later ones have "
        "changed"
    )


def test_another_batch_size_is_told_to_have_moved_a_phase() -> None:
    in_steps = {**LATER, "from_step": 50, "ramp_steps": 1}
    del in_steps["from_tokens"], in_steps["ramp_tokens"]
    before, now = identity(phases=[in_steps]), identity(phases=[in_steps], run=RunSize(16, 8, 125))
    text = complaint(before, now)
    assert text == (
        "phase 1 of the mixture starts at sample 400, not 500, since it is given in steps and the batch size is another"
        ": give from_tokens: 8000; phase 1 of the mixture has a ramp of samples: 8, not 10, since it is given in steps "
        "and the batch size is another: give ramp_tokens: 160"
    )
    in_tokens = {**LATER, "from_tokens": 8000, "ramp_tokens": 160}
    assert complaint(before, identity(phases=[in_tokens], run=RunSize(16, 8, 125))) == ""
    # At one of the batch sizes it has not begun.
    assert complaint(before, now, samples=450) == (
        "the mixture had 1 phase in the first 450 samples, and has 2 now "
        "(a start in steps moves with the batch size; from_tokens does not)"
    )


def test_another_order_of_samples_is_refused() -> None:
    now = identity()
    state = {**now, "step": 4, "samples": 400}
    for before in (1, ORDER_VERSION + 1):
        with pytest.raises(CheckpointError, match=f"in another order .version {before}, here {ORDER_VERSION}"):
            check_same_run({**state, "order": before}, now, Path("old"))
    del state["order"]
    with pytest.raises(CheckpointError, match="version 1, here"):
        check_same_run(state, now, Path("old"))


@pytest.mark.parametrize("mixture", [None, [], "x", {"a": 3}, {"corpora": {}}, {"corpora": {"a": []}, "phases": [3]}])
def test_a_state_without_a_mixture_is_refused(mixture: Any) -> None:
    assert complaint({**identity(), "mixture": mixture}, identity()) == "the mixture it was trained on is missing"


def test_everything_is_told_at_once() -> None:
    text = complaint({**identity(alpha=0.3), "seed": 2}, identity(), samples=None)
    assert text == (
        "seed was 2, is now 1; a has another share (so do 2 more corpora); the number of samples consumed is missing"
    )


@settings(max_examples=40)
@given(data=st.data())
def test_what_may_be_resumed_has_had_the_same_samples(data: st.DataObject) -> None:
    """A later phase with new corpora leaves the samples before it as they were, ties between shares included."""
    names = data.draw(st.lists(st.sampled_from([f"m{i}" for i in range(12)]), min_size=1, max_size=8, unique=True))
    later = data.draw(st.lists(st.sampled_from([f"c{i}" for i in range(9)]), min_size=1, max_size=5, unique=True))
    sizes = {name: data.draw(st.sampled_from([50, 100, 200])) for name in names}
    mixed = data.draw(st.permutations([*names, *later]))
    everything = [shard(name, sizes.get(name, 70)) for name in mixed]
    first = [entry for entry in everything if entry.name in sizes]
    tokenizer = TokenizerInfo("SPMTokenizer", "f", 100, 2)
    base: dict[str, Any] = {"tiers": {"all": {"above": 0, "rate": 1}}}
    phase = {"from_step": 30, "ramp_steps": 3, "exclude": {}}
    before = plan_mixture(Manifest(tokenizer, tuple(first)), MixtureConfig.model_validate(base), run=RUN)
    section = MixtureConfig.model_validate({**base, "exclude": {"corpora": ["c*"]}, "phases": [phase]})
    now = plan_mixture(Manifest(tokenizer, tuple(everything)), section, run=RUN)
    old_order, new_order = (mixture.order(seed=7, seq_length=16) for mixture in (before, now))
    for number in range(300):
        old, new = old_order.sample(number), new_order.sample(number)
        assert before.trained[old.corpus].shard.name == now.trained[new.corpus].shard.name
        assert (old.epoch, old.window, old.start) == (new.epoch, new.window, new.start)
    state, wanted = (
        {"mixture": mixture_identity(mixture), "order": ORDER_VERSION, "seq_length": 16} for mixture in (before, now)
    )
    assert complaint(state, wanted, samples=300) == ""
    assert complaint(state, wanted, samples=301) != ""


@settings(max_examples=60)
@given(data=st.data())
def test_the_manifest_s_order_matters_only_where_it_breaks_ties(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.sampled_from([100, 200, 300, 500, 700, 1100]), min_size=1, max_size=7))
    corpora = [shard(f"m{number}", size) for number, size in enumerate(sizes)]
    listed = (corpora, data.draw(st.permutations(corpora)))
    drawn = []
    for shards in listed:
        planned = plan_mixture(Manifest(TokenizerInfo("SPMTokenizer", "f", 100, 2), tuple(shards)), None, run=RUN)
        names = [corpus.shard.name for corpus in planned.trained]
        order = planned.order(seed=7, seq_length=16)
        drawn.append([(names[sample.corpus], sample.start) for sample in map(order.sample, range(200))])
    if complaint(*(identity(*shards) for shards in listed), samples=200) == "":
        assert drawn[0] == drawn[1]
