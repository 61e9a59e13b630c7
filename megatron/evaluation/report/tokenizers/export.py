"""The report of tokenizers as data: TSV with a row for each language and tokenizer, and JSON with every number."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from megatron.evaluation.report.data import language_name
from megatron.evaluation.report.tokenizers.summary import BYTES_FROM, Row, Summary
from megatron.tokenizer.measure.figures import FIGURES, Figures, Group

_VERSION = 1
# A cell that begins so is a formula to programs that open tables.
_FORMULA = ("=", "+", "-", "@")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_LANGUAGE = ("language", "name", "script", "tier", "corpora", "origin", "documents", "bytes", "characters", "words")
_PARALLEL = ("parallel_records", "unmatched_records", "uneven", "byte_premium")
_TOKENS = ("tokens", "unk_tokens", "byte_tokens", "overflowing", "windows", "checked", "failures")
_WORDS = ("sampled_words", "sampled_words_whole", "parallel_tokens", "pivot_tokens")


def tokens_tsv(summary: Summary) -> str:
    """Return a row for each language and tokenizer: counts, then figures; a figure that has no value is empty."""
    # A column is named once: the mean of windows is told from their count.
    figures = ["windows_per_document" if name == "windows" else name for name in FIGURES]
    lines = ["\t".join([*_LANGUAGE, *_PARALLEL, "tokenizer", *_TOKENS, *_WORDS, *figures])]
    for row in summary.rows:
        for number, name in enumerate(summary.names):
            lines.append("\t".join(map(_plain, [*_of_language(row), name, *_of_tokenizer(row, number)])))
    return "\n".join(lines) + "\n"


def tokens_json(summary: Summary) -> bytes:
    """Return every number; what has no value is null."""
    measured = summary.measured
    content = {
        "version": _VERSION,
        "settings": dataclasses.asdict(measured.settings),
        "pivot": measured.pivot if summary.is_compared else None,
        "tiers": summary.tiers_origin or None,
        "tokenizers": [
            {**dataclasses.asdict(facts), "gini": _known(ginis)}
            for facts, ginis in zip(measured.tokenizers, summary.ginis, strict=True)
        ],
        "all": _group(summary.total, summary.names),
        "by_script": [_group(group, summary.names) for group in summary.scripts],
        "by_tier": [_group(group, summary.names) for group in summary.tiers],
        "written_in_bytes": {
            name: [group.name for group in summary.written_in_bytes() if group.figures[number].byte_share >= BYTES_FROM]
            for number, name in enumerate(summary.names)
        },
        "languages": [_language(row, summary.names) for row in summary.rows],
        "left_out": dict(measured.left_out),
        "left_out_of": {reason: dict(of) for reason, of in measured.left_out_of.items()},
    }
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _of_language(row: Row) -> list[Any]:
    language, text, parallel = row.language, row.language.counts.text, row.language.parallel
    shared: Sequence[Any] = ("", "", "")
    if parallel is not None:
        shared = (parallel.records, parallel.unmatched, "yes" if parallel.uneven else "no")
    return [
        language.code, language_name(language.code), language.script, row.tier, " ".join(language.corpora),
        language.origin, text.documents, text.bytes, text.characters, text.words, *shared, row.byte_premium,
    ]  # fmt: skip


def _of_tokenizer(row: Row, number: int) -> list[Any]:
    counts, parallel = row.language.counts, row.language.parallel
    words = counts.words
    both: Sequence[Any] = ("", "")
    if parallel is not None:
        both = (parallel.own.tokens[number], parallel.pivot.tokens[number])
    tokens = [getattr(counts.tokens[number], name) for name in _TOKENS]
    figures = [getattr(row.figures[number], name) for name in FIGURES]
    return [*tokens, len(words.hashes), int(words.whole[:, number].sum()), *both, *figures]


def _language(row: Row, names: Sequence[str]) -> dict[str, Any]:
    language, counts, parallel = row.language, row.language.counts, row.language.parallel
    return {
        "language": language.code,
        "name": language_name(language.code),
        "script": language.script,
        "tier": row.tier or None,
        "is_language": language.is_language,
        "corpora": language.corpora,
        "origin": language.origin,
        **dataclasses.asdict(counts.text),
        "parallel": None if parallel is None else {**parallel.to_json(), "byte_premium": row.byte_premium},
        "sampled_words": len(counts.words.hashes),
        "tokenizers": {
            name: {
                **dataclasses.asdict(counts.tokens[number]),
                "sampled_words_whole": int(counts.words.whole[:, number].sum()),
                "figures": _figures(row.figures[number]),
                "not_given_back": [each._asdict() for _, each in sorted(counts.examples[number].items())],
            }
            for number, name in enumerate(names)
        },
    }


def _group(group: Group, names: Sequence[str]) -> dict[str, Any]:
    tokenizers = {
        name: {**_figures(figures), "highest_premium": None if math.isnan(highest) else highest}
        for name, figures, highest in zip(names, group.figures, group.highest, strict=True)
    }
    own = {each.name: getattr(group, each.name) for each in dataclasses.fields(group)}
    return {**_known({key: own[key] for key in own if key not in ("figures", "highest")}), "tokenizers": tokenizers}


def _figures(figures: Figures) -> dict[str, Any]:
    return _known(dataclasses.asdict(figures))


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}


def _plain(value: Any) -> str:
    """Write a cell, numbers as they are; nothing in a text may end the cell or the line, or calculate."""
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    text = _CONTROL.sub(" ", str(value))
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text
