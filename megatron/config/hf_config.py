"""Reads the entries of a Hugging Face ``config.json``, which anyone may have written, and says all that is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from megatron.config.problems import shown

_ROPE_TYPES = ("default", "linear", "llama3")
_LARGEST = 1 << 53  # beyond it JSON readers disagree about whole numbers


def read_entries(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Read what decides the shape of a Llama model, as written by transformers 4 or 5.

    Returns:
        the fields of :class:`megatron.config.architecture.Architecture` (``rope_scaling`` as a dict or None), without
        those that have a problem; and every problem.
    """
    entries = _Entries(config)
    if config.get("model_type") != "llama":
        entries.refuse("model_type", "only 'llama' is supported")
    if config.get("hidden_act", "silu") != "silu":
        entries.refuse("hidden_act", "Llama uses 'silu'")
    for key in ("attention_bias", "mlp_bias"):
        if config.get(key) not in (None, False):
            entries.refuse(key, "Llama has no biases")
    heads, hidden = entries.count("num_attention_heads"), entries.count("hidden_size")
    head_dim = entries.count("head_dim", absent=0, nullable=True)
    if head_dim == 0 and hidden is not None and heads is not None:
        head_dim = hidden // heads
        if hidden % heads:
            entries.problems.append(f"hidden_size = {hidden} is no multiple of num_attention_heads = {heads}")
            head_dim = None
    fields = {
        "vocab_size": entries.count("vocab_size"),
        "hidden_size": hidden,
        "intermediate_size": entries.count("intermediate_size"),
        "num_hidden_layers": entries.count("num_hidden_layers"),
        "num_attention_heads": heads,
        "num_key_value_heads": entries.count("num_key_value_heads", absent=heads, nullable=True),
        "head_dim": head_dim,
        "max_position_embeddings": entries.count("max_position_embeddings", absent=2048),
        "rms_norm_eps": entries.number("rms_norm_eps", absent=1e-6),
        "initializer_range": entries.number("initializer_range", absent=0.02, zero=True),
        "tie_word_embeddings": entries.switch("tie_word_embeddings"),
    }
    theta = entries.number("rope_theta", absent=10_000.0, nullable=True)
    rope = _rope(entries)
    fields["rope_theta"] = rope.number("rope_theta", absent=theta, nullable=True)
    scaling = _scaling(rope)
    known = {key: value for key, value in fields.items() if value is not None}
    return {**known, "rope_scaling": scaling}, entries.problems


class _Entries:
    """Entries of one JSON object, taken out one by one with a problem noted for each that cannot be used."""

    def __init__(self, values: Mapping[str, Any], *, inside: str = "", problems: list[str] | None = None) -> None:
        self.values = values
        self.problems: list[str] = [] if problems is None else problems
        self._inside = inside

    def refuse(self, key: str, rule: str) -> None:
        """Note that an entry cannot be used."""
        self.problems.append(f"{self._inside}{key} is {shown(self.values.get(key))}, {rule}")

    def count(self, key: str, *, absent: int | None = None, nullable: bool = False) -> int | None:
        """Return a whole number of at least 1; without ``absent`` and ``nullable`` it must be there."""
        value = self.values.get(key)
        if self._left_out(key, required=absent is None and not nullable, nullable=nullable):
            return absent
        if type(value) is int and 1 <= value <= _LARGEST:
            return value
        self.refuse(key, "must be a whole number from 1 to 2^53")
        return None

    def number(
        self, key: str, *, absent: float | None = None, nullable: bool = False, zero: bool = False
    ) -> float | None:
        """Return a finite number above 0, with ``zero`` also 0; it may be left out as in :meth:`count`."""
        value = self.values.get(key)
        if self._left_out(key, required=absent is None and not nullable, nullable=nullable):
            return absent
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if math.isfinite(number) and (number > 0 or (zero and number == 0)):
                return number
        self.refuse(key, "must be a finite number " + ("of at least 0" if zero else "above 0"))
        return None

    def switch(self, key: str) -> bool | None:
        """Return true or false; false when absent."""
        value = self.values.get(key, False)
        if isinstance(value, bool):
            return value
        self.refuse(key, "must be true or false")
        return None

    def mapping(self, key: str) -> dict[str, Any]:
        """Return an object; an empty one when absent or null."""
        value = self.values.get(key)
        if value is None or isinstance(value, Mapping):
            return dict(value or {})
        self.refuse(key, "must be an object or null")
        return {}

    def _left_out(self, key: str, *, required: bool, nullable: bool) -> bool:
        if key not in self.values:
            if required:
                self.problems.append(f"{self._inside}{key} is missing")
            return True
        return nullable and self.values[key] is None


def _rope(entries: _Entries) -> _Entries:
    """Return the entries about rotary embeddings.

    transformers 5 keeps theta and scaling together in ``rope_parameters``; 4 has ``rope_theta`` and ``rope_scaling``.
    """
    merged: dict[str, Any] = {}
    inside = "rope_parameters." if entries.values.get("rope_parameters") else "rope_scaling."
    for name in ("rope_parameters", "rope_scaling"):
        rope = entries.mapping(name)
        if "type" in rope:
            rope.setdefault("rope_type", rope.pop("type"))
        for key, value in rope.items():
            if isinstance(value, Mapping):
                entries.problems.append(f"{name}.{key} is an object: one rotation for all layers is supported")
            elif key in merged and merged[key] != value:
                entries.problems.append(f"{key} is {shown(merged[key])} in rope_parameters, {shown(value)} in {name}")
            merged[key] = value
    result = _Entries(merged, inside=inside, problems=entries.problems)
    for place in (entries, result):
        if place.values.get("partial_rotary_factor") not in (None, 1):
            place.refuse("partial_rotary_factor", "Llama turns whole heads, so it must be 1 or absent")
    return result


def _scaling(rope: _Entries) -> dict[str, Any] | None:
    """Return the fields of :class:`megatron.config.architecture.RopeScaling`, or None without scaling or with problems.

    Other entries have no meaning for these types; transformers warns about them.
    """
    rope_type = rope.values.get("rope_type", "default")
    if rope_type not in _ROPE_TYPES:
        rope.refuse("rope_type", f"only {', '.join(_ROPE_TYPES)} are supported")
        return None
    if rope_type == "default":
        return None
    fields: dict[str, Any] = {"rope_type": rope_type, "factor": rope.number("factor")}
    if rope_type == "llama3":
        fields["low_freq_factor"] = rope.number("low_freq_factor")
        fields["high_freq_factor"] = rope.number("high_freq_factor")
        fields["original_max_position_embeddings"] = rope.count("original_max_position_embeddings")
    return None if None in fields.values() else fields
