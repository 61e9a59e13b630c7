from __future__ import annotations

import pytest

from megatron.config.derive import parse_split
from megatron.config.load import config_from, load
from megatron.config.problems import ConfigError

TIER = {"above": 1, "rate": 1}
TWINS = {"a": {"above": 1, "rate": 1}, "b": {"above": 1.0, "rate": 2}}
RATED = {"a": {"above": 1, "rate": 2}}
IDLE = {"a": {"above": 1, "rate": 0}}
PATHS = {"train_data_paths": ["a", "b"]}


@pytest.mark.parametrize(
    ("changes", "key", "rule"),
    [
        ({**PATHS, "data_manifest": "m"}, "train_data_paths", "beside data_manifest"),
        ({"data_path": "a", "data_manifest": "m"}, "data_path", "beside data_manifest"),
        ({"data_path": "a", **PATHS}, "data_path", "beside train_data_paths"),
        ({**PATHS, "train_data_weights": [1]}, "train_data_weights", "has 1 entries, but train_data_paths has 2"),
        ({**PATHS, "train_data_weights": [0, 0.0]}, "train_data_weights", "is 0 throughout"),
        ({**PATHS, "train_data_weights": [1, -1]}, "train_data_weights.1", "is below 0"),
        ({"train_data_weights": [1]}, "train_data_weights", "no effect without train_data_paths"),
        ({"weight_by_num_documents": True}, "weight_by_num_documents", "without train_data_paths"),
        ({"valid_data_paths": ["v"]}, "valid_data_paths", "without train_data_paths"),
        ({"data_path": "a", "valid_data_paths": ["v"]}, "valid_data_paths", "without train_data_paths"),
        ({**PATHS, "train_data_weights": [1, 1], "mixture": {}}, "train_data_weights", "beside mixture"),
        ({**PATHS, "weight_by_num_documents": True, "mixture": {}}, "weight_by_num_documents", "beside mixture"),
        ({"data_path": "a", "split": "a, b"}, "split", "is not a list of numbers"),
        ({"data_path": "a", "split": "1,"}, "split", "is not a list of numbers"),
        ({"data_path": "a", "split": "1,2,3,4"}, "split", "has 4 numbers"),
        ({"data_path": "a", "split": "1,-2"}, "split", "below 0"),
        ({"data_path": "a", "split": "1,nan"}, "split", "not finite"),
        ({"data_path": "a", "split": "0, 0, 0"}, "split", "nothing to train on"),
        ({"data_path": "a", "split": 100}, "split", "is not text"),
    ],
)
def test_naming_shards(changes, key, rule, problems_with):
    [problem] = problems_with(**changes)
    assert problem.key == key and rule in problem.rule and problem.fix


def test_both_other_ways_beside_a_manifest(problems_with):
    problems = problems_with(data_manifest="m", data_path="a", **PATHS)
    assert [problem.key for problem in problems] == ["train_data_paths", "data_path"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("969, 30, 1", (969, 30, 1)),
        ("969,30,1", (969, 30, 1)),
        ("9/1", (9, 1, 0)),
        ("98/2/0", (98, 2, 0)),
        ("100", (100, 0, 0)),
        ("0.9, 5e-2, .05", (0.9, 0.05, 0.05)),
    ],
)
def test_split_is_read_as_gpt_neox_reads_it(text, parts):
    assert parse_split(text) == parts


@pytest.mark.parametrize(
    ("mixture", "key", "rule"),
    [
        ({"tiers": IDLE}, "tiers", "rate 0 in every tier"),
        ({"tiers": TWINS}, "tiers", "several tiers above 1: a, b"),
        ({"sources": {"bi": {"tiers": TWINS}}}, "sources.bi.tiers", "several tiers above 1: a, b"),
        ({"sources": {"bi": {"tiers": IDLE}}}, "sources.bi.tiers", "rate 0 in every tier"),
        ({"phases": [{"from_step": 1, "tiers": IDLE}]}, "phases.0.tiers", "rate 0 in every tier"),
        (
            {"phases": [{"from_step": 1, "sources": {"bi": {"tiers": TWINS}}}]},
            "phases.0.sources.bi.tiers",
            "several tiers above 1: a, b",
        ),
        ({"weights": {"a": 1}, "alpha": 0.5}, "alpha", "beside weights"),
        ({"weights": {"a": 1}, "sources": {"code": 1}}, "sources", "beside weights"),
        ({"weights": {"a": 1}, "tiers": RATED}, "tiers", "gives a a rate, which has no effect beside weights"),
        (
            {"weights": {"a": 1}, "phases": [{"from_step": 1, "sources": {"bi": {"tiers": RATED}}}]},
            "phases.0.sources.bi.tiers",
            "no effect beside weights",
        ),
        ({"weights": {"a": 0}}, "weights", "is 0 throughout"),
        ({"phases": [{"from_step": 1, "weights": {"a": 0}}]}, "phases.0.weights", "is 0 throughout"),
        ({"phases": [{"from_step": 1, "weights": {"a": 1}, "alpha": 0.5}]}, "phases.0.alpha", "beside weights"),
        (
            {"weights": {"a": 1}, "phases": [{"from_step": 1, "sources": {"a": 1}}]},
            "phases.0.sources",
            "no effect under mixture.weights",
        ),
        ({"sources": {"a": 1, "b": {"alpha": 0.5}}}, "sources", "some sources a share, but not b"),
        ({"phases": [{"from_step": 1, "sources": {"a": {}, "b": 2}}]}, "phases.0.sources", "but not a"),
        ({"include": {}}, "include", "lists nothing"),
        ({"exclude": {"languages": []}}, "exclude", "lists nothing"),
        ({"phases": [{"from_step": 1, "include": {}}]}, "phases.0.include", "lists nothing"),
        ({"phases": [{"alpha": 0.5}]}, "phases.0", "does not say when it begins"),
        ({"phases": [{"alpha": 0.5, "from_step": 1, "from_tokens": 5}]}, "phases.0.from_tokens", "beside from_step"),
        (
            {"phases": [{"alpha": 0.5, "from_step": 1, "ramp_steps": 2, "ramp_tokens": 5}]},
            "phases.0.ramp_tokens",
            "beside ramp_steps = 2",
        ),
        ({"phases": [{"from_step": 1}]}, "phases.0", "changes nothing"),
        ({"phases": [{"from_step": 0, "alpha": 1}]}, "phases.0.from_step", "is below 1"),
        ({"phases": [{"from_step": 1, "alpa": 1, "alpha": 1}]}, "phases.0.alpa", "is not a known key"),
        ({"phases": {"from_step": 1}}, "phases", "is not a list"),
        ({"alpha": 1.5}, "alpha", "is above 1"),
        ({"max_epochs": 0}, "max_epochs", "is not above 0"),
        ({"sources": {"a": {"share": -1}}}, "sources.a.share", "is below 0"),
        ({"sources": {"a": "much"}}, "sources.a", "is not a mapping"),
    ],
)
def test_rules_inside_the_mixture(mixture, key, rule, problems_with):
    [problem] = problems_with(mixture=mixture)
    assert problem.key == f"mixture.{key}" and rule in problem.rule and problem.fix


