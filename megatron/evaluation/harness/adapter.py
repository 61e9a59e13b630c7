"""A language model as lm-evaluation-harness asks for one.

Source: ``lm_eval.api.model`` of lm_eval 0.4.13. Its ``HFLM`` drops the id that begins a text when it shortens one, and
leaves it out of every rolling window but the first. Ours keeps it: many models predict nonsense without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from megatron.evaluation.harness.installed import HarnessError, lm_eval
from megatron.evaluation.language_model import LanguageModel, Likelihood, Request
from megatron.generate.options import GenerationOptions
from megatron.generate.sampling import Sampling

_MAXIMUM_TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_GENERATION_KEYS = {*_MAXIMUM_TOKENS, "until", "do_sample", "temperature", "top_k", "top_p"}


class Scorer:
    """Answers the requests of lm-evaluation-harness, given as token ids or text.

    Args:
        model: scores and writes; divides the work among its processes by itself.
        maximum_tokens: most new tokens where a task names no number; 256 is lm-evaluation-harness's own.
        seed: of random choices, where a task samples.

    Attributes:
        shortened: how many contexts and prompts were too long so far, and lost their beginning.
    """

    def __init__(self, model: LanguageModel, *, maximum_tokens: int = 256, seed: int = 0) -> None:
        self.shortened = 0
        self._model = model
        self._maximum_tokens = maximum_tokens
        self._seed = seed

    @property
    def end_id(self) -> int:
        """The id that ends a text."""
        return self._model.tokenizer.eod_id

    @property
    def first_id(self) -> int:
        """The id that stands for an empty context; the model itself puts one before every text."""
        tokenizer = self._model.tokenizer
        return tokenizer.eod_id if tokenizer.bos_id is None else tokenizer.bos_id

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text alone: nothing that begins or ends it."""
        return self._model.tokenizer.encode(text)

    def likelihoods(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Likelihood]:
        """Return how likely every second part is after the first, in their order.

        Nothing at all, as a continuation, is certain.

        Raises:
            HarnessError: a continuation is longer than the model.
        """
        room = self._model.max_tokens - 1
        longest = max((len(continuation) for _, continuation in pairs), default=0)
        if longest > room:
            raise HarnessError(
                f"a continuation has {longest} tokens, and the model takes {room} after the one that begins a text; "
                "it cannot be scored by this model"
            )
        # Only lm-evaluation-harness itself can have put the first id there: no text encodes to it.
        requests = [
            Request(context[1:] if context[:1] == [self.first_id] else context, continuation)
            for context, continuation in pairs
        ]
        self.shortened += sum(len(context) + len(continuation) > room for context, continuation in requests)
        scored = iter(self._model.likelihoods([request for request in requests if len(request.continuation) > 0]))
        return [next(scored) if len(request.continuation) > 0 else Likelihood(0.0, True) for request in requests]

    def text_nats(self, texts: Sequence[str]) -> list[float]:
        """Return minus the log-probability of whole texts.

        A text that is longer than the model is cut into windows that do not overlap, each of them begun like a text.
        """
        length = self._model.max_tokens - 1
        requests, owners = [], []
        for number, ids in enumerate(map(self.encode, texts)):
            for start in range(0, len(ids), length):
                requests.append(Request([], ids[start : start + length]))
                owners.append(number)
        nats = [0.0] * len(texts)
        for owner, likelihood in zip(owners, self._model.likelihoods(requests) if requests else [], strict=True):
            nats[owner] += likelihood.nats
        return nats

    def write(self, prompts: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """Continue every prompt as its own settings say, in their order.

        Raises:
            HarnessError: settings that are not known, or leave no room for a prompt.
        """
        groups: dict[str, list[int]] = {}
        for number, (_, settings) in enumerate(prompts):
            groups.setdefault(json.dumps(settings, sort_keys=True), []).append(number)
        texts = [""] * len(prompts)
        for numbers in groups.values():
            options = generation_options(prompts[numbers[0]][1], maximum_tokens=self._maximum_tokens, seed=self._seed)
            contexts = [self._shorten(self.encode(prompts[number][0]), options) for number in numbers]
            for number, written in zip(numbers, self._model.write(contexts, options), strict=True):
                texts[number] = written.text
        return texts

    def _shorten(self, ids: list[int], options: GenerationOptions) -> list[int]:
        room = self._model.max_tokens - 1 - options.maximum_tokens
        if room < 1:
            raise HarnessError(
                f"maximum_tokens = {options.maximum_tokens} leaves no room for a prompt in the "
                f"{self._model.max_tokens} tokens that the model takes; lower it"
            )
        self.shortened += len(ids) > room
        return ids[-room:]


def generation_options(settings: Mapping[str, Any], *, maximum_tokens: int, seed: int) -> GenerationOptions:
    """Return how to write, from a task's ``generation_kwargs``.

    Args:
        settings: ``until``, a string or several; ``do_sample``, ``temperature``, ``top_k``, ``top_p``; a most number of
            new tokens under any of the names that lm-evaluation-harness knows.
        maximum_tokens: where the settings name none.
        seed: of random choices.

    Raises:
        HarnessError: a setting that is not among them.
    """
    unknown = sorted(set(settings) - _GENERATION_KEYS)
    if unknown:
        known = ", ".join(sorted(_GENERATION_KEYS))
        raise HarnessError(f"generation_kwargs has {', '.join(unknown)}; known are {known}")
    until = settings.get("until") or []
    named = [int(settings[name]) for name in _MAXIMUM_TOKENS if settings.get(name) is not None]
    temperature = settings.get("temperature")
    # As there: without a word on sampling, a temperature asks for it; with one, 1 is the temperature of who gives none.
    samples = settings.get("do_sample", bool(temperature))
    sampling = Sampling(
        temperature=(1.0 if temperature is None else float(temperature)) if samples else 0.0,
        top_k=int(settings.get("top_k") or 0) if samples else 0,
        top_p=float(settings.get("top_p") or 0.0) if samples else 0.0,
    )
    return GenerationOptions(
        maximum_tokens=named[0] if named else maximum_tokens,
        stop=tuple(stop for stop in ([until] if isinstance(until, str) else until) if stop),
        sampling=sampling,
        seed=seed,
    )


def harness_model(scorer: Scorer) -> Any:
    """Return a scorer as the ``TemplateLM`` that lm-evaluation-harness evaluates.

    To lm-evaluation-harness there is one process, of rank 0: each of ours is handed every request, and the model
    divides the work. The results of all processes are the same.

    Raises:
        HarnessError: lm_eval is not installed.
    """
    base: Any = lm_eval("api.model").TemplateLM

    class HarnessModel(base):  # type: ignore[misc]  # its class is not known before it is imported
        @property
        def eot_token_id(self) -> int:
            return scorer.end_id

        @property
        def prefix_token_id(self) -> int:
            return scorer.first_id

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
            return scorer.encode(string)

        def _loglikelihood_tokens(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
            scored = scorer.likelihoods([(context, continuation) for _, context, continuation in requests])
            answers = [(-likelihood.nats, likelihood.is_greedy) for likelihood in scored]
            self._remember("loglikelihood", [texts for texts, _, _ in requests], answers)
            return answers

        def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> Any:
            return super().loglikelihood(requests, disable_tqdm=True)

        def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[float]:
            answers = [-nats for nats in scorer.text_nats([request.args[0] for request in requests])]
            self._remember("loglikelihood_rolling", [request.args for request in requests], answers)
            return answers

        def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[str]:
            answers = scorer.write([request.args for request in requests])
            self._remember("generate_until", [request.args for request in requests], answers)
            return answers

        def _remember(self, kind: str, asked: Sequence[Any], answers: Sequence[Any]) -> None:
            for arguments, answer in zip(asked, answers, strict=True):
                self.cache_hook.add_partial(kind, arguments, answer)

    return HarnessModel()
