from __future__ import annotations

from pathlib import Path

import pytest

from megatron.evaluation.keeper import Keeper
from megatron.evaluation.results import ResultsFolder, Score, read_items
from megatron.parallel.process import Peers

SCORE = Score("sib200", "swh_Latn", {"accuracy": 0.5}, "accuracy", True, 1, settings={"shots": 3})


def test_what_is_kept_is_there_afterwards(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    results = ResultsFolder(tmp_path, model={})
    wanted = [("sib200", language, {"shots": 3}) for language in ("swh_Latn", "eng_Latn")]
    assert Keeper(results, Peers()).there(wanted) == [None, None] and not caplog.text
    (kept,) = Keeper(results, Peers()).keep(lambda: (SCORE, [{"id": "1"}]))
    assert kept.items_hash and read_items(tmp_path, "sib200", "swh_Latn") == [{"id": "1"}]
    assert Keeper(ResultsFolder(tmp_path, model={}), Peers()).there(wanted) == [[kept], None]
    assert "1 of 2 scores are there already" in caplog.text
    assert Keeper(results, Peers()).there([("sib200", "swh_Latn", {"shots": 4})]) == [None]


def test_nothing_is_kept_where_nothing_is_to_be(tmp_path: Path) -> None:
    keeper = Keeper(None, Peers())
    assert keeper.keep(lambda: (SCORE, [{}])) == [SCORE] and keeper.there([("sib200", "swh_Latn", {})]) == [None]

    def fails() -> tuple[Score, list[dict[str, str]]]:
        raise ValueError("no score")

    results = ResultsFolder(tmp_path, model={})
    with pytest.raises(ValueError, match="no score"):
        Keeper(results, Peers()).keep(fails)
    assert not results.scores()


class Other(Peers):
    """A process that is not the main one, and is told what that one has found."""

    def __init__(self, told: object) -> None:
        super().__init__()
        self.rank, self.told = 1, told

    def from_main(self, function):  # type: ignore[no-untyped-def]
        return self.told


def test_other_processes_skip_what_the_main_one_has_and_get_no_scores() -> None:
    assert Keeper(None, Other([True, False])).there([("a", "swh_Latn", {}), ("b", "swh_Latn", {})]) == [[], None]
    assert Keeper(None, Other(None)).keep(lambda: pytest.fail("made")) == []
