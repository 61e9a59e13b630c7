#!/usr/bin/env python3
"""Tokenising: MB of text per second from ``.jsonl.zst`` to ``.bin`` and ``.idx``, on 2 processes, start included.

Peers, each on the same files: datatrove's Megatron writer; a loop of the shape that Megatron's ``preprocess_data.py``
has (a line of JSON to a worker, a list of ids back, megatron-core's builder in the parent); and as the limit the bare
tokenizer, without any reading or writing, on texts that two running processes hold in memory.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from random import Random

import numpy as np
import orjson
import zstandard
from common import Comparison, alternate, parse_arguments, show

from megatron.corpus.read import read_documents
from megatron.corpus.sample import build_sample_corpus
from megatron.corpus.tokenise import TokeniseOptions, tokenise_corpora
from megatron.tokenizer.base import Tokenizer
from megatron.tokenizer.load import TokenizerFile
from megatron.tokenizer.train import train_sentencepiece

LLAMA2 = Path(__file__).resolve().parents[2] / "shared" / "data" / "tokenizers" / "llama2" / "tokenizer.model"
FILES, PROCESSES = 8, 2
DOCUMENT_CHARACTERS = 2000
BATCH_DOCUMENTS = 1024


def make_text(folder: Path, size_bytes: int) -> None:
    """Write documents of some 2,000 characters, made of the sample corpus's sentences in random order, in 8 files."""
    with tempfile.TemporaryDirectory() as sample:
        build_sample_corpus(Path(sample))
        paths = sorted(Path(sample).glob("*_*/*.zst"))
        corpora = [[line for d in read_documents(path) for line in d.text.split("\n")] for path in paths]
    random = Random(0)
    for number in range(FILES):
        lines, written = [], 0
        while written < size_bytes // FILES:
            sentences = random.choice(corpora)
            text = ""
            while len(text) < DOCUMENT_CHARACTERS:
                text += random.choice(sentences) + random.choice((" ", "\n"))
            lines.append(orjson.dumps({"text": text}))
            written += len(text.encode())
        (folder / f"{number}.jsonl.zst").write_bytes(zstandard.compress(b"\n".join(lines)))


def texts_of(path: Path) -> list[str]:
    """Return the texts of a file."""
    return [document.text for document in read_documents(path)]


@functools.cache
def loaded(file: TokenizerFile) -> Tokenizer:
    """Load a tokenizer once in each process."""
    return file.load()


@functools.cache
def held(paths: tuple[Path, ...]) -> list[list[str]]:
    """Hold the texts of all files in memory, in each process."""
    return [texts_of(path) for path in paths]


def encode_held(work: tuple[TokenizerFile, tuple[Path, ...], int]) -> int:
    """Encode the texts of one file that are in memory; nothing else."""
    file, paths, number = work
    texts, tokenizer = held(paths)[number], loaded(file)
    batches = (texts[start : start + BATCH_DOCUMENTS] for start in range(0, len(texts), BATCH_DOCUMENTS))
    return sum(len(ids) for batch in batches for ids in tokenizer.encode_batch(batch))


def encode_line(work: tuple[TokenizerFile, bytes]) -> list[int]:
    """Encode one line of JSON, as a worker of the plain loop does."""
    file, line = work
    tokenizer = loaded(file)
    return [*tokenizer.encode(json.loads(line)["text"]), tokenizer.eod_id]


def lines_of(paths: Sequence[Path]) -> Iterator[bytes]:
    """Yield the lines of all files."""
    for path in paths:
        with zstandard.open(path, "rb") as file:
            yield from file.read().splitlines()


def plain_loop(file: TokenizerFile, paths: Sequence[Path], output: Path) -> None:
    """Tokenise as Megatron's preprocess_data.py is built."""
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    builder = IndexedDatasetBuilder(f"{output}.bin", dtype=np.uint16)
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        for ids in pool.imap(encode_line, ((file, line) for line in lines_of(paths)), 32):
            builder.add_document(ids, [len(ids)])
    builder.finalize(f"{output}.idx")


