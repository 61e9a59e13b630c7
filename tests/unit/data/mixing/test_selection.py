from __future__ import annotations

from typing import Any

import pytest

from megatron.config.mixture_schema import MixtureConfig
from megatron.data.manifest import Manifest, ShardInfo, TokenizerInfo
from megatron.data.mixture import Mixture, MixtureError, RunSize, plan_mixture

SIZES = {
    "eng_Latn": 4000,
    "swh_Latn": 400,
    "amh_Ethi": 300,
    "tir_Ethi": 5,
    "srp_Cyrl": 2000,
    "srp_Latn": 90,
    "eng_Latn-swh_Latn": 500,
    "amh_Ethi-eng_Latn": 500,
    "code-python": 700,
    "code-perl": 70,
}


def shard(name: str, tokens: int) -> ShardInfo:
    is_code = name.startswith("code-")
    languages, scripts = zip(*(side.split("_") for side in name.split("-")), strict=True) if not is_code else ((), ())
    return ShardInfo(
        name=name,
        path=name,
        split="train",
        source="code" if is_code else "bilingual" if len(languages) == 2 else "monolingual",
        language="zxx" if is_code else "-".join(languages),
        script="Zyyy" if is_code else "-".join(scripts),
        documents=1,
        words=tokens,
        tokens=tokens,
        bytes=tokens,
        unk_tokens=0,
        dtype="uint16",
        content_hash="0",
    )


MANIFEST = Manifest(TokenizerInfo("SPMTokenizer", "f", 100, 2), tuple(shard(*item) for item in SIZES.items()))


def plan(**values: Any) -> Mixture:
    tiers = {"high": {"above": 1000, "rate": 1}, "low": {"above": 10, "rate": 1}}
    section = MixtureConfig.model_validate({"tiers": tiers, **values})
    return plan_mixture(MANIFEST, section, run=RunSize(16, 4, 100))


def trained(**values: Any) -> list[str]:
    return [corpus.shard.name for corpus in plan(**values).trained]


@pytest.mark.parametrize(
    ("include", "names"),
    [
        # Both languages of a pair must be listed.
        ({"languages": ["swh", "eng"]}, ["eng_Latn", "swh_Latn", "eng_Latn-swh_Latn"]),
        ({"languages": ["swh", "amh"]}, ["swh_Latn", "amh_Ethi"]),
        ({"languages": ["srp"]}, ["srp_Cyrl", "srp_Latn"]),
        ({"languages": ["srp_Latn", "eng_Latn"]}, ["eng_Latn", "srp_Latn"]),
        ({"scripts": ["Latn"]}, ["eng_Latn", "swh_Latn", "srp_Latn", "eng_Latn-swh_Latn"]),
        ({"scripts": ["Ethi", "Latn"], "sources": ["bilingual"]}, ["eng_Latn-swh_Latn", "amh_Ethi-eng_Latn"]),
        ({"tiers": ["high"]}, ["eng_Latn", "srp_Cyrl"]),  # code has no tier
        ({"sources": ["code"]}, ["code-python", "code-perl"]),
        ({"sources": ["code", "bilingual"], "corpora": ["*p*"]}, ["code-python", "code-perl"]),
        ({"corpora": ["eng_Latn", "code-p?thon"]}, ["eng_Latn", "code-python"]),
        ({"languages": ["amh", "tir"]}, ["amh_Ethi"]),  # the other one is below the lowest tier
    ],
)
def test_what_is_included(include: dict[str, list[str]], names: list[str]) -> None:
    assert trained(include=include) == names


EVERY = [name for name in SIZES if name != "tir_Ethi"]


@pytest.mark.parametrize(
    ("exclude", "names"),
    [
        # One language of a pair is enough.
        ({"languages": ["eng"]}, ["eng_Latn", "eng_Latn-swh_Latn", "amh_Ethi-eng_Latn"]),
        ({"scripts": ["Ethi"]}, ["amh_Ethi", "amh_Ethi-eng_Latn"]),
        ({"scripts": ["Ethi"], "sources": ["bilingual"]}, ["amh_Ethi-eng_Latn"]),
        ({"tiers": ["low"]}, ["swh_Latn", "amh_Ethi", "srp_Latn", "eng_Latn-swh_Latn", "amh_Ethi-eng_Latn"]),
        ({"sources": ["code"]}, ["code-python", "code-perl"]),
        ({"corpora": ["eng_Latn-*"]}, ["eng_Latn-swh_Latn"]),
    ],
)
def test_what_is_excluded(exclude: dict[str, list[str]], names: list[str]) -> None:
    assert trained(exclude=exclude) == [name for name in EVERY if name not in names]


