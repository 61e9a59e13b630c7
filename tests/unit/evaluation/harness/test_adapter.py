from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron.evaluation.harness.adapter import Scorer, generation_options, harness_model
from megatron.evaluation.harness.installed import HarnessError, lm_eval
from megatron.generate.options import GenerationOptions
from megatron.generate.sampling import Sampling
from tests.language_models import UniformModel


@given(st.lists(st.text(max_size=40), max_size=6), st.integers(2, 30))
def test_every_byte_of_a_text_is_scored_once_however_short_the_model(texts: list[str], max_tokens: int) -> None:
    model = UniformModel(max_tokens=max_tokens)
    nats = Scorer(model).text_nats(texts)
    assert nats == pytest.approx([len(text.encode()) * math.log(257) for text in texts])
    assert all(len(request.context) == 0 and len(request.continuation) < max_tokens for request in model.requests)
    assert b"".join(bytes(request.continuation) for request in model.requests) == "".join(texts).encode()


@given(st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=8))
def test_likelihoods_come_in_the_order_asked_and_nothing_at_all_is_certain(pairs: list[tuple[bytes, bytes]]) -> None:
    found = Scorer(UniformModel()).likelihoods([(list(context), list(text)) for context, text in pairs])
    assert [likelihood.nats for likelihood in found] == pytest.approx([len(text) * math.log(257) for _, text in pairs])
    assert [likelihood.is_greedy for likelihood in found] == [not text for _, text in pairs]


def test_the_id_that_stands_for_no_context_is_not_given_twice() -> None:
    model = UniformModel()
    scorer = Scorer(model)
    scorer.likelihoods([([256], [1, 2]), ([256, 7], [1]), ([7], [256])])
    assert [list(request.context) for request in model.requests] == [[], [7], [7]]
    assert scorer.shortened == 0


def test_a_continuation_longer_than_the_model_is_refused() -> None:
    scorer = Scorer(UniformModel(max_tokens=8))
    assert scorer.likelihoods([([1], list(range(7)))])[0].nats > 0
    assert scorer.shortened == 1
    with pytest.raises(HarnessError, match="has 8 tokens, and the model takes 7"):
        scorer.likelihoods([([1], list(range(8)))])


def test_prompts_with_the_same_settings_are_written_together_and_all_answers_come_back_in_order() -> None:
    model = UniformModel(answers=["a", "b", "c", "d"])
    scorer = Scorer(model, maximum_tokens=5, seed=3)
    greedy, sampled = {"until": ["\n"]}, {"until": "x", "temperature": 0.5}
    texts = scorer.write([("one", greedy), ("two", sampled), ("three", {**greedy}), ("four", sampled)])
    assert model.prompts == ["one", "three", "two", "four"]
    assert texts == ["a", "c", "b", "d"]
    assert model.options == [
        GenerationOptions(5, ("\n",), Sampling(), 3),
        GenerationOptions(5, ("x",), Sampling(temperature=0.5), 3),
    ]


def test_a_long_prompt_loses_its_beginning_and_one_without_room_is_refused() -> None:
    model = UniformModel(max_tokens=10, answers=["yes"])
    scorer = Scorer(model, maximum_tokens=4)
    scorer.write([("abcdefgh", {}), ("abcde", {})])
    assert model.prompts == ["defgh", "abcde"]
    assert scorer.shortened == 1
    with pytest.raises(HarnessError, match="maximum_tokens = 9 leaves no room for a prompt in the 10 tokens"):
        Scorer(model, maximum_tokens=9).write([("a", {})])


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, GenerationOptions(64)),
        ({"until": "\n"}, GenerationOptions(64, ("\n",))),
        ({"until": ["", "</s>", "\n\n"]}, GenerationOptions(64, ("</s>", "\n\n"))),
        ({"until": None, "max_gen_toks": 7}, GenerationOptions(7)),
        ({"max_tokens": 8, "max_new_tokens": 9}, GenerationOptions(9)),
        ({"do_sample": False, "temperature": 0.7, "top_p": 0.9}, GenerationOptions(64)),
        ({"temperature": 0.0}, GenerationOptions(64)),
        ({"temperature": 0.6, "top_p": 0.9}, GenerationOptions(64, (), Sampling(0.6, 0, 0.9))),
        ({"do_sample": True}, GenerationOptions(64, (), Sampling(1.0))),
        ({"do_sample": True, "top_k": 4}, GenerationOptions(64, (), Sampling(1.0, 4))),
    ],
)
def test_settings_of_tasks_are_read_as_there(settings: dict[str, object], wanted: GenerationOptions) -> None:
    assert generation_options(settings, maximum_tokens=64, seed=0) == wanted


def test_a_setting_that_is_not_known_is_named() -> None:
    with pytest.raises(HarnessError, match="has beams, penalty; known are do_sample, max_completion_tokens"):
        generation_options({"penalty": 2, "beams": 1, "until": []}, maximum_tokens=1, seed=0)


def test_without_lm_eval_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    for name in [name for name in sys.modules if name.startswith("lm_eval.")]:  # other tests may have used it
        monkeypatch.delitem(sys.modules, name)
    for ask in (lambda: lm_eval("tasks"), lambda: harness_model(Scorer(UniformModel()))):
        with pytest.raises(HarnessError, match=r"pip install lm_eval==0\.4\.13"):
            ask()


def test_the_harness_sees_one_process_and_remembers_answers() -> None:
    pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness: pip install lm_eval==0.4.13")
    from lm_eval.api.instance import Instance

    class Hook:
        def __init__(self) -> None:
            self.kept: list[tuple[object, ...]] = []

        def add_partial(self, *arguments: object) -> None:
            self.kept.append(arguments)

    model = harness_model(Scorer(UniformModel(answers=["yes"]), maximum_tokens=9))
    hook = Hook()
    model.set_cache_hook(hook)
    assert (model.rank, model.world_size) == (0, 1)
    assert (model.eot_token_id, model.prefix_token_id) == (256, 256)
    assert model.tok_encode("ab", add_special_tokens=True) == [97, 98]

    def requests(kind: str, arguments: tuple[object, ...]) -> list[Instance]:
        return [Instance(kind, {}, arguments, 0)]

    [(logarithm, greedy)] = model.loglikelihood(requests("loglikelihood", ("ab ", "cd")))
    assert (logarithm, greedy) == (pytest.approx(-3 * math.log(257)), False)
    [(logarithm, _)] = model.loglikelihood(requests("loglikelihood", ("", "cd")))
    assert logarithm == pytest.approx(-2 * math.log(257))
    assert model.generate_until(requests("generate_until", ("ab", {"until": "x"}))) == ["yes"]
    model.loglikelihood_rolling(requests("loglikelihood_rolling", ("ab",)))
    assert [entry[:2] for entry in hook.kept] == [
        ("loglikelihood", ("ab ", "cd")),
        ("loglikelihood", ("", "cd")),
        ("generate_until", ("ab", {"until": "x"})),
        ("loglikelihood_rolling", ("ab",)),
    ]
