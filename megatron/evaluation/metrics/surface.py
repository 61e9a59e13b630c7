"""What can be seen of texts without knowing their language: whether they are there, and in the right script."""

from __future__ import annotations

import functools
import math

import regex

from megatron.evaluation.metrics.texts import Texts
from megatron.languages.script import NO_SCRIPTS, script_profile


def empty_rate(texts: Texts) -> float:
    """Return the share of outputs without a visible character, 0..1: nothing but blanks, controls and the like."""
    if not texts.outputs:
        return math.nan
    return sum(map(is_empty, texts.outputs)) / len(texts.outputs)


def is_empty(output: str) -> bool:
    """Return whether a text has no visible character."""
    return _invisible().fullmatch(output) is not None


def off_target_rate(texts: Texts) -> float:
    """Return the share of outputs whose main script is not that of the language, 0..1.

    Outputs without letters do not count; not a number when there are no others, or the code names no script. Japanese
    and Korean may be in Han characters alone when they are as short as a title (:class:`.ScriptProfile`).
    A wrong language in the right script is not seen.
    """
    if texts.script in NO_SCRIPTS:
        return math.nan
    profiles = [profile for output in texts.outputs if (profile := script_profile(output)).letters]
    if not profiles:
        return math.nan
    return sum(profile.share(texts.script) < profile.main_share for profile in profiles) / len(profiles)


@functools.cache
def _invisible() -> regex.Pattern[str]:
    return regex.compile(r"[\p{Z}\p{C}]*")
