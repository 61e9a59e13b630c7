from __future__ import annotations

import pytest

from megatron.config.describe import describe
from megatron.config.load import config_from, dump, load
from megatron.optim.schedule import new_token_rates, schedule_from


@pytest.mark.parametrize(
    ("changes", "key", "rule"),
    [
        ({"new_tokens_from": 5}, "new_tokens_from", "no effect without new_tokens_only_steps"),
        ({"vocab_extension": "x"}, "vocab_extension", "no effect without new_tokens_only_steps"),
        ({"new_tokens_from": 5, "new_tokens_only_steps": 0}, "new_tokens_from", "no effect without"),
        ({"new_tokens_only_steps": 5}, "new_tokens_only_steps", "not said which tokens are new"),
        ({"new_tokens_lr": 1e-3}, "new_tokens_lr", "not said which tokens are new"),
        ({"new_tokens_from": 64, "vocab_size": 64, "new_tokens_lr": 1e-3}, "new_tokens_from", "ids end at 63"),
        ({"new_tokens_from": 0, "new_tokens_lr": 1e-3}, "new_tokens_from", "is below 1"),
        ({"new_tokens_from": 5, "new_tokens_lr": 0}, "new_tokens_lr", "is not above 0"),
        ({"new_tokens_from": 5, "new_tokens_only_steps": -1}, "new_tokens_only_steps", "is below 0"),
    ],
)
def test_rules(changes, key, rule, problems_with):
    problems = problems_with(**changes)
    assert any(problem.key == key and rule in problem.rule and problem.fix for problem in problems), problems


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"new_tokens_from": 63, "vocab_size": 64, "new_tokens_lr": 1e-3},
        {"vocab_extension": "x", "new_tokens_only_steps": 5},
        {"vocab_extension": "x", "new_tokens_from": 5, "new_tokens_only_steps": 5, "new_tokens_lr": 1e-3},
    ],
)
def test_what_is_well_loads_again(changes, minimal, write):
    config = config_from({**minimal, **changes})
    assert load([write("resolved.yml", dump(config))], []) == config


def rates_shown(settings):
    config = config_from(settings)
    schedule = schedule_from(config.schedule, peak=config.optimizer.learning_rate, train_iters=config.train.train_iters)
    new = new_token_rates(config.new_tokens, schedule)
    text = describe(config, learning_rate=schedule, data_parallel_size=1, new_tokens=new)
    lines = text[text.index("learning rate (") :].splitlines()
    rows = [line.split() for line in lines[2:] if line.split()[0].replace(",", "").isdigit()]
    return lines, {int(row[0]): tuple(map(float, row[1:])) for row in rows}


def test_the_curve_has_both_rates_around_the_switch(minimal):
    settings = {"new_tokens_from": 5, "new_tokens_only_steps": 30, "new_tokens_lr": 4e-3, "lr_decay_style": "constant"}
    lines, rates = rates_shown({**minimal, **settings, "warmup": 0.1})
    assert lines[1].split(maxsplit=2)[2] == "rate of new tokens"
    assert (rates[1], rates[30], rates[31], rates[41]) == ((0.0, 4e-4), (0.0, 4e-3), (1e-4, 4e-3), (1e-3, 4e-3))


def test_a_run_that_ends_before_the_switch_is_told(minimal):
    last = rates_shown({**minimal, "new_tokens_from": 5, "new_tokens_only_steps": 100})[0][-1]
    assert "the run ends before anything but the new tokens is trained" in last
    last = rates_shown({**minimal, "new_tokens_from": 5, "new_tokens_only_steps": 99})[0][-1]
    assert "ends before" not in last


@pytest.mark.parametrize(("rate", "is_told"), [(9e-4, True), (1e-3, False), (2e-3, False)])
def test_new_tokens_that_are_slower_than_the_run_are_told(rate, is_told, minimal):
    last = rates_shown({**minimal, "new_tokens_from": 5, "new_tokens_only_steps": 10, "new_tokens_lr": rate})[0][-1]
    assert ("new_tokens_lr = 0.0009 is below lr = 0.001: the new tokens learn slower" in last) == is_told
