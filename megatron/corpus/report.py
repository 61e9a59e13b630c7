"""The report of a pipeline: tables for people, and the files that others are made from."""

from __future__ import annotations

from collections.abc import Iterator

from megatron.corpus import stats, summary
from megatron.corpus.pipeline import STAGES, Pipeline
from megatron.corpus.stats_plot import draw_stats
from megatron.utils.files import write_text


class Report:
    """What a pipeline has done so far.

    Args:
        pipeline: the pipeline, after its run.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._rows = stats.rows_of(pipeline.sizes, pipeline.manifests, unit=pipeline.config.tier_unit)

    def write(self) -> None:
        """Write ``report.txt``, ``stats.tsv`` and ``stats.png``; only of a pipeline that came to its end."""
        folder = self._pipeline.output
        if self._rows:
            stats.write_tsv(folder / "stats.tsv", self._rows)
            draw_stats(folder / "stats.png", self._rows, self._pipeline.tally, list(self._pipeline.sizes))
        write_text(folder / "report.txt", "\n".join(self.lines(shown=0, explain=True, stage="all")) + "\n")

    def lines(self, *, shown: int, explain: bool, stage: str) -> Iterator[str]:
        """Yield the tables, and examples where they are asked for.

        Args:
            shown: corpora to list; 0 for all.
            explain: show examples of what each rule of the stage did; of all stages for ``all``.
            stage: the stage that was run.
        """
        pipeline = self._pipeline
        yield "What became of the language codes\n"
        yield summary.code_table(pipeline.codes)
        yield "\nWhat each stage did\n"
        yield summary.stage_table(pipeline.tally)
        yield "\nWhat each corpus lost: documents dropped by each stage, and documents left in each split\n"
        yield summary.corpus_table(pipeline.tally, shown=shown)
        if self._rows and STAGES[stage] in ("stats", "shards"):
            yield "\nWhat is left\n"
            for by in ("source", "script"):
                yield stats.table(stats.grouped(self._rows, pipeline.sizes, by), heading=by, shown=shown)
                yield ""
            yield stats.table(self._rows, heading="corpus", shown=shown)
        if explain:
            yield from summary.example_lines(pipeline.tally, stage=None if stage == "all" else stage)
