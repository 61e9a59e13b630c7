"""What sections are made of: the types of their fields, and their base."""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, Strict
from pydantic_core import CoreSchema, core_schema

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def as_number(value: object) -> object:
    """Return a text such as ``1e-5``, which YAML 1.1 reads as a string, as a float; anything else unchanged."""
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


def as_tuple(value: object) -> object:
    """Return a list as a tuple; anything else unchanged."""
    return tuple(value) if isinstance(value, list) else value


def _as_arguments(value: object) -> object:
    """Return a text such as ``--cpu-bind=cores -v`` as its words, read as a shell would; a list as a tuple."""
    return tuple(shlex.split(value)) if isinstance(value, str) else as_tuple(value)


class AnyCase:
    """Lets a ``Literal`` of strings accept every mix of upper and lower case, as GPT-NeoX does."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        canonical = {choice.lower(): choice for choice in get_args(source)}

        def spell(value: object) -> object:
            return canonical.get(value.lower(), value) if isinstance(value, str) else value

        return core_schema.no_info_before_validator_function(spell, handler(source))


Text = Annotated[str, Strict(), Field(min_length=1)]
Switch = Annotated[bool, Strict()]
Count = Annotated[int, Strict(), Field(ge=1)]
CountOrZero = Annotated[int, Strict(), Field(ge=0)]
Seed = Annotated[int, Strict(), Field(ge=0, lt=1 << 63)]
_NUMBER_TEXT = BeforeValidator(as_number)
Positive = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False), _NUMBER_TEXT]
PositiveOrZero = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False), _NUMBER_TEXT]
Fraction = Annotated[float, Strict(), Field(ge=0, le=1), _NUMBER_TEXT]
PositiveFraction = Annotated[float, Strict(), Field(gt=0, le=1), _NUMBER_TEXT]
Momentum = Annotated[float, Strict(), Field(ge=0, lt=1), _NUMBER_TEXT]
Texts = Annotated[tuple[Text, ...], BeforeValidator(as_tuple)]
Arguments = Annotated[tuple[Text, ...], BeforeValidator(_as_arguments)]
Name = Annotated[str, Strict(), Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Variables = Annotated[dict[Name, Annotated[str, Strict()]], Field(default_factory=dict)]
Port = Annotated[int, Strict(), Field(ge=1, le=65_535)]
SpikeWindow = Annotated[int, Strict(), Field(ge=20)]
SlurmTime = Annotated[str, Strict(), Field(pattern=r"^[0-9][0-9:-]*$")]


class Section(BaseModel):
    """Base of all sections: cannot be changed after loading, and knows no other fields than its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def sections_in(annotation: Any) -> list[type[Section]]:
    """Return the sections inside a field's annotation, such as ``TierConfig`` in ``dict[str, TierConfig] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for inner in get_args(annotation) for section in sections_in(inner)]
