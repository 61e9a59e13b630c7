"""The rules inside ``mixture``, as :mod:`megatron.config.check` runs them. Each names the key by its whole path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from megatron.config.mixture_schema import MixtureConfig, PhaseConfig, SourceConfig, TierConfig
from megatron.config.problems import Complaint

_Stage = MixtureConfig | PhaseConfig
_KeyPath = tuple[str, ...]

_PHASE_KEYS = ("tiers", "alpha", "weights", "sources", "include", "exclude")


def _stages(mixture: MixtureConfig | None) -> Iterator[tuple[_KeyPath, _Stage]]:
    """Yield the mixture itself and its phases, each with the path to it."""
    if mixture is not None:
        yield ("mixture",), mixture
        for number, phase in enumerate(mixture.phases):
            yield ("mixture", "phases", str(number)), phase


def _all_tiers(mixture: MixtureConfig | None) -> Iterator[tuple[_KeyPath, Mapping[str, TierConfig]]]:
    """Yield every list of tiers: of the mixture, of its phases, and of the sources of both."""
    for path, stage in _stages(mixture):
        yield from _tiers_in(path, stage)


def _tiers_in(path: _KeyPath, stage: _Stage) -> Iterator[tuple[_KeyPath, Mapping[str, TierConfig]]]:
    if stage.tiers is not None:
        yield (*path, "tiers"), stage.tiers
    for name, source in (stage.sources or {}).items():
        if source.tiers is not None:
            yield (*path, "sources", name, "tiers"), source.tiers


def _tiers_differ(mixture: MixtureConfig | None) -> Iterator[Complaint]:
    for path, tiers in _all_tiers(mixture):
        bounds = [tier.above for tier in tiers.values()]
        for bound in sorted({bound for bound in bounds if bounds.count(bound) > 1}):
            names = [name for name, tier in tiers.items() if tier.above == bound]
            yield path, f"has several tiers above {bound:g}: {', '.join(names)}", "Give each tier its own bound."
        if not any(tier.rate for tier in tiers.values()):
            yield path, "has rate 0 in every tier, so nothing of them would be trained on", "Raise a rate."


def _weights_stand_alone(mixture: MixtureConfig | None) -> Iterator[Complaint]:
    for path, stage in _stages(mixture):
        named = [key for key in ("alpha", "sources") if _gives_shares(stage, key)]
        if stage.weights is not None:
            for key in named:
                rule = "is given beside weights, which gives every corpus its share"
                yield (*path, key), rule, f"Remove {key}, or weights."
            if not any(stage.weights.values()):
                yield (*path, "weights"), "is 0 throughout, so nothing would be trained on", "Raise a weight."
        elif mixture is not None and mixture.weights is not None:
            for key in named:
                yield (*path, key), "has no effect under mixture.weights", "Give the phase weights of its own."


def _rates_count(mixture: MixtureConfig | None) -> Iterator[Complaint]:
    """Refuse rates beside weights: there, tiers only sort corpora by size, for their limits and for selections."""
    for path, stage in _stages(mixture):
        if stage.weights is None and (mixture is None or mixture.weights is None):
            continue
        for where, tiers in _tiers_in(path, stage):
            rated = [name for name, tier in tiers.items() if tier.rate != 1]
            if rated:
                rule = f"gives {', '.join(rated)} a rate, which has no effect beside weights"
                yield where, rule, "Write rate: 1, or remove weights."


def _gives_shares(stage: _Stage, key: str) -> bool:
    """Tell whether ``alpha`` or ``sources`` says something about shares; limits on epochs are no shares."""
    if key == "alpha":
        return stage.alpha is not None
    return any(source.share is not None or source.alpha is not None for source in (stage.sources or {}).values())


def _shares_for_all(mixture: MixtureConfig | None) -> Iterator[Complaint]:
    for path, stage in _stages(mixture):
        sources: Mapping[str, SourceConfig] = stage.sources or {}
        without = [name for name, source in sources.items() if source.share is None]
        if 0 < len(without) < len(sources):
            rule = f"gives some sources a share, but not {', '.join(without)}"
            yield (*path, "sources"), rule, "Give all of them a share, or none."


def _selections_choose(mixture: MixtureConfig | None) -> Iterator[Complaint]:
    for path, stage in _stages(mixture):
        for key in ("include", "exclude"):
            selection = getattr(stage, key)
            if isinstance(stage, PhaseConfig) and key == "exclude":
                continue  # an empty one takes back what the mixture leaves out
            if selection is not None and not any(getattr(selection, name) for name in type(selection).model_fields):
                rule = "lists nothing to choose by"
                yield (*path, key), rule, f"List {', '.join(type(selection).model_fields)}, or remove {key}."


def _phases_begin(mixture: MixtureConfig | None) -> Iterator[Complaint]:
    for path, phase in _stages(mixture):
        if not isinstance(phase, PhaseConfig):
            continue
        if phase.from_step is None and phase.from_tokens is None:
            yield path, "does not say when it begins", "Add from_step or from_tokens."
        for unit, other in (("from_step", "from_tokens"), ("ramp_steps", "ramp_tokens")):
            if getattr(phase, unit) is not None and getattr(phase, other) is not None:
                yield (*path, other), f"is given beside {unit} = {getattr(phase, unit)}", "Keep one of the two."
        if all(getattr(phase, key) is None for key in _PHASE_KEYS):
            fix = f"Name what differs from then on ({', '.join(_PHASE_KEYS)}), or remove the phase."
            yield path, "changes nothing", fix


def _phases_follow(mixture: MixtureConfig | None, train_batch_size: int | None, seq_length: int) -> Iterator[Complaint]:
    """Compare the starts of neighbours, as far as they are in one unit or the size of a step is known."""
    phases = mixture.phases if mixture is not None else ()
    step_tokens = train_batch_size * seq_length if train_batch_size is not None else None
    for number in range(1, len(phases)):
        before, phase = phases[number - 1], phases[number]
        unit = "from_tokens" if phase.from_step is None else "from_step"
        path = ("mixture", "phases", str(number), unit)
        for before_tokens, start_tokens, end_tokens in _comparable(before, phase, step_tokens):
            if start_tokens <= before_tokens:
                yield path, "is not after the start of the phase before it", "List phases in the order of their start."
            elif start_tokens < end_tokens:
                rule = "is before the end of the ramp of the phase before it"
                yield path, rule, "Shorten that ramp, or begin this phase later."


def _comparable(
    before: PhaseConfig, phase: PhaseConfig, step_tokens: int | None
) -> Iterator[tuple[float, float, float]]:
    """Yield start of one phase, start of the next and end of the first's ramp, if they can be had in one unit."""
    for steps, tokens in ((step_tokens, 1), (1, None)):
        start = _amount(before.from_step, before.from_tokens, steps, tokens)
        following = _amount(phase.from_step, phase.from_tokens, steps, tokens)
        if start is None or following is None:
            continue
        ramp = _amount(before.ramp_steps, before.ramp_tokens, steps, tokens)
        yield start, following, start + (ramp or 0)
        return


def _amount(in_steps: int | None, in_tokens: float | None, step: int | None, token: int | None) -> float | None:
    """Return an amount in a common unit, of which a step and a token have so many; None when it cannot be told."""
    if in_steps is not None:
        return None if step is None else in_steps * step
    return None if in_tokens is None or token is None else in_tokens * token


MIXTURE_RULES: tuple[Callable[..., Iterator[Complaint]], ...] = (
    _tiers_differ,
    _weights_stand_alone,
    _rates_count,
    _shares_for_all,
    _selections_choose,
    _phases_begin,
    _phases_follow,
)
"""All rules of this module."""
