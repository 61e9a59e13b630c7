#!/usr/bin/env python3
"""Near-duplicates: documents per second and recall, ours against datasketch, datatrove and rensa, on one core.

All use 14 bands of 8 hashes. Ours makes the keys of n-grams of characters, exact ones too, and finds the duplicates in
their buckets. The peers compare five words in a row: datasketch inserts every signature into its LSH index and queries
it, rensa likewise with its matrix; of datatrove only the signatures are timed, made with its own word tokenizer.

Documents have 236 words and 2.2 kB in the mean, in eight languages that write blanks between words. A third of them are
copies with 1 % or 5 % of their words replaced. Recall is the share of copies that have a band in common with their
original; and of pairs of texts with half of their text in common, which are no copies, the share that have none.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import zstandard
from common import Comparison, alternate, parse_arguments, show

from megatron.config.corpus_schema import DedupConfig
from megatron.corpus.dedup.buckets import duplicates
from megatron.corpus.dedup.keys import DocumentKeys
from megatron.corpus.sample import build_sample_corpus

LANGUAGES = ("eng_Latn", "deu_Latn", "spa_Latn", "tur_Latn", "rus_Cyrl", "ell_Grek", "ara_Arab", "hin_Deva")
WORDS = 236
BANDS, ROWS = 14, 8
SETTINGS = DedupConfig(bands=BANDS, rows=ROWS)

Texts = list[tuple[str, str]]
Signatures = npt.NDArray[Any]
Method = tuple[str, Callable[[Texts], object] | None, Callable[[Texts], Signatures] | None]


def vocabularies() -> dict[str, list[list[str]]]:
    """Return the lines of the sample corpus, as lists of words, for every language."""
    with tempfile.TemporaryDirectory() as folder:
        build_sample_corpus(Path(folder), languages=LANGUAGES)
        return {name: [line.split() for line in sample_lines(Path(folder) / name)] for name in LANGUAGES}


def sample_lines(folder: Path) -> list[str]:
    """Return the lines of all texts of one sample corpus."""
    with zstandard.open(folder / "part-000.jsonl.zst", "rt", encoding="utf-8") as file:
        return [line for record in file for line in orjson.loads(record)["text"].split("\n")]


def words_of(lines: Sequence[list[str]], count: int, random: Random) -> list[str]:
    """Return this many words of lines in random order."""
    return list(itertools.islice((word for _ in itertools.count() for word in random.choice(lines)), count))


def originals(lines: dict[str, list[list[str]]], count: int, random: Random) -> Texts:
    """Return documents of many lengths, each with its language."""
    languages = [LANGUAGES[i % len(LANGUAGES)] for i in range(count)]
    lengths = [30 + int(random.expovariate(1 / (WORDS - 30))) for _ in languages]
    return [(name, " ".join(words_of(lines[name], n, random))) for name, n in zip(languages, lengths, strict=True)]


def copies(texts: Texts, rate: float, random: Random) -> Texts:
    """Return the texts with this share of their words replaced by others of the same text, one at least."""
    changed = []
    for name, text in texts:
        words = text.split()
        for place in random.sample(range(len(words)), max(1, round(len(words) * rate))):
            words[place] = random.choice(words)
        changed.append((name, " ".join(words)))
    return changed


def half_in_common(lines: dict[str, list[list[str]]], count: int, random: Random) -> tuple[Texts, Texts]:
    """Return pairs of texts that begin with the same half of a mean document, and end differently."""
    common = [(name, words_of(lines[name], WORDS // 2, random)) for name in LANGUAGES for _ in range(count // 8)]
    return tuple(  # type: ignore[return-value]
        [(name, " ".join(words + words_of(lines[name], WORDS // 2, random))) for name, words in common]
        for _ in range(2)
    )


# ---- the sides -------------------------------------------------------------------------------------------------------


def our_keys(texts: Texts) -> Signatures:
    """Return the keys of all texts, the exact one and one for each band."""
    keys = np.empty((len(texts), 1 + BANDS), dtype=np.uint64)
    for script in sorted({name[-4:] for name in LANGUAGES}):
        places = [i for i, (name, _) in enumerate(texts) if name.endswith(script)]
        if places:
            keys[places] = DocumentKeys(SETTINGS, script=script).keys([texts[i][1] for i in places])
    return keys


def our_duplicates(texts: Texts) -> object:
    """Find the duplicates among the texts."""
    keys = our_keys(texts)
    return duplicates(keys.ravel(), np.repeat(np.arange(len(texts), dtype=np.uint64), keys.shape[1]))


def shingles(text: str) -> list[str]:
    """Return five words in a row, from every word on."""
    words = text.lower().split()
    return [" ".join(words[i : i + 5]) for i in range(max(1, len(words) - 4))]


def datasketch() -> Method:
    """Return datasketch's index, and its signatures."""
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError:
        return "datasketch", None, None

    def hashes(texts: Texts) -> Any:
        return MinHash.generator(([s.encode() for s in shingles(text)] for _, text in texts), num_perm=BANDS * ROWS)

    def run(texts: Texts) -> None:
        index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
        for number, one in enumerate(hashes(texts)):
            index.query(one)
            index.insert(number, one)

    return f"datasketch {version('datasketch')}", run, lambda texts: banded([one.hashvalues for one in hashes(texts)])


