"""What may not change between the parts of one run, and the check that it has not."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from megatron.checkpoint.storage import Storage
from megatron.checkpoint.store import CheckpointError
from megatron.config.architecture import Architecture
from megatron.data.manifest import ShardInfo
from megatron.data.mixture import Mixture
from megatron.data.order import ORDER_VERSION
from megatron.train.build import Data
from megatron.utils.log import get_logger

logger = get_logger(__name__)


def run_identity(data: Data, architecture: Architecture, *, seed: int) -> dict[str, Any]:
    """Return the facts that a checkpoint stores and that a resumed run must share: JSON values by name."""
    return {
        "architecture": dataclasses.asdict(architecture),
        "tokenizer": dataclasses.asdict(data.manifest.tokenizer),
        "order": ORDER_VERSION,
        "mixture": mixture_identity(data.mixture),
        "seq_length": data.order.seq_length,
        "seed": seed,
    }


def mixture_identity(mixture: Mixture) -> dict[str, Any]:
    """Return the text that a mixture takes and each phase's shares, as JSON values.

    ``corpora`` is name to ``[content hash, tokens]``, with first document and first token for the part of a file that
    does not begin with it. ``phases`` hold a share for each corpus, in the same order. ``steps`` and ``planned_tokens``
    may differ; they tell what has made the rest differ.
    """
    return {
        "corpora": {corpus.shard.name: _text_of(corpus.shard) for corpus in mixture.trained},
        "phases": [
            {
                "first": phase.first_sample,
                "ramp": phase.ramp_samples,
                "steps": [phase.from_step, phase.ramp_steps],
                "shares": [repr(share) for share in phase.shares],
            }
            for phase in mixture.phases
        ],
        "planned_tokens": mixture.planned_samples * mixture.run.seq_length,
        "limited": any(corpus.max_epochs is not None for corpus in mixture.trained),
    }


def _text_of(shard: ShardInfo) -> list[str | int]:
    part = [shard.first_document, shard.first_token]
    return [shard.content_hash, shard.tokens, *(part if any(part) else ())]


def check_same_run(
    state: dict[str, Any], identity: dict[str, Any], checkpoint: Storage, *, allowed: Collection[str] = ()
) -> None:
    """Refuse to continue a checkpoint with another model, tokenizer, mixture, sequence length or seed.

    Of the mixture only what the checkpoint has been trained on counts: phases that begin later may be anything.

    Args:
        state: what the checkpoint says.
        identity: what this run is.
        checkpoint: for messages.
        allowed: names of the identity that may differ (``allow_changes``); that they do is logged.

    Raises:
        CheckpointError: naming everything else that differs.
    """
    wanted = json.loads(json.dumps(identity))
    for name in allowed:
        if state.get(name) != wanted[name]:
            logger.warning("%s has another %s than this run; allow_changes lets it", checkpoint, name)
            state = {**state, name: wanted[name]}
    if "order" not in state and state.get("from"):
        raise CheckpointError(f"{checkpoint} was converted and holds weights only: set `finetune: true`")
    if state.get("order") != wanted["order"]:
        raise CheckpointError(
            f"{checkpoint} was trained by a version of this program that draws samples in another order (version "
            f"{state.get('order', 1)}, here {wanted['order']}): go on with that version, or start a new run from its "
            "weights in another `save` folder, with `load` set to it and `finetune: true`"
        )
    problems = [
        f"{name} was {state.get(name)!r}, is now {value!r}"
        for name, value in wanted.items()
        if state.get(name) != value and name != "mixture"
    ]
    samples = state["samples"] if isinstance(state.get("samples"), int) else math.inf
    problems += _mixture_problems(
        state.get("mixture"),
        wanted["mixture"],
        samples=samples,
        seq_length=wanted["seq_length"],
    )
    if math.isinf(samples):
        problems.append("the number of samples consumed is missing")
    if problems:
        raise CheckpointError(
            f"{checkpoint} belongs to another run: {'; '.join(problems)}. Give another `save` folder, or change the "
            "configuration back; to start a new run from its weights, set `load` to it and `finetune: true`; to go on "
            "all the same, name what has changed in `allow_changes`"
        )


@dataclasses.dataclass(frozen=True)
class _Phase:
    first: int
    ramp: int
    steps: Sequence[int | None]
    shares: dict[str, str]  # of the corpora that it takes


@dataclasses.dataclass(frozen=True)
class _Trained:
    """What has been trained on: phases that have begun, and the text of their corpora in the manifest's order."""

    corpora: dict[str, list[Any]]
    phases: list[_Phase]
    later: list[_Phase]
    planned_tokens: int | None
    limited: bool


