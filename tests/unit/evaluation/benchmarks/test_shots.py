from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.config.benchmark_load import load_benchmark
from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.evaluation.benchmarks.shots import ShotChoice

SIB = load_benchmark("sib200")


def with_shots(shots: int) -> BenchmarkConfig:
    return SIB.model_copy(update={"shots": shots})


@given(
    shots=st.integers(0, 12), more=st.integers(0, 30), seed=st.integers(0, 10**9), ids=st.lists(st.text(max_size=5))
)
def test_shots_are_different_and_depend_on_their_item_alone(shots: int, more: int, seed: int, ids: list[str]) -> None:
    one = ShotChoice(with_shots(shots), "swh_Latn", available=shots + more, seed=seed)
    found = [one.of(number, id) for number, id in enumerate(ids)]
    assert all(len(set(chosen)) == shots and set(chosen) <= set(range(shots + more)) for chosen in found)
    alone = ShotChoice(with_shots(shots), "swh_Latn", available=shots + more, seed=seed)
    assert [alone.of(0, id) for id in reversed(ids)] == found[::-1]


def test_shots_differ_between_items_languages_benchmarks_and_seeds() -> None:
    def all_of(benchmark: str, language: str, seed: int) -> list[list[int]]:
        choice = ShotChoice(load_benchmark(benchmark), language, available=700, seed=seed)
        return [choice.of(number, str(number)) for number in range(20)]

    found = [
        all_of("sib200", "swh_Latn", 0),
        all_of("sib200", "yor_Latn", 0),
        all_of("taxi1500", "swh_Latn", 0),
        all_of("sib200", "swh_Latn", 1),
    ]
    assert len({tuple(map(tuple, each)) for each in found}) == 4
    assert len(set(map(tuple, found[0]))) == 20


def test_the_published_choices_are_repeated() -> None:
    # Made with random.seed(42), then random.randint(0, 1000) for each item: 654, 114, 25, 759 ...
    sample = ShotChoice(load_benchmark("sib200-published"), "swh_Latn", available=701, seed=7)
    # ... pandas 3.1.1: DataFrame.sample(n=3, random_state=654), and so on.
    assert [sample.of(n, "") for n in range(4)] == [[561, 103, 69], [61, 271, 577], [632, 142, 338], [422, 291, 27]]
    flores = ShotChoice(load_benchmark("flores200-from-eng-published"), "swh_Latn", available=997, seed=7)
    # ... random.seed(654), then random.randint(0, 996) three times.
    assert [flores.of(n, "") for n in range(4)] == [[675, 579, 393], [246, 576, 100], [386, 786, 949], [60, 551, 77]]


def test_pandas_chooses_the_same() -> None:
    pandas = pytest.importorskip("pandas")
    import random

    frame = pandas.DataFrame({"row": range(50)})
    random.seed(42)
    seeds = [random.randint(0, 1000) for _ in range(40)]
    choice = ShotChoice(load_benchmark("taxi1500-published"), "swh_Latn", available=50, seed=0)
    assert [choice.of(n, "") for n in range(40)] == [frame.sample(n=3, random_state=s)["row"].tolist() for s in seeds]


def test_too_few_examples_are_an_error() -> None:
    with pytest.raises(ValueError, match="asks for 3 shots; the train split of swh_Latn has 2"):
        ShotChoice(SIB, "swh_Latn", available=2, seed=0)
