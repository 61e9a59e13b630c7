"""Languages drawn at random to compare a group of related ones with: as many, as large, none of them related."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from megatron.data.order import key_of


def draw_control_group(
    tiers: Mapping[str, str], group: Collection[str], *, seed: int, keep_out: Collection[str] = ()
) -> list[str]:
    """Draw as many languages from each tier as a group has in it.

    Every candidate of a tier has a random number, a hash of the seed and its code, and the lowest numbers win. So the
    draw is the same on every machine, and a language that comes or goes changes at most one place.

    Args:
        tiers: corpus code to tier, of all languages that can be drawn and of the group.
        group: codes of the related languages.
        seed: another one draws another control.
        keep_out: codes that are not to be drawn, such as the English that both sides train on.

    Returns:
        the codes, sorted. No language of the group is among them, in whatever script.

    Raises:
        ValueError: naming the codes of the group that have no tier, and the tiers with too few other languages.
    """
    unknown = sorted(code for code in group if code not in tiers)
    if unknown:
        raise ValueError(f"these languages of the group have no tier: {', '.join(unknown)}; take them out")
    related = {code.partition("_")[0] for code in (*group, *keep_out)}
    drawn: list[str] = []
    for tier, number in sorted(Counter(tiers[code] for code in group).items()):
        candidates = [code for code in tiers if tiers[code] == tier and code.partition("_")[0] not in related]
        if len(candidates) < number:
            raise ValueError(
                f"tier {tier!r} has {len(candidates)} languages outside the group, and {number} are to be drawn; "
                "take a smaller group"
            )
        drawn += sorted(candidates, key=lambda code: (key_of("control group", seed, code), code))[:number]
    return sorted(drawn)
