from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def run_all() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_all_benchmarks", BENCHMARKS / "run_all.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_benchmark_has_its_place_in_the_page(run_all: ModuleType) -> None:
    names = [script.stem for script in run_all.scripts()]
    assert "train_step" in names and "common" not in names
    page = run_all.PAGE.read_text()
    for name in names:
        again = run_all.replaced(page, name, "| new |")
        assert again != page and "| new |" in again


def test_a_table_replaces_the_one_before(run_all: ModuleType) -> None:
    results = {
        "small": {"ours": 1234.5, "peer": 617.25, "ratio": 2.0, "unit": "tokens/s"},
        "alone": {"ours": 0.0351, "peer": None, "ratio": None, "unit": "s"},
    }
    page = "a\n<!-- x -->\n\n| old |\n\n<!-- end -->\nb\n<!-- y -->\n<!-- end -->\n"
    assert run_all.replaced(page, "x", run_all.markdown(results)) == (
        "a\n<!-- x -->\n\n| case | ours | peer | ratio | unit |\n| --- | ---: | ---: | ---: | --- |\n"
        "| small | 1,234 | 617 | 2 | tokens/s |\n| alone | 0.0351 | - | - | s |\n\n<!-- end -->\nb\n"
        "<!-- y -->\n<!-- end -->\n"
    )
    with pytest.raises(ValueError, match="0 places <!-- z -->"):
        run_all.replaced(page, "z", "")


def test_further_columns_come_last(run_all: ModuleType) -> None:
    first = {"ours": 2.0, "peer": 1.0, "ratio": 2.0, "unit": "tokens/s"}
    assert run_all.markdown({"plain": first, "full": {**first, "MB": 13.94, "/ kernel": None}}) == (
        "| case | ours | peer | ratio | unit | MB | / kernel |\n| --- | ---: | ---: | ---: | --- | ---: | ---: |\n"
        "| plain | 2 | 1 | 2 | tokens/s | - | - |\n| full | 2 | 1 | 2 | tokens/s | 13.9 | - |"
    )


def test_one_table_of_all_is_that_of_the_page(run_all: ModuleType) -> None:
    page = run_all.PAGE.read_text()
    tables = run_all.tables(page)
    assert set(tables) == {script.stem for script in run_all.scripts()}
    assert run_all.replaced(page, run_all.ALL, run_all.table_of_all(tables)) == page


def test_one_table_of_all_leaves_further_columns_out(run_all: ModuleType) -> None:
    one = {"plain": {"ours": 2.0, "peer": 1.0, "ratio": 2.0, "unit": "tokens/s", "MB": 5.0}}
    two = {"alone": {"ours": 3.0, "peer": None, "ratio": None, "unit": "s"}}
    assert run_all.table_of_all({"first": run_all.markdown(one), "second": run_all.markdown(two)}).splitlines()[2:] == [
        "| first | plain | 2 | 1 | 2 | tokens/s |",
        "| second | alone | 3 | - | - | s |",
    ]
