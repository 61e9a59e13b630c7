from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def train_step() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))  # also for the processes of sides
    import train_step as module

    yield module
    sys.path.remove(str(BENCHMARKS))


def cases(module: ModuleType, *words: str) -> list[object]:
    return list(module.cases(module._arguments(words), cuda=False))


def test_peers_do_what_ours_does(train_step: ModuleType) -> None:
    for words in ([], ["--recompute", "selective"], ["--activation-gib", "0.05"], ["--shape", "llama3-8b"]):
        for case in cases(train_step, *words):
            for name, (_, task) in case.peers.items():  # type: ignore[attr-defined]
                same = dataclasses.replace(task, bf16_weights=False, keeps_memory=True)
                assert same == case.task, (words, name)  # type: ignore[attr-defined]


def test_products_in_8_bits_are_compared_with_our_own_without(train_step: ModuleType) -> None:
    (case,) = cases(train_step, "--shape", "llama2-7b", "--fp8", "rowwise")
    assert case.task.fp8 == "rowwise"  # type: ignore[attr-defined]
    side, task = case.peers["ours, bf16"]  # type: ignore[attr-defined]
    assert side == "ours" and task == dataclasses.replace(case.task, fp8=None)  # type: ignore[attr-defined]


def test_peers_that_are_missing_or_fail_are_named(train_step: ModuleType) -> None:
    (case,) = cases(train_step, "--precision", "fp32", "--shape", "1b")
    ours = train_step.Measured(9.0, [2.0, 1.0, 4.0], 1 << 20)
    measured = {
        "ours": ours,
        "transformers": train_step.Measured(5.0, [4.0, 4.0, 5.0], 1 << 21),
        "torchtitan": train_step.Failed(train_step.NOT_INSTALLED),
        "another": train_step.Failed("out of memory"),
    }
    there, missing, failed = train_step.lines(case, measured, 1e12, None)
    assert there.ratio == 2.0 and there.more["memory"] == 0.5 and there.more["peer first s"] == 5.0
    assert missing.ratio is None and (missing.peer_name, missing.missing) == ("torchtitan", "is NOT INSTALLED")
    assert failed.ratio is None and (failed.peer_name, failed.missing) == ("another", "out of memory")


def test_sides_that_disagree_are_refused(train_step: ModuleType) -> None:
    from train_step_sides import check_losses

    check_losses({"ours": [10.4, 9.9], "peer": [10.41, 9.91]})
    with pytest.raises(ValueError, match=r"ours 9\.9000, peer 10\.1000"):
        check_losses({"ours": [10.4, 9.9], "peer": [10.4, 10.1]})


def test_both_sides_learn_the_same(train_step: ModuleType) -> None:
    from train_step_sides import measure

    shape = train_step.small_llama(vocab_size=512, positions=32)
    task = train_step.Task(dataclasses.replace(shape, num_hidden_layers=1), batch=2, length=32, threads=1)
    sides = {"ours": ("ours", task), "transformers": ("transformers", task), "torchtitan": ("torchtitan", task)}
    measured = dict(measure(sides, repetitions=1, together=True))
    assert isinstance(measured["ours"], train_step.Measured) and measured["ours"].peak_bytes > 0
    assert isinstance(measured["transformers"], train_step.Measured)
    assert measured["torchtitan"] == train_step.Failed(train_step.NOT_INSTALLED) or isinstance(
        measured["torchtitan"], train_step.Measured
    )
