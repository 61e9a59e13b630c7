"""Makes a benchmark as PolyWrite was made: prompts translated, translated back, and kept where they came back well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from megatron.corpus.languages import parse_label
from megatron.corpus.reading.problems import BrokenRecord, ReadCounts
from megatron.evaluation.benchmarks.manifest import (
    BenchmarkDataError,
    DataManifest,
    LanguageData,
    load_manifest,
    sha256_of,
)
from megatron.evaluation.benchmarks.prepare.rows import id_of, object_rows, text_of
from megatron.evaluation.benchmarks.translators import Translation, Translator, Untranslated
from megatron.evaluation.benchmarks.writing import write_language
from megatron.evaluation.metrics.translation import bleu_tokenizer
from megatron.utils.files import exclusive, fingerprint_bytes, remove_abandoned
from megatron.utils.log import progress

MINIMUM_BLEU = 20.0
"""What a prompt of PolyWrite must reach when it comes back."""

_FORMAT = "built"
_VERSION = 2  # to be raised when the same translations give other records


class PromptSet(NamedTuple):
    """Prompts in one language.

    Attributes:
        records: ``id``, ``prompt``, and what else the file says of each: ``category``, ``name``.
        file: name of the file.
        sha256: of the file.
        dropped: lines that cannot be used, by reason.
    """

    records: list[dict[str, Any]]
    file: str
    sha256: str
    dropped: dict[str, int]


def read_prompt_set(path: Path) -> PromptSet:
    """Read prompts from JSON lines: ``prompt``, ``category`` (or ``task``), and perhaps ``id`` and ``name``.

    Raises:
        BenchmarkDataError: it holds no prompt, or an id twice.
        CorpusError: it cannot be read.
    """
    counts = ReadCounts()
    records: list[dict[str, Any]] = []
    for row in object_rows(path, ("id", "name", "prompt", "category", "task"), counts):
        try:
            record = {"id": id_of(row, "id", "name"), "prompt": text_of(row, "prompt")}
            record["category"] = text_of(row, "category", "task")
        except BrokenRecord as broken:
            counts.dropped[broken.reason] += 1
            continue
        records.append({**record, **({"name": row["name"]} if isinstance(row.get("name"), str) else {})})
    ids = Counter(record["id"] for record in records)
    if twice := [id for id, count in ids.items() if count > 1]:
        raise BenchmarkDataError(f"{path}: {len(twice)} ids come twice or more, such as {twice[0]!r}; make them differ")
    if not records:
        raise BenchmarkDataError(f"{path} holds no prompt; write one {{id, category, prompt}} a line")
    return PromptSet(records, path.name, sha256_of(path), dict(counts.dropped))


def build(
    prompts: PromptSet,
    languages: Sequence[str],
    folder: Path,
    *,
    forward: Translator,
    backward: Translator,
    source: str = "eng_Latn",
    minimum_bleu: float = MINIMUM_BLEU,
    show_progress: bool = True,
) -> DataManifest:
    """Write ``<folder>/<xxx_Ssss>/test.jsonl`` in the form of prepared PolyWrite, and ``manifest.json``.

    A language that an earlier call has made of the same prompts, with the same translators, is left as it is.

    Args:
        prompts: in the source language.
        languages: corpus codes; the source's own prompts are kept as they are.
        folder: of the benchmark.
        forward: translates prompts.
        backward: translates them back.
        source: corpus code.
        minimum_bleu: least sentence BLEU, 0..100, of a prompt that came back against the one that was sent out.
        show_progress: whether to draw a progress bar.

    Raises:
        BenchmarkDataError: a language is no corpus code.
        InUseError: another process makes the same benchmark.
    """
    if wrong := [code for code in (source, *languages) if (label := parse_label(code)) is None or label.code != code]:
        raise BenchmarkDataError(f"not corpus codes like swh_Latn: {', '.join(wrong)}")
    score, signatures = _scorers(source)
    details = {
        "prompts": prompts.file,
        "prompts_dropped": prompts.dropped,
        "source": source,
        "forward": forward.name,
        "backward": backward.name,
        "minimum_bleu": minimum_bleu,
        "signatures": signatures,
    }
    decides = orjson.dumps([_VERSION, prompts.sha256, details], option=orjson.OPT_SORT_KEYS)
    settings = fingerprint_bytes(decides)
    with exclusive(folder / ".lock"):
        remove_abandoned(folder)
        made = _earlier(folder, settings)

        def manifest(*, is_complete: bool) -> DataManifest:
            return DataManifest(
                format=_FORMAT,
                settings=settings,
                is_complete=is_complete,
                languages=dict(sorted(made.items())),
                sources={prompts.file: prompts.sha256},
                dropped=dict(sorted(sum((Counter(each.dropped) for each in made.values()), Counter()).items())),
                details=details,
            )

        left = [code for code in dict.fromkeys(languages) if not _is_there(folder, code, made)]
        for code in progress(left, description="translating", unit="language", disable=not show_progress):
            made[code] = _make_language(prompts, code, folder, forward, backward, source, minimum_bleu, score)
            manifest(is_complete=False).save(folder)
        done = manifest(is_complete=True)
        done.save(folder)
    return done


def _make_language(
    prompts: PromptSet,
    language: str,
    folder: Path,
    forward: Translator,
    backward: Translator,
    source: str,
    minimum_bleu: float,
    score: Callable[[str, str], dict[str, float]],
) -> LanguageData:
    originals = [str(record["prompt"]) for record in prompts.records]
    if language == source:
        there, back = list[Translation](originals), list[Translation](originals)
    else:
        there = forward.translate(originals, source, language)
        back = _back(there, backward, language, source)
    kept, dropped = [], Counter[str]()
    for record, original, translation, returned in zip(prompts.records, originals, there, back, strict=True):
        if reason := _why_not(original, translation, returned, is_source=language == source):
            dropped[reason] += 1
            continue
        scores = score(str(returned), original)
        if scores["bleu"] < minimum_bleu:
            dropped["low_bleu"] += 1
            continue
        kept.append({**record, "prompt": translation, "original": original, "back_translation": returned, **scores})
    files = write_language(folder / language, {"test": kept})
    return LanguageData(files, language, "code", {prompts.file: prompts.sha256}, dict(sorted(dropped.items())))


def _back(there: Sequence[Translation], backward: Translator, language: str, source: str) -> list[Translation]:
    """Translate back what has been translated."""
    texts = {number: text for number, text in enumerate(there) if isinstance(text, str)}
    returned = backward.translate(list(texts.values()), language, source) if texts else []
    found: list[Translation] = [Untranslated.MISSING] * len(there)
    for number, text in zip(texts, returned, strict=True):
        found[number] = text
    return found


def _why_not(original: str, translation: Translation, returned: Translation, *, is_source: bool) -> str:
    """Return the reason for which a prompt is not even scored; empty when there is none."""
    if isinstance(translation, Untranslated):
        return "no_translation" if translation is Untranslated.MISSING else "translation_cut_off"
    if translation.strip() == original.strip() and not is_source:
        return "copied"  # it would come back perfectly
    if isinstance(returned, Untranslated):
        return "no_back_translation" if returned is Untranslated.MISSING else "back_translation_cut_off"
    return ""


def _scorers(source: str) -> tuple[Callable[[str, str], dict[str, float]], dict[str, str]]:
    """Return what scores a text against the original, and what the scores are called in full."""
    from sacrebleu import BLEU, CHRF

    bleu = BLEU(tokenize=bleu_tokenizer(source.partition("_")[2]), effective_order=True)
    chrf = CHRF(word_order=2)

    def score(text: str, original: str) -> dict[str, float]:
        return {
            "bleu": float(bleu.sentence_score(text, [original]).score),
            "chrf++": float(chrf.sentence_score(text, [original]).score),
        }

    score(source, source)  # signatures know the number of references only after a score
    return score, {"bleu": str(bleu.get_signature().format()), "chrf++": str(chrf.get_signature().format())}


def _earlier(folder: Path, settings: str) -> dict[str, LanguageData]:
    try:
        manifest = load_manifest(folder)
    except BenchmarkDataError:
        return {}
    return dict(manifest.languages) if (manifest.format, manifest.settings) == (_FORMAT, settings) else {}


def _is_there(folder: Path, language: str, made: dict[str, LanguageData]) -> bool:
    """Return whether the language has been made and its file is whole."""
    found = made.get(language)
    if found is None:
        return False
    for split, file in found.files.items():
        path = folder / language / f"{split}.jsonl"
        if not path.is_file() or sha256_of(path) != file.sha256:
            return False
    return True
