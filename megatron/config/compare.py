"""What differs between two configurations, for those who go on with a run."""

from __future__ import annotations

from typing import Any

import yaml

from megatron.config.load import effective_settings
from megatron.config.schema import Config


def changed_settings(before: str, now: Config) -> list[str]:
    """Return a line for each setting that differs, such as ``lr: 0.0001 -> 5e-05``, sorted by name.

    Args:
        before: a resolved configuration as :func:`megatron.config.load.dump` wrote it.
        now: the present one.

    Raises:
        ValueError: ``before`` is no such text.
    """
    try:
        old = yaml.safe_load(before)
    except yaml.YAMLError as error:
        raise ValueError(f"it holds no configuration: {error}") from None
    if not isinstance(old, dict):
        raise ValueError("it holds no configuration")
    new = {key: value for section in effective_settings(now).values() for key, value in section.items()}
    return [
        f"{key}: {_text(old, key)} -> {_text(new, key)}" for key in sorted({*old, *new}) if old.get(key) != new.get(key)
    ]


def _text(settings: dict[str, Any], key: str) -> str:
    text = repr(settings[key]) if key in settings else "(not set)"
    return text if len(text) <= 80 else f"{text[:77]}..."
