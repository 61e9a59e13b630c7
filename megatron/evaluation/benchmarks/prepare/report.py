"""What has been prepared, in lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from megatron.evaluation.benchmarks.manifest import DataManifest
from megatron.evaluation.benchmarks.prepare.codes import CodeMap
from megatron.utils.table import text_table

_HOW = {
    "definition": "given: by the definition or by --language",
    "text": "; script of the texts",
    "likely": "; usual script",
}


def manifest_lines(manifest: DataManifest) -> Iterator[str]:
    """Yield how much there is, what was left out and why, and which codes have no language."""
    splits = Counter[str]()
    for language in manifest.languages.values():
        splits.update({split: file.items for split, file in language.files.items()})
    counts = ", ".join(f"{split} {splits[split]:,}" for split in ("train", "dev", "test") if splits[split])
    yield f"{len(manifest.languages):,} languages, {manifest.items:,} items: {counts}"
    for reason, count in manifest.dropped.items():
        yield f"left out: {count:,} rows ({reason})"
    examples = [*manifest.examples, *(line for each in manifest.languages.values() for line in each.examples)]
    yield from (f"  {line}" for line in examples[:10])
    likely = [code for code, language in manifest.languages.items() if language.mapped == "likely"]
    if likely:
        yield f"script not named and too few letters to see it, {len(likely)} languages: {', '.join(likely)}"
    if manifest.unmapped:
        fix = "say what they are: --language CODE=xxx_Ssss"
        yield f"without a language of their own: {len(manifest.unmapped)} codes; {fix}"
        for code, entry in manifest.unmapped.items():
            yield f"  {code or '(no code)'}: {entry['reason']} ({entry['items']:,} rows)"
    if manifest.unused_files:
        more = ", ..." if len(manifest.unused_files) > 10 else ""
        yield f"not read: {len(manifest.unused_files)} other files ({', '.join(manifest.unused_files[:10])}{more})"


def code_lines(manifest: DataManifest) -> Iterator[str]:
    """Yield a table of the languages whose upstream name is not their corpus code, and how that is known."""
    codes = CodeMap({})
    rows = []
    for code, language in manifest.languages.items():
        if language.upstream == code:
            continue
        origin = "" if language.mapped == "definition" else codes.origin(language.upstream)
        first, *others = sorted(language.sources)
        files = f"{first} and {len(others)} more" if others else first
        rows.append((language.upstream, code, f"{origin}{_HOW.get(language.mapped, '')}", files))
    if rows:
        yield from text_table([("upstream", "language", "how", "files"), *rows], left=4, ruled=True).splitlines()


def unused_lines(manifest: DataManifest, given: Sequence[str]) -> Iterator[str]:
    """Yield which of the ``CODE=xxx_Ssss`` that were given no file or row has."""
    there = {*(language.upstream for language in manifest.languages.values()), *manifest.unmapped}
    if unused := [argument for argument in given if argument.rpartition("=")[0] not in there]:
        yield f"no file and no row has what --language names: {', '.join(unused)}"
