#!/usr/bin/env python3
"""kB/s of text that the report of tokenizers measures, one process and two, beside a plain loop over the library.

The loop counts the same with the library alone (sentencepiece, tiktoken, tokenizers), a document at a time in one
process: documents, bytes, characters, words, tokens, unknown and byte tokens, documents that overflow, round trips and
distinct words that are one token. Both sides must count the same. The tokenizers are Llama 2's and Llama 3's where
``../shared`` has them, else one that is trained here; the text is that of the Universal Declaration of Human Rights
where ``../shared`` has it (279 languages), else the sample corpus, over and over with new words.

The columns of memory are the peak of all processes of the command together on a text and on one ten times as long;
``--memory`` measures only that, on 200 MB and 2 GB.
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import orjson
import psutil
from common import Comparison, alternate, parse_arguments, show

from megatron.corpus.measure.run import measure_corpora
from megatron.corpus.read import find_corpora, read_documents
from megatron.corpus.sample import build_sample_corpus
from megatron.tokenizer.load import load_tokenizer
from megatron.tokenizer.measure.measured import Measured
from megatron.tokenizer.measure.source import TokenizerSource
from megatron.tokenizer.measure.words import words_of
from megatron.tokenizer.train import train_sentencepiece

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
TOOL = Path(__file__).resolve().parents[1] / "tools" / "tokenizer_report.py"
CONTEXT = 4096
FILES = 2  # as many as processes
LETTERS = "abcdefghijklmnopqrstuvwxyz"

Codec = tuple[Callable[[str], Sequence[int]], Callable[[Sequence[int]], str], Callable[[int], bool], int]


def documents() -> list[str]:
    """Return texts in hundreds of languages."""
    if (SHARED / "udhr" / "raw").is_dir():
        files = sorted((SHARED / "udhr" / "raw").glob("*.jsonl"))
        return [orjson.loads(line)["text"] for path in files for line in path.read_bytes().splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        build_sample_corpus(Path(folder))
        paths = [path for corpus in find_corpora(Path(folder)) if corpus.label for path in corpus.paths]
        return [document.text for path in paths for document in read_documents(path)]


def write_text(folder: Path, texts: Sequence[str], size_bytes: int) -> float:
    """Write the texts over and over into files of one corpus, each with a new word; return their UTF-8 MB."""
    folder.mkdir(parents=True)
    number, total = 0, 0
    for file in range(FILES):
        written = 0
        with (folder / f"{file}.jsonl").open("wb") as output:
            while written < size_bytes // FILES:
                text = f"{texts[number % len(texts)]} {_word(number)}"
                number += 1
                output.write(orjson.dumps({"text": text}) + b"\n")
                written += len(text.encode())
        total += written
    return total / 1e6


def _word(number: int) -> str:
    letters = ""
    while number or not letters:
        number, place = divmod(number, len(LETTERS))
        letters += LETTERS[place]
    return f"{letters}q"


# ---- the peer --------------------------------------------------------------------------------------------------------


@dataclass
class Counts:
    """What both sides count."""

    documents: int = 0
    bytes: int = 0
    characters: int = 0
    words: int = 0
    tokens: int = 0
    unk_tokens: int = 0
    byte_tokens: int = 0
    overflowing: int = 0
    failures: int = 0


def library_codec(path: Path) -> Codec:
    """Return a library's encode, decode, test for pieces of characters, and unknown id."""
    if path.name == "tokenizer.json":
        import tokenizers

        library = tokenizers.Tokenizer.from_file(str(path))
        library.encode_special_tokens = True
        pieces = {number for piece, number in library.get_vocab().items() if piece.startswith("<0x")}
        unk = library.token_to_id("<unk>")
        return lambda text: library.encode(text, add_special_tokens=False).ids, library.decode, pieces.__contains__, unk
    tokenizer = TokenizerSource("peer", path).load()
    if tokenizer.kind == "TiktokenTokenizer":
        encoding = tokenizer._encoding  # type: ignore[attr-defined]  # the library's own object
        broken = {number for number in range(encoding.n_vocab - 256) if _is_broken(encoding.decode_bytes([number]))}
        return encoding.encode_ordinary, encoding.decode, broken.__contains__, -1
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return processor.encode, processor.decode, processor.is_byte, processor.unk_id()


