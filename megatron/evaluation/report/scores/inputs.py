"""Results of models, from folders of scores and from published tables, put together for the report of scores."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from megatron.evaluation.report.data import ReportError
from megatron.evaluation.report.runs import unique_names
from megatron.evaluation.report.scores.alike import unlike_settings
from megatron.evaluation.report.scores.directions import is_loss, known_direction
from megatron.evaluation.report.scores.flags import flag_notes, parity_notes
from megatron.evaluation.report.scores.published import LARGEST, read_published
from megatron.evaluation.report.scores.tiers import Tiers
from megatron.evaluation.report.scores.trials import Trial, limit_of, trials_of
from megatron.evaluation.report.scores.values import UNMAPPED, Evaluation, Model, Row, Table, subject_of
from megatron.evaluation.results import Score, read_model, read_scores

_TABLES = (".csv", ".tsv")
_MOST_SHOWN = 20

Scores = dict[tuple[str, str], Score]


@dataclasses.dataclass
class _Found:
    """What has been read so far: models and their scores by name, what was passed over, what is wrong."""

    models: dict[str, Model] = dataclasses.field(default_factory=dict)
    scores: dict[str, Scores] = dataclasses.field(default_factory=dict)
    ignored: Counter[str] = dataclasses.field(default_factory=Counter)
    problems: list[str] = dataclasses.field(default_factory=list)

    def add(self, model: Model, scores: Iterable[Score]) -> None:
        """Add scores to a model; a score that is already there comes from another input, and is a problem."""
        known = self.models.setdefault(model.name, model)
        held = self.scores.setdefault(model.name, {})
        given = list(scores)
        twice = [f"{score.benchmark} {score.language}" for score in given if (score.benchmark, score.language) in held]
        if twice:
            self.problems.append(
                f"{model.name}: {len(twice):,} scores are in {known.origin} and in {model.origin} ({twice[0]}); "
                "keep one"
            )
        folders = (*known.folders, *(folder for folder in model.folders if folder not in known.folders))
        self.models[model.name] = dataclasses.replace(known, folders=folders)
        held.update({(score.benchmark, score.language): score for score in given})


def load_evaluation(
    inputs: Sequence[Path], *, tiers: Tiers | None = None, names: Sequence[str] = (), models: Sequence[str] = (),
    table_metric: tuple[str, bool] | None = None,
) -> Evaluation:
    """Read results and join them by benchmark and language.

    Args:
        inputs: folders of results, and tables of published results (``.csv``, ``.tsv``). The first model is the base.
        tiers: what is known of the languages.
        names: of the models of the folders, in their order; by default the ``name`` that the folder tells.
        models: names of the models to show, the base first; by default all, as they come.
        table_metric: see :func:`read_published`.

    Raises:
        ReportError: an input is missing or is no result, scores contradict each other, a model is not there.
        ResultsError: a folder holds no results.
    """
    found = _Found()
    folders = [path for path in inputs if path.suffix not in _TABLES or path.is_dir()]
    if names and len(names) != len(folders):
        raise ReportError(f"{len(names)} names for {len(folders)} folders of results; give one for each, in order")
    missing = [str(path) for path in inputs if not path.exists()]
    if missing:
        raise ReportError("\n".join(f"{path} does not exist: give a folder of results or a table" for path in missing))
    titles = iter(names or _folder_names(folders))
    for path in inputs:
        if path in folders:
            name = next(titles)
            scores = read_scores(path)
            found.problems += _wrong_types(path, scores)
            found.add(Model(name, path.resolve().name, read_model(path), (path,)), [] if found.problems else scores)
        else:
            _add_table(found, path, table_metric)
    chosen = _chosen(found, models)
    if found.problems:
        raise ReportError("\n".join(found.problems))
    return _join(found, chosen, tiers or Tiers())


def _folder_names(folders: Sequence[Path]) -> list[str]:
    """Return what the folders call their models, or as much of a path as it takes where that is not unique."""
    paths = unique_names(folders)
    told = [read_model(folder).get("name") for folder in folders]
    return [
        str(name) if isinstance(name, str) and name.strip() and told.count(name) == 1 else path
        for name, path in zip(told, paths, strict=True)
    ]


def _wrong_types(path: Path, scores: Sequence[Score]) -> list[str]:
    wrong = [
        score
        for score in scores
        if not isinstance(score.benchmark, str)
        or not isinstance(score.language, str)
        or not isinstance(score.higher_is_better, bool)
        or not all(isinstance(flag, str) for flag in score.flags)
        or not isinstance(score.settings, Mapping)
        or not isinstance(score.items, int)
        or any(abs(value) > LARGEST for value in score.metrics.values())
    ]
    return [f"{path}: no score: {score.benchmark!r}, {score.language!r}; evaluate it again" for score in wrong[:1]]


def _add_table(found: _Found, path: Path, metric: tuple[str, bool] | None) -> None:
    try:
        table = read_published(path, metric=metric)
    except (ReportError, OSError) as error:
        found.problems.append(str(error))
        return
    found.ignored.update(f"{path.name}: {text}" for text in table.ignored)
    for name in table.models:
        scores = [
            Score(table.benchmark, code, {table.metric: by_model[name]}, table.metric, table.higher_is_better, items=0)
            for code, by_model in table.values.items()
        ]
        found.add(Model(name, path.name), scores)


def _chosen(found: _Found, models: Sequence[str]) -> list[str]:
    unknown = [name for name in models if name not in found.models]
    if unknown:
        found.problems.append(f"no model {', '.join(map(repr, unknown))}; there are: {', '.join(found.models)}")
    if len(set(models)) < len(models):
        found.problems.append("a model is named twice; name each once")
    chosen = list(models or found.models)
    if len(chosen) < 2:
        found.problems.append(f"{len(chosen)} model is not enough for a comparison; give a base and another")
    return [name for name in chosen if name in found.models]


def _join(found: _Found, chosen: Sequence[str], tiers: Tiers) -> Evaluation:
    held = [found.scores[name] for name in chosen]
    benchmarks = dict.fromkeys(benchmark for scores in held for benchmark, _ in scores)
    if not benchmarks:
        raise ReportError(f"there are no scores of {', '.join(chosen)}; evaluate them first")
    tables: list[Table] = []
    trials: list[Trial] = []
    notes = {}
    for benchmark in benchmarks:
        columns = [
            {language: score for (name, language), score in scores.items() if name == benchmark} for scores in held
        ]
        made, uncompared = _tables(benchmark, columns, tiers)
        tables += made
        trials += trials_of(benchmark, columns, chosen)
        notes[benchmark] = [
            *unlike_settings(columns, chosen), *flag_notes(columns, chosen), *parity_notes(columns),
        ]  # fmt: skip
        if uncompared:
            told = ", ".join(sorted(uncompared))
            notes[benchmark].append(f"In the results, but not compared, since no model is better in it: {told}.")
    used = dict.fromkeys(row.language.tier for table in tables for row in table.rows)
    order = [name for name in tiers.order if name in used and name != UNMAPPED]
    if order and UNMAPPED in used:
        order.append(UNMAPPED)
    return Evaluation(
        tuple(found.models[name] for name in chosen), tuple(tables), tuple(dict.fromkeys(order)), tiers.origin, notes,
        dict(found.ignored), _other_scripts(tables, tiers), tuple(trials),
    )  # fmt: skip


def _other_scripts(tables: Sequence[Table], tiers: Tiers) -> dict[str, list[str]]:
    """Return the codes without a tier whose language has one in another script: one of the two may be a mistake."""
    by_language: dict[str, list[str]] = {}
    for code in sorted(tiers.languages):
        by_language.setdefault(code.partition("_")[0], []).append(code)
    codes = {row.language.code for table in tables for row in table.rows if row.language.tier == UNMAPPED}
    near = {code: by_language.get(subject_of(code).partition("_")[0], []) for code in sorted(codes)}
    return {code: others for code, others in near.items() if others and code not in tiers.languages}


def _tables(
    benchmark: str, columns: Sequence[Mapping[str, Score]], tiers: Tiers
) -> tuple[list[Table], list[str]]:
    """Return a table for each metric of a benchmark, the main one first, and the names of what is no metric."""
    scores = [score for column in columns for score in column.values()]
    main = scores[0].main
    if any((score.main, score.higher_is_better) != (main, scores[0].higher_is_better) for score in scores):
        told = sorted({f"{score.main} ({'higher' if score.higher_is_better else 'lower'})" for score in scores})
        raise ReportError(f"{benchmark}: main metrics differ between scores: {', '.join(told)}; evaluate alike")
    found = dict.fromkeys(name for score in scores for name in score.metrics if name != main)
    others = {name: known_direction(name) for name in found}
    directions = {main: scores[0].higher_is_better, **{name: way for name, way in others.items() if way is not None}}
    codes = sorted({score.language for score in scores})
    tables = [_table(benchmark, name, name == main, way, codes, columns, tiers) for name, way in directions.items()]
    return tables, [name for name, way in others.items() if way is None]


def _table(
    benchmark: str, metric: str, is_main: bool, higher: bool, codes: Sequence[str],
    columns: Sequence[Mapping[str, Score]], tiers: Tiers,
) -> Table:  # fmt: skip
    rows = []
    for code in codes:
        scores = [column.get(code) for column in columns]
        values = tuple(math.nan if score is None else score.metrics.get(metric, math.nan) for score in scores)
        flags = tuple(frozenset[str]() if score is None else _flags(score) for score in scores)
        items = tuple(0 if score is None else score.items for score in scores)
        rows.append(Row(tiers.language(code), values, flags, items))
    return Table(benchmark, metric, is_main, higher, is_loss(metric) and not higher, tuple(rows))


def _flags(score: Score) -> frozenset[str]:
    limit = limit_of(score)
    return frozenset(score.flags) | (frozenset() if limit is None else {f"limit={limit}"})
