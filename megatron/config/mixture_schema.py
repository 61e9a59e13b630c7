"""The settings of a mixture: how much of each corpus goes into training."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from megatron.config.fields import (
    AnyCase,
    Count,
    Fraction,
    Positive,
    PositiveOrZero,
    Section,
    Texts,
    as_number,
    as_tuple,
)

RESERVED_TIERS: Mapping[str, str] = MappingProxyType(
    {"unseen": "corpora below the lowest tier", "untiered": "the corpora of a run without a mixture"}
)
"""Names that the program gives, and what to."""


def _not_reserved(name: str) -> str:
    if name in RESERVED_TIERS:
        raise PydanticCustomError("reserved_tier", f"is a name kept for {RESERVED_TIERS[name]}")
    return name


TierName = Annotated[str, AfterValidator(_not_reserved)]
Weights = Annotated[dict[str, PositiveOrZero], Field(min_length=1)]


class TierConfig(Section):
    """Corpora of one range of sizes."""

    above: PositiveOrZero
    """A corpus belongs to the tier with the largest `above` that its size exceeds."""
    rate: PositiveOrZero
    """Times that the text of such a corpus is taken; shares of the mixture are in proportion to size x rate."""
    max_epochs: Positive | None = None
    """Most passes over each corpus of this tier; `max_epochs` of its source or of the mixture when absent."""


Tiers = Annotated[dict[TierName, TierConfig], Field(min_length=1)]

MALA_TIERS: Mapping[str, TierConfig] = MappingProxyType(
    {
        name: TierConfig(above=above, rate=1.0)
        for name, above in {"high": 1e9, "medium-high": 1e8, "medium": 1e7, "medium-low": 1e6, "low": 1e5}.items()
    }
)
"""The tiers of a mixture that names none: the bounds of the MaLA corpus, in words."""


class SourceConfig(Section):
    """One source of text; a bare number is its share."""

    share: PositiveOrZero | None = None
    """Share of the training tokens (they need not add up to 1); 0 leaves the source out. All have one, or none has."""
    tiers: Tiers | None = None
    """Tiers of this source alone, as for pairs of languages, whose sizes differ from those of languages."""
    alpha: Fraction | None = None
    """`alpha` of this source alone."""
    max_epochs: Positive | None = None
    """Most passes over each corpus of this source."""


def _as_source(value: object) -> object:
    value = as_number(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return {"share": value} if is_number else value


Sources = Annotated[dict[str, Annotated[SourceConfig, BeforeValidator(_as_source)]], Field(min_length=1)]


class SelectionConfig(Section):
    """Chooses corpora: those that match one entry of each list given.

    Text without a language, such as code, has no language, script or tier to match; `sources` and `corpora` choose it.
    """

    languages: Texts = ()
    """Languages (`swh`) or languages with a script (`swh_Latn`). A pair is included when both of its languages are
    listed, and excluded when one is."""
    scripts: Texts = ()
    """Scripts (`Latn`); of pairs as for `languages`."""
    tiers: Texts = ()
    """Names of tiers."""
    sources: Texts = ()
    """Names of sources."""
    corpora: Texts = ()
    """Names of corpora; `*` stands for any text."""


class PhaseConfig(Section):
    """Another mixture from some point of the run on. What it does not name stays as in the mixture itself."""

    from_step: Count | None = None
    """Optimizer steps that are done when the phase begins: 10000 means from step 10001 on, as steps are shown. Depends
    on the batch size; `from_tokens` does not."""
    from_tokens: Positive | None = None
    """The same in training tokens."""
    ramp_steps: Count | None = None
    """Steps, from the start of the phase, over which the new mixture replaces the old one linearly."""
    ramp_tokens: Positive | None = None
    """The same in training tokens."""
    tiers: Tiers | None = None
    """Replaces the mixture's `tiers`."""
    alpha: Fraction | None = None
    """Replaces the mixture's `alpha`."""
    weights: Weights | None = None
    """Replaces the mixture's `weights`."""
    sources: Sources | None = None
    """Replaces the mixture's `sources`."""
    include: SelectionConfig | None = None
    """Replaces the mixture's `include`."""
    exclude: SelectionConfig | None = None
    """Replaces the mixture's `exclude`."""


class MixtureConfig(Section):
    """How much of each corpus goes into training: share = (tokens ^ alpha x rate of its tier), within its source."""

    unit: Annotated[Literal["words", "tokens", "bytes"], AnyCase()] = "words"
    """Unit of the tiers' bounds: whitespace-separated words, the tokenizer's tokens, or UTF-8 bytes."""
    tiers: Tiers | None = None
    """Name to `{above, rate}`. Corpora that exceed no bound are not trained on. When absent, the bounds are those of
    the MaLA corpus (1e9, 1e8, 1e7, 1e6 and 1e5), each with rate 1; none with `alpha` or `weights`."""
    alpha: Fraction | None = None
    """Temperature: shares are in proportion to tokens ^ alpha. 1 (when absent) is by size; 0 is the same for all."""
    weights: Weights | None = None
    """Name of a corpus to its share of the training tokens, instead of rates, `alpha` and shares of sources. Shares
    need not add up to 1; corpora without one are not trained on."""
    sources: Sources | None = None
    """Source to its share of the training tokens, or to `{share, tiers, alpha, max_epochs}`. Shares need not add up to
    1; when absent, sources count by size x rate."""
    max_epochs: Positive | None = None
    """Most passes over each corpus in the planned run. What a corpus may not take goes to the others of its source,
    and from a source that is used up to the other sources; the plan reports it."""
    planned_tokens: Positive | None = None
    """Training tokens that `max_epochs` is reckoned for; those of the run when absent. Give it when a run may become
    longer later, because shares that depend on the length would change."""
    include: SelectionConfig | None = None
    """Train only on these corpora: `{languages: [swh, zul], sources: [monolingual]}`."""
    exclude: SelectionConfig | None = None
    """Leave these corpora out, even when they are included."""
    phases: Annotated[tuple[PhaseConfig, ...], BeforeValidator(as_tuple)] = ()
    """Later mixtures in the order of their start: `[{from_step: 10000, ramp_steps: 500, sources: {...}}]`."""