def _is_broken(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False


def plain_loop(folder: Path, codec: Codec) -> Counts:
    """Count as one writes it down the first time."""
    encode, decode, is_byte, unk_id = codec
    counts, distinct = Counts(), set()
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as lines:
            for line in lines:
                text = orjson.loads(line)["text"]
                ids = list(encode(text))
                words = words_of(text)
                counts.documents += 1
                counts.bytes += len(text.encode())
                counts.characters += len(text)
                counts.words += len(words)
                counts.tokens += len(ids)
                counts.unk_tokens += sum(token == unk_id for token in ids)
                counts.byte_tokens += sum(map(is_byte, ids))
                counts.overflowing += len(ids) > CONTEXT
                counts.failures += decode(ids) != text
                distinct.update(words)
    sum(len(encode(word)) == 1 or len(encode(f" {word}")) == 1 for word in distinct)
    return counts


def counts_of(measured: Measured) -> Counts:
    """Return ours in the same form."""
    counts = measured.languages[0].counts
    text, tokens = counts.text, counts.tokens[0]
    return Counts(
        text.documents, text.bytes, text.characters, text.words, tokens.tokens, tokens.unk_tokens, tokens.byte_tokens,
        tokens.overflowing, tokens.failures,
    )  # fmt: skip


# ---- memory ----------------------------------------------------------------------------------------------------------


def peak_mib(corpus: Path, tokenizers: Sequence[TokenizerSource], output: Path) -> float:
    """Run the command on two processes, and return the most memory that all of its processes held together."""
    names = [part for each in tokenizers for part in ("--tokenizer", f"{each.name}={each.path}")]
    command = [sys.executable, str(TOOL), *names, "--input", str(corpus), "--output", str(output), "--workers", "2"]
    most = 0
    with subprocess.Popen([*command, "--no-progress"], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most = max(most, sum(_resident(each) for each in _tree(process.pid)))
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"the command failed with status {process.returncode}")
    return most / (1 << 20)


def _tree(number: int) -> Iterator[psutil.Process]:
    try:
        process = psutil.Process(number)
        yield process
        yield from process.children(recursive=True)
    except psutil.NoSuchProcess:
        return


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def memory(
    folder: Path, texts: Sequence[str], tokenizers: Sequence[TokenizerSource], size_bytes: int
) -> dict[str, float | None]:
    """Return the peaks on a text and on one ten times as long, by the name of their column."""
    peaks: dict[str, float | None] = {}
    for size in (size_bytes, 10 * size_bytes):
        corpus = folder / f"memory-{size}" / "und_Latn"
        write_text(corpus, texts, size)
        started = time.perf_counter()
        peaks[f"MiB at {size / 1e6:,.0f} MB"] = peak_mib(corpus.parent, tokenizers, folder / "report")
        print(f"{size / 1e6:,.0f} MB took {time.perf_counter() - started:,.0f} s", file=sys.stderr)
        for path in corpus.iterdir():
            path.unlink()
    return peaks


# ---- the comparison --------------------------------------------------------------------------------------------------


def sources(folder: Path, texts: Sequence[str]) -> dict[str, tuple[TokenizerSource, str]]:
    """Return the tokenizers by what they are, each with its library."""
    found = {
        "Llama 2": (TokenizerSource("llama2", SHARED / "tokenizers" / "llama2" / "tokenizer.model"), "sentencepiece"),
        "Llama 3": (TokenizerSource("llama3", SHARED / "tokenizers" / "llama3" / "tokenizer.model"), "tiktoken"),
    }
    found = {name: each for name, each in found.items() if each[0].path.is_file()}
    if not found:
        train_sentencepiece(list(texts[:3000]), folder / "tokenizer.model", vocab_size=8000)
        found["trained"] = (TokenizerSource("trained", folder / "tokenizer.model"), "sentencepiece")
    name, (source, library) = next(iter(found.items()))
    if library == "sentencepiece":
        load_tokenizer("SPMTokenizer", source.path).save(folder / "hf", prepend_bos=False)
        found[f"{name}'s json"] = (TokenizerSource("json", folder / "hf" / "tokenizer.json"), "tokenizers")
    return found


def compare(folder: Path, texts: Sequence[str], size_bytes: int, repetitions: int) -> list[Comparison]:
    """Measure every tokenizer on one process and on two, in turn with the loop."""
    corpus = folder / "corpus" / "und_Latn"
    size_mb = write_text(corpus, texts, size_bytes)
    lines = []
    for name, (source, library) in sources(folder, texts).items():
        codec = library_codec(source.path)
        found: dict[str, Counts] = {}

        def ours(workers: int, _: int, source: TokenizerSource = source, found: dict[str, Counts] = found) -> None:
            measured = measure_corpora(
                [source], inputs=[corpus.parent], work=folder / "work", workers=workers, show_progress=False
            )
            found["ours"] = counts_of(measured)

        def peer(_: int, codec: Codec = codec, found: dict[str, Counts] = found) -> None:
            found["peer"] = plain_loop(corpus, codec)

        for workers in (1, 2):
            rates = alternate(
                functools.partial(ours, workers), peer, repetitions=repetitions, amount=1000 * size_mb
            )  # fmt: skip
            if found["ours"] != found["peer"]:
                raise SystemExit(f"{name}: the sides do not count the same: {found}")
            processes = "1 process" if workers == 1 else f"{workers} processes"
            peer_name = f"a plain loop over {library} {version(library)}"
            lines.append(Comparison(f"{name}, {processes}", *rates, peer_name, "kB/s"))
    return lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this benchmark takes."""
    parser.add_argument("--memory", action="store_true", help="measure only memory, on 200 MB and 2 GB: half an hour")


def main() -> None:
    """Measure, and print the table."""
    args = parse_arguments(str(__doc__), add_arguments)
    texts = documents()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if args.memory:
            both = [source for source, library in sources(folder, texts).values() if library != "tokenizers"]
            peaks = memory(folder, texts, both, 2_000_000 if args.quick else 200_000_000)
            print("  ".join(f"{name}: {peak:,.0f}" for name, peak in peaks.items() if peak is not None))
            return
        lines = compare(folder, texts, 3_000_000 if args.quick else 24_000_000, 1 if args.quick else 3)
        both = [source for source, library in sources(folder, texts).values() if library != "tokenizers"]
        more = memory(folder, texts, both, 500_000 if args.quick else 8_000_000)
        lines[0] = Comparison(**{**vars(lines[0]), "more": more})
        show(lines, as_json=args.json)


if __name__ == "__main__":
    main()
