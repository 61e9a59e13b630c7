"""What differs between configurations, for those who go on with a run or look at several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import yaml

_NOT_SET = "(not set)"
_MAX_CHARACTERS = 80


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


def settings_side_by_side(texts: Sequence[str]) -> dict[str, list[str]]:
    """Return every setting with its value in each configuration, sorted by name.

    Settings inside others have names such as ``mixture.tiers.low.rate``; a value that is not there is ``(not set)``.

    Raises:
        ValueError: one of the texts is no resolved configuration.
    """
    flat = [dict(_leaves(_settings(text))) for text in texts]
    names = sorted({name for settings in flat for name in settings})
    return {name: [repr(settings[name]) if name in settings else _NOT_SET for settings in flat] for name in names}


def top_setting(text: str, key: str) -> object:
    """Return one setting of a resolved configuration, None where it is not there.

    Raises:
        ValueError: the text is no resolved configuration.
    """
    return _settings(text).get(key)


def _leaves(settings: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what lies inside nested settings; an empty group is a value itself."""
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _settings(text: str) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"this is no configuration: {error}") from None
    if not isinstance(settings, dict):
        raise ValueError("this is no configuration: it holds no settings")
    return settings


def _text(settings: dict[str, Any], key: str) -> str:
    text = repr(settings[key]) if key in settings else _NOT_SET
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 3]}..."
