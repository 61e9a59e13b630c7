"""What an :class:`megatron.data.inspection.inspect.Inspector` finds, as lines of text, tab-separated values or JSON."""

from __future__ import annotations

import dataclasses
import itertools
import json
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from megatron.data.inspection.inspect import InspectError, Inspector, Piece
from megatron.data.manifest import Manifest, ShardInfo, Split
from megatron.data.parts import Parts
from megatron.tokenizer.load import load_tokenizer
from megatron.utils.table import text_table

Format = Literal["text", "json", "tsv"]

_BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def step_lines(
    inspector: Inspector,
    step: int,
    samples: Sequence[int],
    *,
    origin: str,
    style: Format = "text",
    shown: int | None = None,
    width: int | None = 60,
) -> Iterator[str]:
    """Yield the lines that tell what one optimizer step trains on.

    Args:
        inspector: looks the samples up.
        step: number of the step, from 1 on.
        samples: its samples.
        origin: how the samples are known.
        style: ``text`` for people, with a summary of languages at the end; ``json`` or ``tsv``: one line per piece of a
            document, and nothing else.
        shown: list only so many of the samples; the summary is of all.
        width: characters of text to show from the beginning and from the end of each piece; None for all of it.
    """
    listed = samples if shown is None else samples[:shown]
    pieces = (piece for sample in listed for piece in inspector.pieces(sample))
    if style != "text":
        yield from _records(step, pieces, style)
        return
    yield (
        f"step {step}: samples {samples[0]} to {samples[-1]} ({origin}); steps count from 1, as in metrics.jsonl\n"
        f"a sample trains on {inspector.order.seq_length} tokens, and has one more as the last target"
    )
    for sample, group in itertools.groupby(pieces, key=lambda piece: piece.sample):
        yield from _sample_lines(sample, list(group), width)
    if len(listed) < len(samples):
        yield f"... and {len(samples) - len(listed):,} more samples"
    yield ""
    yield _language_table(inspector, samples)


def document_lines(
    manifest: Manifest, corpus: str, number: int, *, split: Split = "train", vocab_file: Path | None = None
) -> Iterator[str]:
    """Yield one document: where it lies, its ids, and its text when the tokenizer's file is given.

    Raises:
        InspectError: there is no such corpus or split.
        ShardError: there is no such document, or the shard is damaged.
    """
    shard = find_shard(manifest, corpus, split)
    part = Parts(manifest.root).open(shard)
    start, stop = part.document_span(number)
    ids = part.tokens(start, stop)
    size, first = part.dtype.itemsize, shard.first_token
    yield f"document {number} of {part.num_documents:,} of {shard.name} ({shard.split}), {shard.code}, {shard.source}"
    yield (
        f"{part.prefix}.bin: document {shard.first_document + number}, tokens {first + start} to {first + stop}, "
        f"bytes {(first + start) * size} to {(first + stop) * size} ({part.dtype})"
    )
    yield f"{len(ids)} ids: {' '.join(map(str, ids.tolist()))}"
    if vocab_file is not None:
        info = manifest.tokenizer
        tokenizer = load_tokenizer(info.kind, vocab_file, eod_id=info.eod_id)
        info.require_same(tokenizer, where=manifest.root)
        yield tokenizer.decode(ids.tolist())


def find_shard(manifest: Manifest, corpus: str, split: Split) -> ShardInfo:
    """Return the shard of a corpus.

    Raises:
        InspectError: there is none of that name and split.
    """
    found = next((shard for shard in manifest.split(split) if shard.name == corpus), None)
    if found is None:
        near = [f"{s.name} ({s.split})" for s in manifest.shards if corpus.lower() in (s.name.lower(), s.code.lower())]
        hint = f"; there is {', '.join(near)}" if near else f" among its {len(manifest.split(split))} corpora"
        raise InspectError(f"{manifest.root}: no corpus {corpus!r} ({split}){hint}")
    return found


def visible(text: str) -> str:
    r"""Return a text in which nothing can break the line or the terminal: ``\n``, ``\x1b`` and the like are spelled."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs") or character in _BIDI
        else character
        for character in text
    )


def excerpt(text: str, width: int | None) -> str:
    """Return the first and the last ``width`` characters of a text, made :func:`visible`; all of it for None."""
    if width is None or len(text) <= 2 * width + 3:
        return visible(text)
    return f"{visible(text[:width])} ... {visible(text[len(text) - width :])}"


def _sample_lines(sample: int, pieces: Sequence[Piece], width: int | None) -> Iterator[str]:
    first = pieces[0]
    corpus = "" if first.corpus == first.code else f"  corpus {first.corpus}"
    yield (
        f"sample {sample}  {first.code}{corpus}  {first.source}  tier {first.tier}  epoch {first.epoch}  "
        f"window {first.window}  {len(pieces)} document{'s' * (len(pieces) > 1)}"
    )
    for piece in pieces:
        if piece.tokens == piece.document_tokens:
            extent = f"all {piece.tokens} tokens"
        else:
            extent = f"tokens {piece.offset} to {piece.offset + piece.tokens} of {piece.document_tokens}"
        yield f"    document {piece.document}: {extent}" + (f"  {excerpt(piece.text, width)}" if piece.text else "")


def _language_table(inspector: Inspector, samples: Sequence[int]) -> str:
    rows = inspector.languages(samples)
    total = sum(tokens for *_, tokens in rows)
    cells = [("language", "samples", "tokens", "part")]
    cells += [(code, f"{count:,}", f"{tokens:,}", f"{tokens / total:.2%}") for code, count, tokens in rows]
    cells.append((f"all {len(rows)}", f"{len(samples):,}", f"{total:,}", "100.00%"))
    return text_table(cells)


def _records(step: int, pieces: Iterator[Piece], style: Format) -> Iterator[str]:
    if style == "tsv":
        yield "\t".join(["step", *(field.name for field in dataclasses.fields(Piece))])
    for piece in pieces:
        record = {"step": step, **dataclasses.asdict(piece)}
        if style == "json":
            yield json.dumps(record, ensure_ascii=False)
        else:
            yield "\t".join(visible(str(value)) for value in record.values())
