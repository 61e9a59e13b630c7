"""Prepares the data of a benchmark."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import orjson

from megatron.config.benchmark_schema import BenchmarkConfig
from megatron.corpus.languages import MAX_CODE_CHARACTERS, parse_label
from megatron.corpus.reading.problems import ReadCounts
from megatron.evaluation.benchmarks.manifest import (
    BenchmarkDataError,
    DataManifest,
    LanguageData,
    load_manifest,
    sha256_of,
)
from megatron.evaluation.benchmarks.prepare.codes import CodeMap, Mapped
from megatron.evaluation.benchmarks.prepare.formats import FORMATS, Problem, UpstreamFormat
from megatron.evaluation.benchmarks.prepare.sources import Source, find_sources
from megatron.evaluation.benchmarks.writing import write_language
from megatron.utils.files import exclusive, fingerprint_bytes, remove_abandoned
from megatron.utils.log import progress

_TEXTS_FOR_A_SCRIPT = 200
_EXAMPLES = 5
_SAVE_EVERY = 50
_MAX_CHARACTERS = 2 << 30  # of files that are read together, because they are held in memory
_FORMATS_VERSION = 2  # to be raised when the same files give other records


def prepare(benchmark: BenchmarkConfig, upstream: Path, data: Path, *, show_progress: bool = True) -> DataManifest:
    """Write ``<data>/<benchmark.data>/<xxx_Ssss>/{train,dev,test}.jsonl`` and ``manifest.json``.

    The same input gives the same bytes. What an earlier call has made from the same files is left as it is.

    Args:
        benchmark: names the upstream format, the labels and the codes that do not follow from themselves.
        upstream: folder with the upstream files.
        data: folder of all prepared data.
        show_progress: whether to draw a progress bar.

    Raises:
        BenchmarkDataError: the definition names no format, or no language at all could be prepared.
        ValueError: the folder or a file in it cannot be read.
        InUseError: another process prepares the same benchmark.
    """
    if benchmark.format is None:
        raise BenchmarkDataError(f"{benchmark.name} names no upstream `format`; add one to its definition")
    form = FORMATS[benchmark.format]
    sources, unused = find_sources(upstream, form.endings)
    folder = data / benchmark.data
    with exclusive(folder / ".lock"):
        remove_abandoned(folder)
        run = _Preparation(benchmark, form, upstream, folder, sources)
        # Of two names of one language, the corpus code itself comes first.
        units = sorted(_units(sources, form), key=lambda unit: _is_inexact(_code_of(unit[0])))
        bar = progress(units, description=f"preparing {benchmark.data}", unit="language", disable=not show_progress)
        for number, unit in enumerate(bar, start=1):
            run.prepare(unit)
            if number % _SAVE_EVERY == 0:
                run.manifest(unused, is_complete=False).save(folder)
        manifest = run.manifest(unused, is_complete=True)
        if not manifest.languages:
            raise BenchmarkDataError(
                f"{upstream}: nothing could be prepared; dropped rows: {dict(manifest.dropped)}, codes without a "
                f"language: {', '.join(sorted(manifest.unmapped)) or 'none'}; say what these are: "
                "--language CODE=xxx_Ssss"
            )
        manifest.save(folder)
    return manifest


def with_languages(benchmark: BenchmarkConfig, given: Sequence[str]) -> BenchmarkConfig:
    """Return a definition with more upstream codes, ``CODE=xxx_Ssss``, which win over its own.

    Raises:
        BenchmarkDataError: listing every argument that is not like that.
    """
    pairs = [argument.rpartition("=") for argument in given]
    labels = {upstream: parse_label(code) for upstream, _, code in pairs}
    wrong = [argument for argument, (upstream, _, _) in zip(given, pairs, strict=True) if labels[upstream] is None]
    if wrong or "" in labels:
        raise BenchmarkDataError(
            f"--language {' '.join(wrong or given)}: give CODE=xxx_Ssss, such as my-notes=eng_Latn"
        )
    if twice := sorted(code for code, count in Counter(upstream for upstream, _, _ in pairs).items() if count > 1):
        raise BenchmarkDataError(f"--language gives a code twice: {', '.join(twice)}; give it once")
    found = {upstream: label.code for upstream, label in labels.items() if label is not None}
    return benchmark.model_copy(update={"languages": {**benchmark.languages, **found}})


def _units(sources: Sequence[Source], form: UpstreamFormat) -> Iterator[list[Source]]:
    """Yield the files that must be read together: those of one code, or all where rows name their own."""
    if form.rows_have_codes:
        yield list(sources)
        return
    by_code: dict[str, list[Source]] = defaultdict(list)
    for source in sources:
        by_code[_code_of(source)].append(source)
    yield from by_code.values()


class _Unit:
    """The rows of some files that are read together."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, list[dict[str, object]]]] = defaultdict(lambda: defaultdict(list))
        self.texts: dict[str, list[str]] = defaultdict(list)
        self.dropped: Counter[str] = Counter()
        self.examples: list[str] = []
        self._characters = 0

    def read(self, source: Source, form: UpstreamFormat, labels: frozenset[str], name: str) -> None:
        """Add the rows of a file."""
        counts = ReadCounts()
        for row in form.rows(source, labels, counts):
            if isinstance(row, Problem):
                self.dropped[row.broken.reason] += 1
                self.examples.append(f"{name}, row {row.number}: {row.broken.problem}; {row.broken.advice}")
                del self.examples[_EXAMPLES:]
                continue
            self.records[row.code][source.split].append(row.record)
            self._characters += sum(len(value) for value in row.record.values() if isinstance(value, str))
            if self._characters > _MAX_CHARACTERS:
                raise BenchmarkDataError(f"{source.path}: more than {_MAX_CHARACTERS:,} characters; is it a benchmark?")
            if len(self.texts[row.code]) < _TEXTS_FOR_A_SCRIPT:
                self.texts[row.code].append(row.text)
        self.dropped += counts.dropped
        # Manifests must not depend on where the files lay.
        self.examples += [place.replace(str(source.path), name, 1) for _, place in counts.examples]
        del self.examples[_EXAMPLES:]