def test_exclude_wins_and_reasons_are_told() -> None:
    planned = plan(include={"languages": ["eng", "amh", "tir"]}, exclude={"languages": ["amh"]})
    assert {corpus.shard.name: corpus.reason for corpus in planned.corpora if corpus.reason != "not included"} == {
        "eng_Latn": "",
        "amh_Ethi": "excluded",
        "tir_Ethi": "below the lowest tier",
        "amh_Ethi-eng_Latn": "excluded",
    }
    assert planned.corpora[0].share == 1.0


def test_what_is_left_keeps_its_shares_in_proportion() -> None:
    # A study is a few lines over a base mix: the sources' shares stay as they are written there.
    sources = {"monolingual": 0.6, "bilingual": 0.3, "code": 0.1}
    with_code, without = plan(sources=sources), plan(sources=sources, exclude={"sources": ["code"]})
    for before, after in zip(with_code.corpora[:8], without.corpora[:8], strict=True):
        assert after.share == pytest.approx(before.share / 0.9)
    monolingual = plan(sources=sources, include={"sources": ["monolingual"]})
    assert sum(corpus.share for corpus in monolingual.corpora) == pytest.approx(1)


def test_a_source_whose_included_corpora_are_too_small_is_refused() -> None:
    with pytest.raises(MixtureError, match=r"'monolingual' a share, but all its 6 corpora are below .* exclude it"):
        plan(sources={"monolingual": 1, "code": 1, "bilingual": 1}, exclude={"corpora": ["[!tc]*_*"]})


def test_weights_of_what_is_not_included_go_to_the_others() -> None:
    planned = plan(weights={"eng_Latn": 1, "swh_Latn": 3, "code-perl": 4}, exclude={"sources": ["code"]})
    assert {corpus.shard.name: corpus.share for corpus in planned.trained} == {"eng_Latn": 0.25, "swh_Latn": 0.75}
    reasons = {corpus.shard.name: corpus.reason for corpus in planned.corpora}
    assert (reasons["amh_Ethi"], reasons["code-perl"]) == ("no weight", "excluded")


def test_every_entry_that_matches_nothing_is_told() -> None:
    include = {"languages": ["swe", "zxx", "eng"], "scripts": ["Latin"], "corpora": ["code-pearl", "x*", "*Latn"]}
    exclude = {"tiers": ["hihg"], "sources": ["books"]}
    with pytest.raises(MixtureError) as caught:
        plan(include=include, exclude=exclude, phases=[{"from_step": 3, "exclude": {"scripts": ["Zyyy"]}}])
    starts = [
        "mixture.include.languages names 'swe', which matches no corpus of the data. ",
        "mixture.include.languages names 'zxx', which",
        "mixture.include.scripts names 'Latin', which matches no corpus of the data. Did you mean 'Latn'?",
        "mixture.include.corpora names 'code-pearl', which matches no corpus of the data. Did you mean 'code-perl'?",
        "mixture.include.corpora names 'x*', which",
        "mixture.exclude.tiers names 'hihg', which matches no corpus of the data. Did you mean 'high'?",
        "mixture.exclude.sources names 'books', which matches no corpus of the data. Take it out, or correct it "
        "(there are: bilingual, code, monolingual)",
        "mixture.phases.0.exclude.scripts names 'Zyyy', which",
    ]
    problems = caught.value.problems
    assert len(problems) == len(starts)
    assert all(problem.startswith(start) for problem, start in zip(problems, starts, strict=True))


def test_an_empty_selection_chooses_as_if_it_were_not_there() -> None:
    # In a phase it takes that of the mixture back.
    assert trained(include={}, exclude={}) == EVERY
    exclude = {"sources": ["code"]}
    assert trained(exclude=exclude, phases=[{"from_step": 3, "exclude": {}}]) == EVERY


def test_nothing_left_is_told_with_the_reasons() -> None:
    with pytest.raises(MixtureError, match=r"of 10 corpora, 9 not included, 1 below the lowest tier"):
        plan(include={"corpora": ["tir_Ethi"]})
