from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from megatron.data.planning.control_group import draw_control_group

STUDIES = Path(__file__).resolve().parents[4] / "configs" / "studies"
TIERS = {f"{letter}{number:02}_Latn": tier for tier, letter in (("big", "b"), ("small", "s")) for number in range(20)}


def languages_of(study: str) -> list[str]:
    given = yaml.safe_load((STUDIES / f"{study}.yml").read_text(encoding="utf-8"))
    return list(given["mixture.include"]["languages"])


@given(group=st.sets(st.sampled_from(sorted(TIERS)), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_the_control_is_as_large_tier_by_tier_and_unrelated(group: set[str], seed: int) -> None:
    if max(Counter(TIERS[code] for code in group).values()) > 9:
        return
    drawn = draw_control_group(TIERS, group, seed=seed, keep_out=["b00_Latn"])
    assert Counter(TIERS[code] for code in drawn) == Counter(TIERS[code] for code in group)
    assert not set(drawn) & {*group, "b00_Latn"}
    assert drawn == draw_control_group(dict(reversed(TIERS.items())), sorted(group), seed=seed, keep_out=["b00_Latn"])


def test_every_language_has_the_same_chance() -> None:
    drawn = Counter(code for seed in range(2000) for code in draw_control_group(TIERS, ["b03_Latn"], seed=seed))
    assert len(drawn) == 19
    assert max(abs(count - 2000 / 19) for count in drawn.values()) < 50  # five standard deviations


def test_another_script_of_a_language_is_related() -> None:
    tiers = {"uzn_Cyrl": "low", "uzn_Latn": "low", "zul_Latn": "low"}
    assert draw_control_group(tiers, ["uzn_Cyrl"], seed=0) == ["zul_Latn"]


def test_a_group_that_cannot_be_matched_is_refused() -> None:
    with pytest.raises(ValueError, match="tier 'big' has 5 languages outside the group, and 15 are to be drawn"):
        draw_control_group(TIERS, [code for code in TIERS if code < "b15"], seed=0)
    with pytest.raises(ValueError, match="have no tier: xxx_Latn"):
        draw_control_group(TIERS, ["xxx_Latn"], seed=0)


@pytest.mark.parametrize(("group", "number"), [("family-turkic", 31), ("script-cyrillic", 49)])
def test_the_shipped_controls_are_what_the_procedure_draws(shared: Path, group: str, number: int) -> None:
    with (shared / "data" / "mala" / "languages.tsv").open(encoding="utf-8") as file:
        tiers = {row["code"]: row["tier"] for row in csv.DictReader(file, delimiter="\t") if row["tier"] != "unseen"}
    members = languages_of(group)
    assert members[0] == "eng_Latn" and len(members) == number + 1
    control = draw_control_group(tiers, members[1:], seed=1, keep_out=["eng_Latn"])
    assert languages_of(f"{group}-random") == ["eng_Latn", *control]


def test_the_group_of_a_script_is_whole(shared: Path) -> None:
    with (shared / "data" / "mala" / "languages.tsv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["tier"] != "unseen"]
    assert languages_of("script-cyrillic")[1:] == sorted(row["code"] for row in rows if row["code"].endswith("_Cyrl"))
