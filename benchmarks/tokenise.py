#!/usr/bin/env python3
"""Tokenising: MB of text per second from ``.jsonl.zst`` to ``.bin`` and ``.idx``, on 2 processes, start included.

Peers, each on the same files: datatrove's Megatron writer; and a plain loop of the shape that Megatron's
``preprocess_data.py`` has (a line of JSON to a worker, a list of ids back, megatron-core's builder in the parent). As
the limit, the bare library with no reading or writing, on 2 processes that have started and hold the texts in memory.
gigatoken remembers words; every run begins without them, on both sides. All sides must write the same tokens.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import orjson
import zstandard
from common import Comparison, parse_arguments, show

from megatron.corpus.read import read_documents
from megatron.corpus.sample import build_sample_corpus
from megatron.corpus.tokenise import TokeniseOptions, tokenise_corpora
from megatron.tokenizer.base import Tokenizer
from megatron.tokenizer.load import TokenizerFile
from megatron.tokenizer.train import train_sentencepiece

LLAMA2 = Path(__file__).resolve().parents[2] / "shared" / "data" / "tokenizers" / "llama2" / "tokenizer.model"
FILES, PROCESSES = 8, 2
FEW = FILES // 4  # files for the sides that encode with `tokenizers`: it takes three times as long
DOCUMENT_CHARACTERS = 2000
BATCH_DOCUMENTS = 1024

Encoder = Callable[[list[str]], int]


# ---- text ------------------------------------------------------------------------------------------------------------


def make_text(folder: Path, size_bytes: int) -> list[Path]:
    """Write documents of some 2,000 characters, made of the sample corpus's sentences in random order, in 8 files."""
    with tempfile.TemporaryDirectory() as sample:
        build_sample_corpus(Path(sample))
        paths = sorted(Path(sample).glob("*_*/*.zst"))
        corpora = [[line for each in read_documents(path) for line in each.text.split("\n")] for path in paths]
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
    return sorted(folder.glob("*.jsonl.zst"))


def texts_of(path: Path) -> list[str]:
    """Return the texts of a file."""
    return [document.text for document in read_documents(path)]


# ---- the limit -------------------------------------------------------------------------------------------------------


def bare_encoder(file: TokenizerFile) -> Encoder:
    """Return the library's fastest way to encode texts on one thread; it returns the number of tokens."""
    if file.fast:
        import gigatoken

        content = json.loads(
            TokenizerFile(file.tokenizer_type, file.vocab_file, file.eod_token).load().tokenizer_json()
        )
        encode = gigatoken.Tokenizer.from_json(json.dumps({**content, "added_tokens": []})).encode
        return lambda texts: sum(len(encode(text)) for text in texts)
    if file.tokenizer_type == "SPMTokenizer":
        import sentencepiece

        processor = sentencepiece.SentencePieceProcessor(model_file=str(file.vocab_file))
        return lambda texts: sum(map(len, processor.encode(texts, out_type="numpy", num_threads=1)))
    import tokenizers

    library = tokenizers.Tokenizer.from_file(str(file.vocab_file))
    library.encode_special_tokens = True
    return lambda texts: sum(len(library.encode_batch_fast([text], add_special_tokens=False)[0].ids) for text in texts)


def encode_held(connection: Connection, file: TokenizerFile, paths: Sequence[Path]) -> None:
    """Hold texts in memory; load the library, and encode them, as often as the parent says so."""
    texts = [text for path in paths for text in texts_of(path)]
    batches = [texts[start : start + BATCH_DOCUMENTS] for start in range(0, len(texts), BATCH_DOCUMENTS)]
    with suppress(EOFError):  # the parent has ended
        while True:
            connection.recv()
            encode = bare_encoder(file)
            encode(["start"])
            connection.send(None)
            connection.recv()
            connection.send(sum(map(encode, batches)))


