from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch

from megatron.config.architecture import Architecture
from megatron.config.load import load
from megatron.model.llama import Llama
from megatron.model.micro_batch import MicroBatch
from megatron.monitor.record import read_metrics
from megatron.optim.adamw import build_adamw
from megatron.optim.schedule import NewTokenRates, Schedule
from megatron.parallel.engine import Engine
from megatron.parallel.process import World
from megatron.tokenizer.extend.extension import Extension
from megatron.train.new_tokens import NewTokens
from megatron.train.step import TrainStep
from megatron.train.trainer import Trainer
from megatron.utils.files import fingerprint_file
from tests.records import losses

ALONE = World(rank=0, size=1, device=torch.device("cpu"))
VOCABULARY, FIRST, ALONE_STEPS, STEPS = 64, 50, 5, 12
BETAS, EPS, DECAY = (0.9, 0.999), 1e-8, 0.1
MATRICES = ("model.embed_tokens.weight", "lm_head.weight")
MakeRun = Callable[..., Any]


class Setup:
    """A small model, with steps that tell its new tokens apart."""

    def __init__(self, *, tied: bool = False, alone: int = ALONE_STEPS, factor: float = 3.0) -> None:
        self.model = Llama(Architecture(VOCABULARY, 32, 48, 2, 4, 2, 8, 64, tie_word_embeddings=tied))
        self.model.init_weights(seed=0)
        self.optimizer = build_adamw(self.model, learning_rate=1.0, betas=BETAS, eps=EPS, weight_decay=DECAY)
        self.engine = Engine.alone(self.model)
        self.rates = NewTokenRates(Schedule(3e-3, "cosine", STEPS, 3.0, 1e-4), alone, factor)
        self.new = NewTokens(self.engine, self.optimizer, first=FIRST, rates=self.rates)
        self.step = TrainStep(
            engine=self.engine, optimizer=self.optimizer, learning_rate=self.rates.schedule, max_gradient_norm=0.5,
            new_tokens=self.new,
        )  # fmt: skip

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self.model.named_parameters()}


def batch(step: int) -> MicroBatch:
    tokens = torch.randint(0, VOCABULARY, (2, 17), generator=torch.Generator().manual_seed(step))
    return MicroBatch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())


def by_hand(
    weight: torch.Tensor, moments: list[torch.Tensor], gradient: torch.Tensor, rates: torch.Tensor, *, decay: float
) -> None:
    """Update rows as AdamW does, in float64, each with its rate; those whose rate is 0 do not take part."""
    mean, square, count = moments
    rows = rates > 0
    count += rows
    mean[rows] = BETAS[0] * mean[rows] + (1 - BETAS[0]) * gradient[rows]
    square[rows] = BETAS[1] * square[rows] + (1 - BETAS[1]) * gradient[rows] ** 2
    shape = (-1,) + (1,) * (weight.dim() - 1)
    number, rate = count[rows].view(shape), rates[rows].view(shape)
    unbiased = mean[rows] / (1 - BETAS[0] ** number), square[rows] / (1 - BETAS[1] ** number)
    weight[rows] -= rate * (decay * weight[rows] + unbiased[0] / (unbiased[1].sqrt() + EPS))


@pytest.mark.parametrize("tied", [False, True])
def test_every_row_is_updated_as_adamw_says(tied: bool) -> None:
    run = Setup(tied=tied)
    wanted = {name: weight.double() for name, weight in run.weights().items()}
    moments = {
        name: [torch.zeros_like(weight), torch.zeros_like(weight), torch.zeros(len(weight), dtype=torch.float64)]
        for name, weight in wanted.items()
    }
    for number in range(STEPS):
        result = run.step([batch(number)], step=number)
        others, new = run.rates(number)
        assert (result.learning_rate, result.new_tokens_learning_rate) == (others, new)
        for name, parameter in run.model.named_parameters():
            rates = torch.full((len(parameter),), others, dtype=torch.float64)
            if name in MATRICES:
                rates[FIRST:] = new
            gradient = torch.zeros_like(wanted[name]) if parameter.grad is None else parameter.grad.double()
            by_hand(
                wanted[name], moments[name], gradient, rates, decay=DECAY if parameter.dim() > 1 else 0.0
            )
            # Adam divides by the size of tiny gradients too: their rounding is seen in the weights.
            torch.testing.assert_close(parameter.detach().double(), wanted[name], rtol=1e-5, atol=2e-6, msg=name)