@pytest.mark.parametrize(
    ("phases", "rule"),
    [
        ([{"from_step": 5}, {"from_step": 5}], "not after the start"),
        ([{"from_tokens": 5e9}, {"from_tokens": 4e9}], "not after the start"),
        ([{"from_step": 5, "ramp_steps": 6}, {"from_step": 10}], "before the end of the ramp"),
        ([{"from_tokens": 5e9, "ramp_tokens": 6e9}, {"from_tokens": 1e10}], "before the end of the ramp"),
        # 8 sequences of 64 tokens: a step has 512 tokens
        ([{"from_step": 10}, {"from_tokens": 5000}], "not after the start"),
        ([{"from_tokens": 5000}, {"from_step": 9}], "not after the start"),
        ([{"from_step": 10, "ramp_tokens": 513}, {"from_step": 11}], "before the end of the ramp"),
    ],
)
def test_phases_follow_each_other(phases, rule, problems_with):
    [problem] = problems_with(mixture={"phases": [{**phase, "alpha": 0.5} for phase in phases]})
    assert problem.key.startswith("mixture.phases.1.from_") and rule in problem.rule


@pytest.mark.parametrize(
    "phases",
    [
        [{"from_step": 5, "ramp_steps": 5}, {"from_step": 10}],
        [{"from_step": 10}, {"from_tokens": 5121}],
        [{"from_tokens": 1e9}, {"from_tokens": 2e9, "ramp_steps": 10}],
    ],
)
def test_phases_that_are_in_order(phases, problems_with):
    assert not problems_with(mixture={"phases": [{**phase, "alpha": 0.5} for phase in phases]})


def test_what_cannot_be_compared_before_the_batch_is_known_passes(problems_with):
    phases = [{"from_step": 10, "alpha": 1}, {"from_tokens": 1, "alpha": 0}]
    batch = {"train_batch_size": None, "train_micro_batch_size_per_gpu": 2}
    assert not problems_with(mixture={"phases": phases}, **batch)
    assert problems_with(mixture={"phases": phases})


def test_a_phase_may_turn_from_sources_to_weights(problems_with):
    mixture = {"sources": {"a": 1}, "alpha": 0.5, "phases": [{"from_step": 1, "weights": {"x": 1}}]}
    assert not problems_with(mixture=mixture)


def test_sources_may_limit_epochs_beside_weights(problems_with):
    assert not problems_with(mixture={"weights": {"x": 1}, "sources": {"a": {"max_epochs": 2}}})


def test_a_bare_number_is_the_share_of_a_source(minimal):
    mixture = config_from({**minimal, "mixture": {"sources": {"a": "1e-1", "b": {"share": 2}}}}).data.mixture
    assert [source.share for source in mixture.sources.values()] == [0.1, 2.0]
    assert mixture.tiers is None


def test_a_problem_is_blamed_on_the_file_that_wrote_it(minimal, write):
    base = write("base.yml", {**minimal, "mixture": {"tiers": TWINS, "phases": [{"from_step": 1}]}})
    lines = "# a study\nmixture.exclude: {sourcs: [code]}\nmixture.include: {}\nmixture.alpha: 2\n"
    study = write("study.yml", lines)
    with pytest.raises(ConfigError) as caught:
        load([base, study])
    places = {problem.key: problem.where for problem in caught.value.problems}
    assert places["mixture.exclude.sourcs"] == f"{study}:2"
    assert places["mixture.alpha"] == f"{study}:4"
    # Rules between keys run once the values of the mixture are sound.
    write("study.yml", "mixture.exclude: {sources: [code]}\n\nmixture.include: {}\n")
    with pytest.raises(ConfigError) as caught:
        load([base, study])
    places = {problem.key: problem.where for problem in caught.value.problems}
    text = base.read_text().splitlines()
    assert places == {
        "mixture.include": f"{study}:3",
        "mixture.tiers": f"{base}:{text.index('  tiers:') + 1}",
        "mixture.phases.0": f"{base}:{text.index('  - from_step: 1') + 1}",
    }
