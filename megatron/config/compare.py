"""What differs between two configurations, for those who go on with a run."""

from __future__ import annotations

from typing import Any

import yaml


def changed_settings(before: str, now: str) -> list[str]:
    """Return a line for each setting that differs, such as ``lr: 0.0001 -> 5e-05``, sorted by name.

    Args:
        before: a resolved configuration as :func:`megatron.config.load.dump` wrote it.
        now: another one.

    Raises:
        ValueError: one of them is no such text.
    """
    old, new = _settings(before), _settings(now)
    return [
        f"{key}: {_text(old, key)} -> {_text(new, key)}" for key in sorted({*old, *new}) if old.get(key) != new.get(key)
    ]


def _settings(text: str) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"this is no configuration: {error}") from None
    if not isinstance(settings, dict):
        raise ValueError("this is no configuration: it holds no settings")
    return settings


def _text(settings: dict[str, Any], key: str) -> str:
    text = repr(settings[key]) if key in settings else "(not set)"
    return text if len(text) <= 80 else f"{text[:77]}..."
