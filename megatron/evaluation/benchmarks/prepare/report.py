"""What has been prepared, in lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from megatron.evaluation.benchmarks.manifest import DataManifest


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
        yield f"without a language of their own: {len(manifest.unmapped)} codes"
        for code, entry in manifest.unmapped.items():
            yield f"  {code or '(no code)'}: {entry['reason']} ({entry['items']:,} rows)"
    if manifest.unused_files:
        more = ", ..." if len(manifest.unused_files) > 10 else ""
        yield f"not read: {len(manifest.unused_files)} other files ({', '.join(manifest.unused_files[:10])}{more})"
