"""Plans on the real counts of the MaLA corpus: 546 languages and 2,507 pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from megatron.config.mixture_schema import MixtureConfig
from megatron.data.manifest import Manifest, ShardInfo, TokenizerInfo
from megatron.data.mixture import Mixture, RunSize, plan_mixture

# 200 billion tokens in steps of 16 million: EMMA-500's.
RUN = RunSize(seq_length=4096, batch_size=4096, train_iters=12_000)
TIERS = {
    "high": {"above": 1e9, "rate": 0.5},
    "medium-high": {"above": 1e8, "rate": 1},
    "medium": {"above": 1e7, "rate": 5},
    "medium-low": {"above": 1e6, "rate": 20},
    "low": {"above": 1e5, "rate": 50},
}
PAIRS = {"share": 0.3, "tiers": {"pairs": {"above": 0, "rate": 1}}, "alpha": 0.5}


def entries(table: Path, source: str, column: int) -> Iterator[ShardInfo]:
    for line in table.read_text(encoding="utf-8").splitlines()[1:]:
        cells = line.split("\t")
        sides = [side.split("_") for side in cells[0].split("-")]
        words = int(cells[column])
        yield ShardInfo(
            name=f"{source}-{cells[0]}",
            path=f"{source}/{cells[0]}",
            split="train",
            source=source,
            language="-".join(side[0] for side in sides),
            script="-".join(side[1] for side in sides),
            documents=1,
            words=words,
            tokens=max(1, 3 * words),
            bytes=6 * words,
            unk_tokens=0,
            dtype="uint16",
            content_hash="0",
        )


@pytest.fixture(scope="module")
def mala(shared: Path) -> Manifest:
    folder = shared / "data" / "mala"
    shards = [*entries(folder / "languages.tsv", "monolingual", 2), *entries(folder / "pairs.tsv", "bilingual", 7)]
    return Manifest(TokenizerInfo("SPMTokenizer", "f", 32_000, 2), tuple(shards))


def plan(manifest: Manifest, **values: Any) -> Mixture:
    values = {"tiers": TIERS, "sources": {"monolingual": 0.7, "bilingual": PAIRS}, **values}
    return plan_mixture(manifest, MixtureConfig.model_validate(values), run=RUN)


def test_546_languages_are_in_the_tiers_that_mala_lists(mala: Manifest, shared: Path) -> None:
    planned = plan(mala, exclude={"sources": ["bilingual"]})
    lines = (shared / "data" / "mala" / "languages.tsv").read_text(encoding="utf-8").splitlines()[1:]
    listed = {code: tier for code, _, _, _, tier in (line.split("\t") for line in lines)}
    assert len(planned.trained) == 546
    assert all(corpus.tier == listed[corpus.shard.code] for corpus in planned.trained)


def test_three_phases_with_limits(mala: Manifest) -> None:
    phases = [
        {"from_step": 4000, "ramp_steps": 500, "sources": {"monolingual": 0.3, "bilingual": {**PAIRS, "share": 0.7}}},
        {"from_step": 8000, "ramp_steps": 500, "alpha": 0.3},
    ]
    planned = plan(mala, max_epochs=4, phases=phases)
    assert len(planned.trained) == 546 + 2507
    for phase in planned.phases:
        assert math.fsum(phase.shares) == pytest.approx(1, abs=1e-9)
    for corpus in planned.trained:
        assert corpus.share * RUN.tokens <= 4 * corpus.shard.tokens * (1 + 1e-9)
    assert sum(corpus.capped for corpus in planned.corpora) > 100
    rows = planned.rows(planned.order(seed=1234, seq_length=4096), samples=RUN.samples)
    assert sum(int(str(row["samples"])) for row in rows) == RUN.samples
    for row in rows:
        allowed = 4 * int(str(row["tokens"])) / RUN.seq_length + 1.5 * len(planned.phases)
        assert int(str(row["samples"])) <= allowed


def test_plans_are_the_same_every_time_to_the_last_bit(mala: Manifest) -> None:
    # As planned on x86-64 Linux; another machine must come to the same order of samples.
    planned = plan(mala, alpha=0.3, max_epochs=4)
    shares = [corpus.share for corpus in planned.trained]
    assert planned.phases == plan(mala, alpha=0.3, max_epochs=4).phases
    assert [max(shares).hex(), min(shares).hex(), math.fsum(share * share for share in shares).hex()] == [
        "0x1.bfa0e5ddc240dp-8", "0x1.eb851eb851eb8p-31", "0x1.a6d0f811ce09fp-9",
    ]  # fmt: skip
