"""The numbers of an event as curves, for those who draw them."""

from __future__ import annotations

from megatron.monitor.record import Event
from megatron.monitor.summary import Grouping, macro_mean, macro_means, num_unscored, scores

_TRAIN_CURVES = (
    *("loss", "learning_rate", "new_tokens_learning_rate", "gradient_norm"),
    *("tokens_per_second", "tflops_per_process", "mfu", "seconds", "data_seconds", "memory_bytes"),
)


def scalars(event: Event) -> dict[str, float]:
    """Return tag -> number of a ``train``, ``validation`` or ``checkpoint`` event; nothing for the others.

    Tags: ``train/loss`` ..., ``train_source/<source>`` and ``train_tier/<tier>`` in nats per token;
    ``validation/bits_per_byte`` (macro mean over all corpora), ``validation_tier/<tier>``,
    ``validation_source/<source>`` and ``validation_language/<code>`` in bits per byte; ``forgetting/percent``,
    ``forgetting/corpora_worse`` and ``forgetting/<pivot>``; ``checkpoint/seconds`` and ``checkpoint/waited_seconds``.
    """
    kind = event["event"]
    if kind == "train":
        values = {f"train/{name}": event.get(name) for name in _TRAIN_CURVES}
        for tag, key in (("train_source", "sources"), ("train_tier", "tiers")):
            values.update({f"{tag}/{name}": loss for name, loss in event.get(key, {}).items()})
        return {tag: float(value) for tag, value in values.items() if value is not None}
    if kind == "validation":
        return _of_validation(event)
    if kind == "checkpoint":
        return {f"checkpoint/{name}": float(event[name]) for name in ("seconds", "waited_seconds")}
    return {}


def _of_validation(event: Event) -> dict[str, float]:
    rows = event["rows"]
    if num_unscored(rows) == len(rows):
        return {}
    values = {"validation/bits_per_byte": macro_mean(score.bits_per_byte for score in scores(rows))}
    if lost := event.get("forgetting"):
        values["forgetting/percent"], values["forgetting/corpora_worse"] = lost["percent"], float(lost["worse"])
        values.update({f"forgetting/{name}": percent for name, percent in lost["pivots"].items()})
    groupings: tuple[tuple[str, Grouping], ...] = (("tier", "tier"), ("source", "source"), ("language", "code"))
    for tag, by in groupings:
        values.update({f"validation_{tag}/{name}": value for name, value in macro_means(rows, by=by).items()})
    return values