def datatrove() -> Method:
    """Return datatrove's signatures, with the tokenizer it has for English."""
    try:
        import spacy  # noqa: F401
        import xxhash
        from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
    except ImportError:
        return "datatrove (with spacy)", None, None
    step = MinhashDedupSignature(tempfile.gettempdir(), MinhashConfig(num_buckets=BANDS, hashes_per_bucket=ROWS))
    # Its own hash function hands text to xxhash, which version 4 refuses.
    step._hash_func = lambda text: xxhash.xxh64_intdigest(text.encode())

    def run(texts: Texts) -> list[list[list[int]]]:
        return [step.get_signature(step.get_shingles(text)) for _, text in texts]

    return f"datatrove {version('datatrove')}", run, lambda texts: np.array(run(texts), dtype=np.uint64)


def rensa() -> Method:
    """Return rensa's index, and its signatures of all shingles (not of a sample of them)."""
    try:
        from rensa import RMinHash, RMinHashLSH
    except ImportError:
        return "rensa", None, None

    def run(texts: Texts) -> None:
        matrix = RMinHash.digest_matrix_from_token_sets([shingles(text) for _, text in texts], BANDS * ROWS, 1)
        RMinHashLSH(0.7, BANDS * ROWS, BANDS).insert_matrix_and_query_duplicate_flags(matrix, 0)

    def signatures(texts: Texts) -> Signatures:
        return banded(RMinHash.digests_from_token_sets([shingles(text) for _, text in texts], BANDS * ROWS, 1))

    return f"rensa {version('rensa')}", run, signatures


def banded(signatures: Sequence[Sequence[int]]) -> Signatures:
    """Return signatures as an array, shape ``[texts, BANDS, ROWS]``."""
    return np.array(signatures, dtype=np.uint64).reshape(-1, BANDS, ROWS)


def percent_found(one: Signatures, other: Signatures) -> float:
    """Return the percentage of pairs that have a band in common."""
    shape = (len(one), one.shape[1], -1)
    return 100 * float((one.reshape(shape) == other.reshape(shape)).all(axis=2).any(axis=1).mean())


def main() -> None:
    """Measure speed and recall of ours and of every peer that is installed."""
    arguments = parse_arguments(__doc__ or "")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    random, lines = Random(0), vocabularies()
    count = 200 if arguments.quick else 2_000
    texts = originals(lines, 4 * count, random)
    near = {
        f"{rate:.0%}": (texts[first : first + count], copies(texts[first : first + count], rate, random))
        for rate, first in ((0.01, 0), (0.05, count))
    }
    everything = [*texts, *near["1%"][1], *near["5%"][1]]
    size = sum(len(text.encode()) for _, text in everything) / len(everything)
    print(f"{len(everything):,} documents, {size / 1000:.2f} kB in the mean; one core")
    halves = half_in_common(lines, count, random)
    comparisons = []
    for name, run, signatures in (datasketch(), datatrove(), rensa()):
        peer = None if run is None else (lambda _, run=run: run(everything))
        rates = alternate(
            lambda _: our_duplicates(everything), peer, repetitions=1 if arguments.quick else 3, amount=len(everything)
        )
        comparisons.append(Comparison(f"documents, {name}", *rates, name, "documents/s"))
        for rate, (one, other) in near.items():
            ours = [percent_found(our_keys(one), our_keys(other))]
            theirs = [percent_found(signatures(one), signatures(other))] if signatures else []
            comparisons.append(Comparison(f"{rate} replaced, {name}", ours, theirs, name, "% of copies found"))
        ours = [100 - percent_found(our_keys(halves[0]), our_keys(halves[1]))]
        theirs = [100 - percent_found(signatures(halves[0]), signatures(halves[1]))] if signatures else []
        comparisons.append(Comparison(f"half in common, {name}", ours, theirs, name, "% told apart"))
    show(comparisons, as_json=arguments.json)


if __name__ == "__main__":
    main()