class Limit:
    """Two processes that hold half of the texts each."""

    def __init__(self, file: TokenizerFile, paths: Sequence[Path]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connections = []
        for number in range(PROCESSES):
            ours, theirs = context.Pipe()
            context.Process(target=encode_held, args=(theirs, file, paths[number::PROCESSES]), daemon=True).start()
            self.connections.append(ours)

    def prepare(self) -> None:
        """Load the library anew in both processes."""
        self._ask()

    def run(self) -> int:
        """Encode everything; return the number of tokens."""
        return sum(self._ask())

    def _ask(self) -> list[Any]:
        for connection in self.connections:
            connection.send(True)
        return [connection.recv() for connection in self.connections]


# ---- the plain loop --------------------------------------------------------------------------------------------------


class LineEncoder:
    """What the workers of the plain loop do; each loads the tokenizer once."""

    tokenizer: Tokenizer

    def __init__(self, file: TokenizerFile) -> None:
        self.file = file

    def start(self) -> None:
        """Load the tokenizer into the class, as ``preprocess_data.py`` does."""
        LineEncoder.tokenizer = self.file.load()

    def encode(self, line: bytes) -> list[int]:
        """Encode one line of JSON."""
        return [*LineEncoder.tokenizer.encode(json.loads(line)["text"]), LineEncoder.tokenizer.eod_id]


def lines_of(paths: Sequence[Path]) -> Iterator[bytes]:
    """Yield the lines of all files."""
    for path in paths:
        with zstandard.open(path, "rb") as file:
            yield from file.read().splitlines()


def plain_loop(file: TokenizerFile, paths: Sequence[Path], output: Path) -> None:
    """Tokenise as Megatron's preprocess_data.py is built."""
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    builder = IndexedDatasetBuilder(str(output / "x.bin"), dtype=np.uint16)
    encoder = LineEncoder(file)
    with multiprocessing.get_context("fork").Pool(PROCESSES, initializer=encoder.start) as pool:
        for ids in pool.imap(encoder.encode, lines_of(paths), 32):
            builder.add_document(ids, [len(ids)])
    builder.finalize(str(output / "x.idx"))


# ---- datatrove -------------------------------------------------------------------------------------------------------


@contextmanager
def quiet() -> Iterator[None]:
    """Throw away what is written to standard error, by child processes too."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def datatrove_writer(tokenizer_json: Path, corpus: Path, output: Path) -> None:
    """Tokenise with datatrove's Megatron writer: a shard for each file."""
    with quiet():
        from datatrove.executor.local import LocalPipelineExecutor
        from datatrove.pipeline.readers import JsonlReader
        from datatrove.pipeline.tokens.megatron_tokenizer import MegatronDocumentTokenizer

        reader = JsonlReader(str(corpus), glob_pattern="*.jsonl.zst", compression="zstd")
        writer = MegatronDocumentTokenizer(
            str(output), tokenizer_name_or_path=str(tokenizer_json), eos_token="</s>", upload_block_size=1 << 20
        )
        logs = str(output / "logs")
        LocalPipelineExecutor([reader, writer], tasks=FILES, workers=PROCESSES, logging_dir=logs).run()


def installed(package: str) -> str:
    """Return the version of a package, or nothing where it is missing."""
    with suppress(PackageNotFoundError):
        return version(package)
    return ""


# ---- measuring -------------------------------------------------------------------------------------------------------


class Bench:
    """The sides of the comparison on the same files.

    Args:
        folder: for outputs.
        paths: the files.
    """

    def __init__(self, folder: Path, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self.corpus = folder / f"corpus-{len(paths)}" / "eng_Latn"
        self.output = folder / "output"
        self.corpus.mkdir(parents=True)
        for path in paths:
            os.link(path, self.corpus / path.name)
        texts = [text for path in paths for text in texts_of(path)]
        self.documents = len(texts)
        self.size_mb = sum(len(text.encode()) for text in texts) / 1e6

    def ours(self, file: TokenizerFile) -> Callable[[], int]:
        """Return what tokenises with this project; it returns the number of tokens."""
        options = TokeniseOptions(valid_bytes=0)
        inputs = [self.corpus.parent]
        return self._writer(
            lambda: tokenise_corpora(
                inputs, self.output, tokenizer=file, options=options, workers=PROCESSES, show_progress=False
            )
        )

    def plain(self, file: TokenizerFile) -> Callable[[], int]:
        """Return the plain loop."""
        return self._writer(lambda: plain_loop(file, self.paths, self.output))

    def datatrove(self, tokenizer_json: Path) -> Callable[[], int]:
        """Return datatrove's writer."""
        return self._writer(lambda: datatrove_writer(tokenizer_json, self.corpus, self.output))

    def _writer(self, write: Callable[[], object]) -> Callable[[], int]:
        def run() -> int:
            write()
            return sum(path.stat().st_size for path in self.output.rglob("*.bin")) // 2 - self.documents

        return run

    def seconds(self, run: Callable[[], int], prepare: Callable[[], None] | None) -> tuple[float, int]:
        """Return how long a side takes from an empty output folder, and how many tokens it makes of the texts."""
        shutil.rmtree(self.output, ignore_errors=True)
        self.output.mkdir()
        if prepare is not None:
            prepare()
        started = time.perf_counter()
        tokens = run()
        return time.perf_counter() - started, tokens


Side = tuple[Bench, Callable[[], int], Callable[[], None] | None]


def measure(sides: Mapping[str, Side], repetitions: int, *, warm_up: bool) -> dict[str, list[float]]:
    """Run all sides in turn, and return the MB/s of each."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    made: dict[int, dict[str, int]] = {}
    for repetition in range(-int(warm_up), repetitions):
        for name, (bench, run, prepare) in sides.items():
            taken, tokens = bench.seconds(run, prepare)
            made.setdefault(len(bench.paths), {})[name] = tokens
            if repetition >= 0:
                rates[name].append(bench.size_mb / taken)
    for counts in made.values():
        if len(set(counts.values())) > 1:
            raise SystemExit(f"the sides do not make the same tokens: {counts}")
    return rates


def make_sides(folder: Path, paths: Sequence[Path], model: Path) -> dict[str, Side]:
    """Return the sides whose packages are installed, by name."""
    sp = TokenizerFile("SPMTokenizer", model)
    fast = TokenizerFile("SPMTokenizer", model, fast=True)
    sp.load().save(folder / "hf", prepend_bos=False)
    hf = TokenizerFile("HFTokenizer", folder / "hf" / "tokenizer.json")
    everything, few = Bench(folder, paths), Bench(folder, paths[:FEW])
    sides: dict[str, Side] = {"sentencepiece": (everything, everything.ours(sp), None)}
    sides["tokenizers"] = (few, few.ours(hf), None)
    limits = {"sentencepiece": (everything, sp), "tokenizers": (few, hf)}
    if installed("gigatoken"):
        sides["gigatoken"] = (everything, everything.ours(fast), None)
        limits["gigatoken"] = (everything, fast)
    for name, (bench, file) in limits.items():
        limit = Limit(file, bench.paths)
        sides[f"{name} limit"] = (bench, limit.run, limit.prepare)
    if installed("megatron-core"):
        sides["sentencepiece loop"] = (everything, everything.plain(sp), None)
        sides["tokenizers loop"] = (few, few.plain(hf), None)
    if installed("datatrove"):
        sides["datatrove"] = (everything, everything.datatrove(hf.vocab_file), None)
    return sides


def print_start(folder: Path, model: Path) -> None:
    """Print how long a run takes that has a document in every file."""
    paths = [folder / f"start-{number}.jsonl.zst" for number in range(FILES)]
    for path in paths:
        path.write_bytes(zstandard.compress(orjson.dumps({"text": f"a document of {path.name}"})))
    (folder / "start").mkdir()
    for name, (bench, run, _) in make_sides(folder / "start", paths, model).items():
        if not name.endswith("limit"):
            seconds = statistics.median(bench.seconds(run, None)[0] for _ in range(3))
            print(f"start of {name}: {seconds:.2f} s, a part of its whole time")


def main() -> None:
    """Measure everything, and print the table."""
    args = parse_arguments(str(__doc__))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = make_text(folder, 16_000_000 if args.quick else 240_000_000)
        model = LLAMA2
        if not model.is_file():
            model = folder / "tokenizer.model"
            train_sentencepiece(texts_of(paths[0])[:3000], model, vocab_size=8000)
        if not args.quick:
            print_start(folder, model)
        sides = make_sides(folder, paths, model)
        rates = measure(sides, 1 if args.quick else 3, warm_up=not args.quick)
    peers = {
        "limit": "the bare library",
        "loop": f"the plain loop, megatron-core {installed('megatron-core')}",
        "datatrove": f"datatrove {installed('datatrove')}",
    }
    cases = [
        ("sentencepiece", "limit", "sentencepiece limit"),
        ("sentencepiece", "loop", "sentencepiece loop"),
        ("sentencepiece", "datatrove", "datatrove"),
        ("tokenizers", "limit", "tokenizers limit"),
        ("tokenizers", "loop", "tokenizers loop"),
        ("gigatoken", "limit", "gigatoken limit"),
        ("gigatoken", "loop", "sentencepiece loop"),
        ("gigatoken", "datatrove", "datatrove"),
    ]
    if "gigatoken" not in sides:
        print("gigatoken is NOT INSTALLED: pip install gigatoken==0.10.0")
    show(
        [
            Comparison(f"{ours} / {peer}", rates[ours], rates.get(side, []), peers[peer], "MB/s")
            for ours, peer, side in cases
            if ours in rates
        ],
        as_json=args.json,
    )


if __name__ == "__main__":
    main()
