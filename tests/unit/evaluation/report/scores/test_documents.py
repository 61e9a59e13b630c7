from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from megatron.config.benchmark_load import load_benchmark
from megatron.evaluation.benchmarks.prepare.run import prepare
from megatron.evaluation.benchmarks.run import run_suite
from megatron.evaluation.metrics.pass_at_k import pass_at_k
from megatron.evaluation.report.scores import documents
from megatron.evaluation.report.scores.documents import Documents, read_documents
from megatron.evaluation.results import ResultsFolder, Score, items_path
from tests.unit.evaluation.benchmarks.models import Uniform
from tests.unit.evaluation.benchmarks.upstream import sib200, write

TEXTS = [{"id": str(n), "nats": 10.0 + n, "bytes": 5 + n, "characters": 4 + n} for n in range(8)]
NATS, BYTES = sum(10.0 + n for n in range(8)), sum(5 + n for n in range(8))
BITS = NATS / math.log(2) / BYTES


def kept(folder: Path, items: list[dict]) -> Path:
    path = items_path(folder, "b", "eng_Latn")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return folder


def read(folder: Path, metric: str, score: float) -> Documents | str:
    return read_documents([folder.parent / "none", folder], "b", "eng_Latn", metric=metric, score=score)


def values_of(found: Documents | str) -> list[float]:
    assert isinstance(found, Documents), found
    return found.values.tolist()


def test_items_of_every_kind_give_their_score(tmp_path: Path) -> None:
    texts = kept(tmp_path / "t", TEXTS)
    found = read(texts, "bits_per_byte", BITS)
    assert values_of(found) == [10.0 + n for n in range(8)]
    assert isinstance(found, Documents) and found.sizes.tolist() == [5 + n for n in range(8)]
    assert values_of(read(texts, "nats", NATS)) == [10.0 + n for n in range(8)]
    assert isinstance(read(texts, "bits_per_character", NATS / math.log(2) / (BYTES - 8)), Documents)
    choices = [{"id": n, "output": "a" if n else "b", "references": ["a"]} for n in range(4)]
    assert values_of(read(kept(tmp_path / "c", choices), "accuracy", 0.75)) == [0, 1, 1, 1]
    written = [{"id": n, "output": f" {n}\n", "references": [str(n), "x"]} for n in range(3)]
    written += [{"id": 3, "output": "...", "references": ["y"], "counted": False}]
    assert values_of(read(kept(tmp_path / "w", written), "exact_match", 1.0)) == [1, 1, 1]
    harness = [{"number": n, "metrics": {"acc": n % 2, "acc_norm": 0.5, "f1": [1, 0]}} for n in range(4)]
    assert values_of(read(kept(tmp_path / "h", harness), "acc", 0.5)) == [0, 1, 0, 1]
    assert values_of(read(tmp_path / "h", "acc_norm", 0.5)) == [0.5] * 4
    assert read(tmp_path / "h", "f1", 0.5) == documents.NOT_ITEMWISE
    ends = {"x": ["passed", "failed", "passed"], "y": ["crashed"] * 3}
    code = [{"problem": problem, "outcome": end} for problem, outcomes in ends.items() for end in outcomes]
    mean = sum(pass_at_k(len(each), each.count("passed"), 1) for each in ends.values()) / 2
    assert values_of(read(kept(tmp_path / "p", code), "pass@1", mean)) == [pytest.approx(2 / 3), 0.0]


def test_what_the_runner_keeps_gives_its_scores(tmp_path: Path) -> None:
    write(tmp_path / "pbc" / "swh_Latn.txt", "Hapo mwanzo\nMungu aliumba\n")
    sources = {"sib200": sib200(tmp_path / "sib"), "pbc": tmp_path / "pbc"}
    for name, upstream in sources.items():
        prepare(load_benchmark(name), upstream, tmp_path / "data", show_progress=False)
    results = ResultsFolder(tmp_path / "results", model={"name": "tiny"})
    definitions = [load_benchmark(name) for name in sources]
    scores = run_suite(Uniform(), definitions, data=tmp_path / "data", results=results, show_progress=False)
    assert {score.benchmark for score in scores} == set(sources)
    for score in scores:
        found = read_documents(
            [results.folder], score.benchmark, score.language, metric=score.main, score=score.value
        )
        assert isinstance(found, Documents) and len(found.ids) == score.items, (score, found)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", documents.NO_ITEMS),
        ("{", documents.UNREADABLE),
        ("[1]\n", documents.UNREADABLE),
        ("\xff\n", documents.UNREADABLE),
        ('{"id": "1", "nats": "x", "bytes": 1}\n', documents.UNREADABLE),
        ('{"id": "1", "nats": 0.0, "bytes": 1}\n', documents.UNREADABLE),
        ('{"id": "1", "nats": 1.0}\n', documents.UNREADABLE),
        ('{"id": "1", "nats": 1.0, "bytes": 1}\n' * 2, documents.UNREADABLE),
        ('{"id": "1", "nats": 1.0, "bytes": 1}\n', documents.OTHER_SCORE),
        ('{"id": "1", "output": "x"}\n', documents.NOT_ITEMWISE),
    ],
)
def test_items_that_do_not_hold_are_told(tmp_path: Path, text: str, reason: str) -> None:
    items_path(kept(tmp_path, []), "b", "eng_Latn").write_bytes(text.encode("latin-1"))
    assert read(tmp_path, "bits_per_byte", 9.0) == reason


@pytest.mark.parametrize("name", ["../b", "..", "x/b", "a\\b", "n\0", "a" * 300])
def test_a_name_never_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    kept(tmp_path / "b", TEXTS)
    (tmp_path / "items").mkdir()
    for folder in (tmp_path, tmp_path / "b" / "items"):
        assert read_documents([folder], name, "eng_Latn", metric="nats", score=NATS) == documents.NO_ITEMS
        assert read_documents([folder], "b", name, metric="nats", score=NATS) == documents.NO_ITEMS


def test_documents_are_paired_by_id_and_size(tmp_path: Path) -> None:
    base, turned = (read(kept(tmp_path / str(n), items), "nats", NATS) for n, items in enumerate([TEXTS, TEXTS[::-1]]))
    assert isinstance(base, Documents) and isinstance(turned, Documents)
    order = turned.in_order_of(base)
    assert order is not None and order.tolist() == base.values.tolist()
    fewer = read(kept(tmp_path / "f", TEXTS[1:]), "nats", NATS - 10)
    named = read(kept(tmp_path / "n", [{**TEXTS[0], "id": "new"}, *TEXTS[1:]]), "nats", NATS)
    other = kept(tmp_path / "l", [{**TEXTS[0], "bytes": 6}, *TEXTS[1:]])
    longer = read(other, "bits_per_byte", BITS * BYTES / (BYTES + 1))
    whole = read(tmp_path / "0", "bits_per_byte", BITS)
    assert isinstance(fewer, Documents) and isinstance(named, Documents)
    assert isinstance(longer, Documents) and isinstance(whole, Documents)
    assert fewer.in_order_of(base) is None and named.in_order_of(base) is None
    assert longer.in_order_of(whole) is None and whole.in_order_of(whole) is not None


def test_a_score_may_be_of_another_folder_of_the_same_model(tmp_path: Path) -> None:
    assert read(tmp_path, "nats", NATS) == documents.NO_ITEMS
    assert Score("b", "eng_Latn", {"nats": NATS}, "nats", False, 8).value == NATS
    assert isinstance(read(kept(tmp_path / "x", TEXTS), "nats", NATS), Documents)