@pytest.mark.parametrize("tied", [False, True])
def test_while_they_are_alone_nothing_else_moves_by_a_bit(tied: bool) -> None:
    run = Setup(tied=tied)
    before = run.weights()
    for number in range(ALONE_STEPS):
        run.step([batch(number)], step=number)
    for name, now in run.weights().items():
        old = slice(0, FIRST) if name in MATRICES else slice(None)
        assert torch.equal(now[old], before[name][old]), name
        moments = run.optimizer.state[run.model.get_parameter(name)]
        assert not moments["exp_avg"][old].any() and not moments["exp_avg_sq"][old].any(), name
        if name in MATRICES:
            assert not (now[FIRST:] == before[name][FIRST:]).all(1).any(), name
    run.step([batch(ALONE_STEPS)], step=ALONE_STEPS)
    for name, now in run.weights().items():
        assert not torch.equal(now, before[name]), name


def test_clipping_and_the_norm_see_what_is_trained() -> None:
    everything, run = Setup(alone=0), Setup()
    norm = everything.step([batch(0)], step=0).gradient_norm
    assert norm > 0.5  # so it is clipped
    gradients = [everything.model.get_parameter(name).grad for name in MATRICES]
    rows = torch.cat([gradient[FIRST:] for gradient in gradients if gradient is not None]) * (norm / 0.5)
    assert run.step([batch(0)], step=0).gradient_norm == pytest.approx(rows.norm().item(), rel=1e-5)
    assert rows.norm() < 0.9 * norm