def datatrove_writer(tokenizer_json: Path, bench: Bench) -> None:
    """Tokenise with datatrove's Megatron writer."""
    output = bench.output()
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens.megatron_tokenizer import MegatronDocumentTokenizer
    from loguru import logger

    logger.remove()
    reader = JsonlReader(str(bench.corpus / "eng_Latn"), glob_pattern="*.jsonl.zst", compression="zstd")
    shards, tokenizer = str(output / "shards"), str(tokenizer_json)
    writer = MegatronDocumentTokenizer(shards, tokenizer_name_or_path=tokenizer, eos_token="</s>")
    LocalPipelineExecutor([reader, writer], tasks=FILES, workers=PROCESSES, logging_dir=str(output / "logs")).run()


def installed(package: str) -> bool:
    """Return whether a package is there."""
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


class Bench:
    """The work: one corpus, and a fresh output folder for every run."""

    def __init__(self, folder: Path, paths: Sequence[Path], repetitions: int) -> None:
        self.folder, self.paths, self.repetitions = folder, tuple(paths), repetitions
        self.corpus = folder / f"corpus-{len(paths)}"
        (self.corpus / "eng_Latn").mkdir(parents=True)
        for path in paths:
            os.link(path, self.corpus / "eng_Latn" / path.name)
        self.size_mb = sum(len(text.encode()) for path in paths for text in texts_of(path)) / 1e6

    def output(self) -> Path:
        """Return an empty folder."""
        path = self.folder / "out"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def ours(self, file: TokenizerFile) -> None:
        """Tokenise with this project."""
        options = TokeniseOptions(valid_bytes=0)
        tokenise_corpora(
            [self.corpus], self.output(), tokenizer=file, options=options, workers=PROCESSES, show_progress=False
        )

    def compare(self, case: str, file: TokenizerFile, peer: Callable[[], object] | None, name: str) -> Comparison:
        """Run ours and a peer in turn."""
        rates = alternate(
            lambda _: self.ours(file),
            None if peer is None else lambda _: peer(),
            repetitions=self.repetitions,
            amount=self.size_mb,
        )
        return Comparison(case, *rates, name, "MB/s")

    def against_all(self, kind: str, file: TokenizerFile) -> Iterator[Comparison]:
        """Compare with the limit and with the plain loop, which encodes with the library and not with gigatoken."""
        slow = TokenizerFile(file.tokenizer_type, file.vocab_file, file.eod_token)
        with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
            work = [(file, self.paths, number) for number in range(len(self.paths))]
            yield self.compare(f"{kind} / limit", file, lambda: pool.map(encode_held, work, 1), "bare tokenizer")
        loop = f"plain loop, {kind.split(',')[0]}"
        yield self.compare(
            f"{kind} / plain loop", file, lambda: plain_loop(slow, self.paths, self.output() / "x"), loop
        )


def main() -> None:
    """Measure everything, and print the table."""
    args = parse_arguments(str(__doc__))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_text(folder, 6_000_000 if args.quick else 60_000_000)
        paths = sorted(folder.glob("*.zst"))
        model = LLAMA2
        if not model.is_file():
            model = folder / "tokenizer.model"
            train_sentencepiece(texts_of(paths[0]), model, vocab_size=8000)
        sp = TokenizerFile("SPMTokenizer", model)
        sp.load().save(folder / "hf", prepend_bos=False)
        hf = TokenizerFile("HFTokenizer", folder / "hf" / "tokenizer.json")
        bench = Bench(folder, paths, 1 if args.quick else 3)
        small = Bench(folder, paths[: FILES // 4], bench.repetitions)  # `tokenizers` takes four times as long
        results = [*bench.against_all("sentencepiece", sp)]
        name = f"datatrove {version('datatrove')}" if installed("datatrove") else "datatrove"
        peer = functools.partial(datatrove_writer, hf.vocab_file, bench)
        results.append(bench.compare("sentencepiece / datatrove", sp, peer if installed("datatrove") else None, name))
        results += small.against_all("tokenizers", hf)
        if installed("gigatoken"):
            results += bench.against_all("sentencepiece, gigatoken", TokenizerFile("SPMTokenizer", model, fast=True))
        else:
            sys.stdout.write("gigatoken is NOT INSTALLED: pip install gigatoken==0.10.0\n")
        show(results, as_json=args.json)


if __name__ == "__main__":
    main()
