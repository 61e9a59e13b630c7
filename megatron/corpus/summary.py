"""What every stage of the pipeline kept and dropped, as tables; and examples of what a rule did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from megatron.corpus.tally import Key, Tally
from megatron.utils.table import text_table

#: The stages whose documents are counted, in their order; each with the stage at whose end its documents are seen.
_STAGES = ("read", "script", "clean", "filters", "paragraphs", "dedup", "split")
_SPLITS = ("train", "valid", "test")


def stage_table(tally: Tally) -> str:
    """Return what each rule of each stage dropped or changed, over all corpora."""
    rows: dict[tuple[str, str, str], list[int]] = {}
    for key, documents, size_bytes in tally.items():
        row = rows.setdefault((key.stage, key.kind, key.rule), [0, 0])
        row[0] += documents
        row[1] += size_bytes
    cells = [("stage", "", "rule", "documents", "bytes")]
    order = {"in": 0, "noted": 1, "changed": 2, "dropped": 3, "out": 4}
    stages = [*_STAGES[:1], "languages", *_STAGES[1:], "parallel"]
    for stage in stages:
        found = [place for place in rows if place[0] == stage]
        for place in sorted(found, key=lambda place: (order[place[1]], -rows[place][0], place[2])):
            documents, size_bytes = rows[place]
            cells.append((stage, place[1], place[2], f"{documents:,}", f"{size_bytes:,}"))
    return text_table(cells, left=3)


def corpus_table(tally: Tally, *, shown: int = 0) -> str:
    """Return a line for each corpus: documents after each stage, and the share of bytes that is left.

    Files are read before it is known what corpus their documents belong to, so the first column is after that.

    Args:
        tally: the counts.
        shown: how many to list, the largest first; 0 lists all.
    """
    stages = [stage for stage in _STAGES if any(key.stage == stage for key in tally.documents)]
    stages = [stage for stage in stages if stage not in ("read", "script")]
    if not stages:
        return "nothing has been cleaned yet"
    counts: dict[str, dict[Key, tuple[int, int]]] = {}
    for key, documents, size_bytes in tally.items():
        if key.stage in stages:
            counts.setdefault(key.corpus, {})[key] = (documents, size_bytes)
    splits = [split for split in _SPLITS if any(key.rule == split for key in tally.documents)]
    heading = ["corpus", "read", *(f"- {stage}" for stage in stages), *splits, "bytes kept"]
    rows = [_corpus_row(corpus, of_corpus, stages, splits) for corpus, of_corpus in counts.items()]
    rows.sort(key=lambda row: (-row[1][0], row[0]))
    total = [sum(column) for column in zip(*(numbers for _, numbers in rows), strict=True)]
    listed = rows[:shown] if shown else rows
    cells = [heading, *(_shown(*row) for row in listed), _shown(f"all {len(rows)}", total)]
    lines = text_table(cells).splitlines()
    if len(listed) < len(rows):
        lines.insert(-1, f"... and {len(rows) - len(listed):,} more")
    return "\n".join(lines)


def _corpus_row(
    corpus: str, counts: Mapping[Key, tuple[int, int]], stages: Sequence[str], splits: Sequence[str]
) -> tuple[str, list[int]]:
    """Return documents at the start, dropped by each stage, in each split; then bytes at the start and at the end."""
    first = counts.get(Key(stages[0], corpus, "in"), (0, 0))
    dropped = [_sum(counts, stage, "dropped") for stage in stages]
    kept = [_sum(counts, "split", "out", split) for split in splits]
    end = _sum(counts, stages[-1], "out")
    numbers = [first[0], *(each[0] for each in dropped), *(each[0] for each in kept), first[1], end[1]]
    return corpus, numbers


def _sum(counts: Mapping[Key, tuple[int, int]], stage: str, kind: str, rule: str | None = None) -> tuple[int, int]:
    found = [
        count for key, count in counts.items() if (key.stage, key.kind) == (stage, kind) and rule in (None, key.rule)
    ]
    return sum(count[0] for count in found), sum(count[1] for count in found)


def _shown(name: str, numbers: Sequence[int]) -> list[str]:
    *documents, bytes_in, bytes_out = numbers
    share = f"{100 * bytes_out / bytes_in:.1f} %" if bytes_in else "-"
    return [name, *(f"{count:,}" for count in documents), share]


def example_lines(tally: Tally, *, stage: str | None = None) -> Iterable[str]:
    """Yield examples of what each rule dropped or changed.

    Args:
        tally: the counts, with examples.
        stage: of this stage only; None for all.
    """
    for (of_stage, rule), examples in sorted(tally.examples.items()):
        if stage not in (None, of_stage):
            continue
        kinds = {key.kind for key in tally.documents if key.stage == of_stage and key.rule == rule}
        documents = sum(count for key, count in tally.documents.items() if key[0] == of_stage and key[3] == rule)
        yield f"\n{of_stage}: {rule} ({', '.join(sorted(kinds))}: {documents:,} documents)"
        for _, example in sorted(examples.items()):
            yield f"  {example.id}"
            yield f"    {_one_line(example.text)}"
            if example.detail:
                yield f"    -> {_one_line(example.detail)}"


def _one_line(text: str) -> str:
    return text.replace("\n", "⏎")


def code_table(codes: Mapping[tuple[str, str], int], *, changed_only: bool = True) -> str:
    """Return what each language code became.

    Args:
        codes: code as given and label to the number of texts.
        changed_only: leave out labels that stayed as they were.
    """
    listed = [(given, label, count) for (given, label), count in sorted(codes.items()) if given != label]
    rows = [("code given", "label", "texts")]
    rows += [
        (given or "(none)", label, f"{count:,}")
        for given, label, count in (listed if changed_only else [(*key, count) for key, count in sorted(codes.items())])
    ]
    return text_table(rows, left=2)