def _mixture_problems(before: Any, now: dict[str, Any], *, samples: float, seq_length: int) -> list[str]:
    try:
        old = _trained(before, samples)
    except (AttributeError, KeyError, TypeError, ValueError):
        return ["the mixture it was trained on is missing"]
    new = _trained(now, samples)
    problems = [
        *_corpus_problems(old, new),
        *_phase_problems(old, new, samples=samples, seq_length=seq_length),
        *_share_problems(old, new),
    ]
    if not problems and _by_share(old) != _by_share(new):
        return ["corpora of equal shares are listed in another order in the manifest"]  # which breaks ties
    return problems


def _by_share(trained: _Trained) -> list[list[str]]:
    """Return the corpora of every phase by their shares, those of equal shares in the manifest's order."""
    return [sorted(phase.shares, key=phase.shares.__getitem__) for phase in trained.phases]


def _trained(mixture: dict[str, Any], samples: float) -> _Trained:
    names = list(mixture["corpora"])
    phases = [
        _Phase(
            first=phase["first"],
            ramp=phase["ramp"],
            steps=phase["steps"],
            shares={name: share for name, share in zip(names, phase["shares"], strict=True) if float(share) > 0},
        )
        for phase in mixture["phases"]
    ]
    begun = [phase for phase in phases if phase.first < max(samples, 1)]
    used = {name for phase in begun for name in phase.shares}
    return _Trained(
        corpora={name: list(text) for name, text in mixture["corpora"].items() if name in used},
        phases=begun,
        later=phases[len(begun) :],
        planned_tokens=mixture.get("planned_tokens"),
        limited=bool(mixture.get("limited")),
    )


def _corpus_problems(old: _Trained, new: _Trained) -> Iterator[str]:
    both = [name for name in new.corpora if name in old.corpora]
    kinds = {
        "is new": [name for name in new.corpora if name not in old.corpora],
        "is gone": [name for name in old.corpora if name not in new.corpora],
        "holds other text": [name for name in both if old.corpora[name] != new.corpora[name]],
    }
    return (_counted(names, what) for what, names in kinds.items() if names)


def _phase_problems(old: _Trained, new: _Trained, *, samples: float, seq_length: int) -> Iterator[str]:
    """Tell of phases that have moved, or are there at one of the times only."""
    if len(old.phases) != len(new.phases):
        seen = "" if math.isinf(samples) else f" in the first {samples:,} samples"
        yield f"the mixture had {_phases(len(old.phases))}{seen}, and has {len(new.phases)} now{_by_steps(old, new)}"
        return
    for number, (before, now) in enumerate(zip(old.phases, new.phases, strict=True)):
        for what, was, is_now, unit in (
            ("starts at sample", before.first, now.first, 0),
            ("has a ramp of samples:", before.ramp, now.ramp, 1),
        ):
            if was == is_now:
                continue
            in_steps = now.steps[unit] is not None and now.steps[unit] == before.steps[unit]
            in_tokens = f"{('from_tokens', 'ramp_tokens')[unit]}: {was * seq_length}"
            why = f", since it is given in steps and the batch size is another: give {in_tokens}" if in_steps else ""
            yield f"phase {number} of the mixture {what} {is_now:,}, not {was:,}{why}"


def _phases(count: int) -> str:
    return "1 phase" if count == 1 else f"{count} phases"


def _by_steps(old: _Trained, new: _Trained) -> str:
    steps = any(phase.steps[0] is not None for phase in (*old.phases, *new.phases))
    return " (a start in steps moves with the batch size; from_tokens does not)" if steps else ""


def _share_problems(old: _Trained, new: _Trained) -> Iterator[str]:
    """Tell of corpora with other shares, and when it is the length of the run that has changed them."""
    both = [name for name in new.corpora if name in old.corpora]
    pairs = list(zip(old.phases, new.phases, strict=False))
    changed = [name for name in both if any(was.shares.get(name) != now.shares.get(name) for was, now in pairs)]
    if not changed:
        return
    yield _counted(changed, "has another share") + (_by_limits(old, new) if old.limited or new.limited else "")


def _by_limits(old: _Trained, new: _Trained) -> str:
    """Return how limits on epochs can have changed shares of phases that are the same in the configuration."""
    if old.planned_tokens not in (None, new.planned_tokens):
        return (
            f", since max_epochs is now reckoned for {new.planned_tokens:,} training tokens, not for "
            f"{old.planned_tokens:,}: set mixture.planned_tokens to {old.planned_tokens}"
        )
    return ", since max_epochs counts over all phases, and later ones have changed" if old.later != new.later else ""


def _counted(names: Sequence[str], what: str) -> str:
    more = f" (so do {len(names) - 1} more corpora)" if len(names) > 1 else ""
    return f"{names[0]} {what}{more}"
