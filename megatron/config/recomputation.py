"""Which blocks compute activations again in the backward pass, and how much they keep: one mode for all, or for each.

A mode is ``full`` (a block keeps its input alone), ``selective`` (also the results of matrix products and of attention)
or None (it keeps everything).
"""

from __future__ import annotations

Mode = str | None
MODES: tuple[Mode, ...] = ("full", "selective", None)
"""All modes; the first keeps least and computes most again."""

Recomputation = Mode | tuple[Mode, ...]
"""The mode of all blocks; or one for each layer of the whole model, whichever process holds it."""


def mode_of(recomputation: Recomputation, layer: int) -> Mode:
    """Return the mode of a layer of the model, numbered from 0."""
    return recomputation[layer] if isinstance(recomputation, tuple) else recomputation


def modes_text(recomputation: Recomputation) -> str:
    """Return, for people, how many blocks have which mode, such as ``12 blocks full, 20 selective``."""
    if not isinstance(recomputation, tuple):
        return recomputation or "none"
    counts = [(mode or "none", recomputation.count(mode)) for mode in MODES if mode in recomputation]
    (first, count), *others = counts
    parts = [f"{count:,} block{'s' if count > 1 else ''} {first}", *(f"{count:,} {mode}" for mode, count in others)]
    return ", ".join(parts)