def test_without_anything_told_apart_a_step_is_the_plain_one() -> None:
    run = Setup(alone=0, factor=1.0)
    plain = Setup(alone=0, factor=1.0)
    step = TrainStep(
        engine=plain.engine, optimizer=plain.optimizer, learning_rate=plain.rates.schedule, max_gradient_norm=0.5
    )
    for number in range(3):
        ours, theirs = run.step([batch(number)], step=number), step([batch(number)], step=number)
        assert (ours.loss, ours.gradient_norm, ours.learning_rate) == pytest.approx(
            (theirs.loss, theirs.gradient_norm, theirs.learning_rate), rel=1e-6
        )
    for (name, mine), other in zip(run.weights().items(), plain.weights().values(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-6, msg=name)


def test_a_skipped_update_leaves_everything_as_it_is() -> None:
    run = Setup()
    before = run.weights()
    assert not run.step([batch(0)], step=0, loss_limit=0.1).updated
    assert not run.step([batch(0)], step=ALONE_STEPS, loss_limit=0.1).updated
    assert all(torch.equal(now, before[name]) for name, now in run.weights().items())
    assert all(parameter.requires_grad for parameter in run.model.parameters())
    assert not any(state["step"].any() for state in run.optimizer.state.values())


def config_of(run: Any, *overrides: str) -> Any:
    return load([run.config], list(overrides))


SETTINGS = {"new_tokens_from": 90, "new_tokens_only_steps": 7, "new_tokens_lr": 0.02}


def test_a_run_resumes_bit_for_bit_in_the_middle_and_says_what_it_trains(
    tiny_run: MakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    run = tiny_run(**SETTINGS)
    caplog.set_level(logging.INFO, logger="megatron")
    trainer = Trainer(config_of(run), ALONE)
    trainer.run()
    whole, weights = losses(run.save), {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    events = read_metrics(run.save / "metrics.jsonl")
    assert [(e["step"], e["until"]) for e in events if e["event"] == "new_tokens"] == [(0, 7), (7, None)]
    trained = {e["step"]: e for e in events if e["event"] == "train"}
    assert [trained[step]["learning_rate"] == 0 for step in (1, 7, 8, 12)] == [True, True, False, False]
    assert trained[1]["new_tokens_learning_rate"] == pytest.approx(0.02)
    assert trained[12]["new_tokens_learning_rate"] == pytest.approx(2 * trained[12]["learning_rate"])
    lines = [record.getMessage() for record in caplog.records]
    assert sum("are trained alone until step 7; everything else stays as it is" in line for line in lines) == 1
    assert sum(line.startswith("step 7: everything is trained, the rows of the") for line in lines) == 1
    assert any("lr 0.00e+00 (new tokens " in line for line in lines)

    shutil.rmtree(run.save)
    for stop, resumed in (("exit_interval=4", None), ("exit_interval=7", 4), ("exit_interval=9", 7), ("seed=1234", 9)):
        trainer = Trainer(config_of(run, stop), ALONE)
        assert trainer.resumed_from == resumed
        trainer.run()
    assert losses(run.save) == whole
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, weights[name]), name
    events = read_metrics(run.save / "metrics.jsonl")
    told = [(e["step"], e["until"]) for e in events if e["event"] == "new_tokens"]
    assert told == [(0, 7), (4, 7), (7, None), (9, None)]


@pytest.mark.parametrize(("settings", "warned"), [((), True), (("finetune=true",), False)])
def test_a_checkpoint_of_another_run_past_the_steps_alone(
    tiny_run: MakeRun, settings: tuple[str, ...], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    run = tiny_run(**SETTINGS)
    Trainer(config_of(run, "exit_interval=7"), ALONE).run()
    trainer = Trainer(config_of(run, f"load={run.save}", f"save={run.folder / 'other'}", *settings), ALONE)
    assert ("step 7, and new_tokens_only_steps is 7: the rows of the new tokens are never" in caplog.text) == warned
    trainer.run()
    events = read_metrics(run.folder / "other" / "metrics.jsonl")
    told = [(e["step"], e["until"]) for e in events if e["event"] == "new_tokens"]
    assert told == ([(7, None)] if warned else [(0, 7), (7, None)])


def test_the_extension_says_which_tokens_are_new(tiny_run: MakeRun, caplog: pytest.LogCaptureFixture) -> None:
    run = tiny_run(vocab_extension=None, new_tokens_only_steps=None)
    size = Trainer(config_of(run), ALONE).data.manifest.tokenizer.vocab_size
    made = fingerprint_file(run.folder / "tokenizer.model")
    Extension("old", [made], size - 10, [(1, 2)] * 10).save(run.folder)
    settings = [f"vocab_extension={run.folder}", "new_tokens_only_steps=99"]
    trainer = Trainer(config_of(run, *settings), ALONE)
    assert trainer.new_tokens is not None and trainer.new_tokens.first == size - 10
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    trainer.run()
    assert "the run ends before it trains anything else: lower new_tokens_only_steps" in caplog.text
    for name, parameter in trainer.model.named_parameters():
        old = slice(0, size - 10) if name in MATRICES else slice(None)
        assert torch.equal(parameter[old], before[name][old]), name
        assert (name in MATRICES) != torch.equal(parameter, before[name]), name
    carried = {path.read_bytes() for path in run.save.glob("global_step*/hf/extension.json")}
    assert carried == {(run.folder / "extension.json").read_bytes()}
    Extension("old", ["another"], size - 10, [(1, 2)] * 10).save(run.folder)
    with pytest.raises(ValueError, match=r"made a tokenizer with fingerprint another, and that of the run"):
        Trainer(config_of(run, *settings), ALONE)