class _Preparation:
    """One call of :func:`prepare`: what it has done so far."""

    def __init__(
        self,
        benchmark: BenchmarkConfig,
        form: UpstreamFormat,
        upstream: Path,
        folder: Path,
        sources: Sequence[Source],
    ) -> None:
        self._form, self._upstream, self._folder = form, upstream, folder
        self._format = str(benchmark.format)
        self._labels = frozenset(benchmark.labels)
        self._codes = CodeMap(benchmark.languages)
        decides = [_FORMATS_VERSION, sorted(self._labels), dict(benchmark.languages)]
        self._settings = fingerprint_bytes(orjson.dumps(decides, option=orjson.OPT_SORT_KEYS))
        self._hashes = {self._name(source.path): sha256_of(source.path) for source in sources}
        self._before = self._earlier()
        self._languages: dict[str, LanguageData] = {}
        self._unmapped: dict[str, dict[str, object]] = {}
        self._dropped: Counter[str] = Counter()
        self._examples: list[str] = []

    def _name(self, path: Path) -> str:
        return path.relative_to(self._upstream).as_posix()

    def _earlier(self) -> dict[str, str]:
        """Return upstream code -> corpus code of what an earlier call has made in the same way."""
        self._earlier_languages: Mapping[str, LanguageData] = {}
        try:
            manifest = load_manifest(self._folder)
        except BenchmarkDataError:
            return {}
        if (manifest.format, manifest.settings) != (self._format, self._settings):
            return {}
        self._earlier_languages = manifest.languages
        return {language.upstream: code for code, language in manifest.languages.items()}

    def prepare(self, files: Sequence[Source]) -> None:
        """Write the languages of some files."""
        sources = {self._name(source.path): self._hashes[self._name(source.path)] for source in files}
        own_counts = not self._form.rows_have_codes
        if own_counts and self._keep(_code_of(files[0]), sources):
            return
        unit = _Unit()
        for source in files:
            unit.read(source, self._form, self._labels, self._name(source.path))
        self._dropped += unit.dropped
        if not own_counts:
            self._examples += unit.examples
        if not unit.records:
            self._unmapped[_code_of(files[0])] = {"reason": "no row can be used", "items": 0, "files": sorted(sources)}
        for code, splits in sorted(unit.records.items(), key=lambda item: (_is_inexact(item[0]), item[0])):
            mapped = self._codes.corpus_code(code, unit.texts[code])
            if mapped.code is None or mapped.code in self._languages:
                self._unmapped[code[:MAX_CODE_CHARACTERS]] = {
                    "reason": self._reason(mapped), "items": sum(map(len, splits.values())), "files": sorted(sources),
                }  # fmt: skip
                continue
            files_of = write_language(self._folder / mapped.code, splits)
            dropped, examples = (unit.dropped, unit.examples) if own_counts else (Counter[str](), [])
            self._languages[mapped.code] = LanguageData(
                files_of, code, mapped.how, sources, dict(sorted(dropped.items())), tuple(examples)
            )

    def _keep(self, upstream: str, sources: Mapping[str, str]) -> bool:
        """Keep what is there already, if it is from the same files and whole."""
        code = self._before.get(upstream, "")
        found = self._earlier_languages.get(code)
        if found is None or found.sources != sources or code in self._languages:
            return False
        for split, file in found.files.items():
            path = self._folder / code / f"{split}.jsonl"
            if not path.is_file() or sha256_of(path) != file.sha256:
                return False
        self._languages[code] = found
        self._dropped += Counter(found.dropped)
        return True

    def _reason(self, mapped: Mapped) -> str:
        if mapped.code is None:
            return mapped.how
        other = self._languages[mapped.code].upstream
        fix = "map one of them: --language, or `languages` of the definition"
        return f"becomes {mapped.code}, as {other!r} does; {fix}"

    def manifest(self, unused: Sequence[Path], *, is_complete: bool) -> DataManifest:
        """Return what has been done."""
        return DataManifest(
            format=self._format,
            settings=self._settings,
            is_complete=is_complete,
            languages=dict(sorted(self._languages.items())),
            sources=dict(sorted(self._hashes.items())),
            dropped=dict(sorted(self._dropped.items())),
            examples=tuple(self._examples),
            unmapped=dict(sorted(self._unmapped.items())),
            unused_files=tuple(map(self._name, unused)),
        )


def _code_of(source: Source) -> str:
    """Return a source's code; all translations of one Bible are one language's."""
    return source.code.partition("-x-bible")[0]


def _is_inexact(code: str) -> bool:
    return parse_label(code) is None
