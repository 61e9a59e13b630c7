"""Damaged shards, sidecars and manifests: always a clear error, never a crash, and ``verify`` finds every one."""

from __future__ import annotations

import collections
import json
import os
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from megatron.data.indexed import FileCache, ShardError, ShardReader, ShardWriter, bin_path, content_hash, idx_path
from megatron.data.inspection.merge import merge
from megatron.data.inspection.verify import verify
from megatron.data.manifest import (
    Manifest,
    ManifestError,
    ShardInfo,
    Sidecar,
    TokenizerInfo,
    load_manifest,
    load_sidecar,
    save_manifest,
    save_sidecar,
)
from megatron.data.parts import Parts

VOCABULARY, EOD, BOS = 300, 2, 1
TOKENIZER = TokenizerInfo("SPMTokenizer", "ab12", VOCABULARY, EOD, BOS, prepend_bos=True)
Files = dict[str, bytes]
Change = Callable[[np.random.Generator, Files, str], None]


def write(folder: Path, name: str, split: str, documents: int, *, dtype: str) -> ShardInfo:
    random = np.random.default_rng([documents, *name.encode(), *split.encode()])
    prefix = folder / f"{name}{'' if split == 'train' else '_valid'}_text_document"
    with ShardWriter(prefix, dtype=dtype) as writer:
        for _ in range(documents):
            text = random.integers(3, VOCABULARY, size=int(random.integers(0, 12)))
            writer.add_document(np.concatenate([[BOS], text, [EOD]]))
    if name in ("fra_Latn", "deu_Latn"):
        as_others_write(prefix, degenerate=name == "deu_Latn")
    language, script = name.split("_")
    return ShardInfo(
        name=name, path=prefix.name, split=split, source="monolingual", language=language, script=script,
        documents=documents, words=documents * 3, tokens=writer.num_tokens, bytes=writer.num_tokens * 4, unk_tokens=1,
        dtype=dtype, content_hash=content_hash(prefix),
    )  # fmt: skip


def as_others_write(prefix: Path, *, degenerate: bool) -> None:
    """Rewrite an index as GPT-NeoX's merge does (no document index), or with two sequences in every document."""
    lengths = ShardReader(prefix).document_lengths
    starts = 2 * (np.cumsum(lengths) - lengths)
    if degenerate:
        sequences, pointers, documents = lengths, starts, [0]
    else:
        sequences = np.stack([np.ones_like(lengths), lengths - 1], axis=1).ravel()
        pointers = np.stack([starts, starts + 2], axis=1).ravel()
        documents = list(range(0, len(sequences) + 1, 2))
    header = struct.pack("<9sQBQQ", b"MMIDIDX", 1, 8, len(sequences), len(documents))
    arrays = (sequences.astype("<i4"), pointers.astype("<i8"), np.array(documents, dtype="<i8"))
    idx_path(prefix).write_bytes(header + b"".join(array.tobytes() for array in arrays))


def write_corpora(folder: Path, sizes: dict[str, int], *, dtype: str) -> None:
    shards = []
    for name, documents in sizes.items():
        for split, count, held_out in (("train", documents, 2), ("valid", 2, 2)):
            shard = write(folder, name, split, count, dtype=dtype)
            save_sidecar(Sidecar(shard, TOKENIZER, f"made from {name}", held_out, 1), folder / shard.path)
            shards.append(shard)
    save_manifest(Manifest(TOKENIZER, tuple(shards)), folder / "manifest.json")


class Corpora:
    """Two manifests, one with a file per shard and one with containers, that can be damaged and mended again."""

    def __init__(self, folder: Path) -> None:
        write_corpora(folder / "single", {"eng_Latn": 9, "fra_Latn": 5, "deu_Latn": 6}, dtype="uint16")
        write_corpora(folder / "source", {"amh_Ethi": 4, "fin_Latn": 1, "zul_Latn": 7}, dtype="int32")
        merge([folder / "source"], folder / "merged", show_progress=False)
        self.manifests = [folder / "single", folder / "merged"]
        self.folder = folder
        self.files = {str(path): path.read_bytes() for root in self.manifests for path in root.iterdir()}
        self.meanings = {name: meaning(Path(name)) for name in self.files if name.endswith(".json")}

    def targets(self) -> list[str]:
        """The files to damage; an empty index or token file is as likely as a long manifest."""
        return sorted(self.files)

    def set(self, files: Files) -> list[str]:
        """Write what differs from the sound files and return the names."""
        changed = [name for name in self.files if files[name] != self.files[name]]
        for name in changed:
            Path(name).write_bytes(files[name])
        return changed

    def mend(self, names: list[str]) -> None:
        for name in names:
            Path(name).write_bytes(self.files[name])


def place(random: np.random.Generator, data: bytes | bytearray) -> int:
    return int(random.integers(0, max(1, len(data))))


def flip(random: np.random.Generator, files: Files, name: str) -> None:
    data = bytearray(files[name])
    for _ in range(int(random.integers(1, 4))):
        data[place(random, data)] ^= 1 << int(random.integers(8))
    files[name] = bytes(data)


def truncate(random: np.random.Generator, files: Files, name: str) -> None:
    files[name] = files[name][: place(random, files[name])]


def extend(random: np.random.Generator, files: Files, name: str) -> None:
    size = int(random.choice([1, 2, 4, 8, 16, 64, 1000]))
    files[name] += random.bytes(size) if random.random() < 0.5 else bytes(size)


def run_of(value: int) -> Change:
    def change(random: np.random.Generator, files: Files, name: str) -> None:
        start, size = place(random, files[name]), int(random.integers(1, 40))
        stop = min(start + size, len(files[name]))
        files[name] = files[name][:start] + bytes([value]) * (stop - start) + files[name][stop:]

    return change


def splice(random: np.random.Generator, files: Files, name: str) -> None:
    other = files[str(random.choice(sorted(files)))]
    start, size = place(random, other), int(random.integers(1, 60))
    at = place(random, files[name])
    part = other[start : start + size]
    files[name] = files[name][:at] + part + files[name][at + (len(part) if random.random() < 0.7 else 0) :]


def remove(random: np.random.Generator, files: Files, name: str) -> None:
    start = place(random, files[name])
    files[name] = files[name][:start] + files[name][start + int(random.choice([1, 2, 4, 8, 20])) :]


def number(random: np.random.Generator, files: Files, name: str) -> None:
    """Put a number of interest where a number may stand: a header count, an offset, a length, an id."""
    values = (0, 1, -1, 2, 7, 2**31 - 1, 2**31, 2**62, 2**63 - 1, -(2**63), 2**61 // 12, 300, 65535)
    kind = str(random.choice(["<q", "<i", "<h", "<Q"]))
    data, value = bytearray(files[name]), int(random.choice(np.array(values, dtype=object)))
    size = struct.calcsize(kind)
    header = [9, 17, 18, 26, 34, 38, 42]
    at = int(random.choice(header)) if random.random() < 0.5 else place(random, data)
    if at + size <= len(data):
        data[at : at + size] = (value % (1 << (8 * size))).to_bytes(size, "little")
    files[name] = bytes(data)


def digits(random: np.random.Generator, files: Files, name: str) -> None:
    """Replace a number or a text of a JSON file by another value."""
    values = (
        b"0", b"1", b"-1", b"1.5", b"99999999999999999999999", b"1e400", b"NaN", b"null", b"true", b"{}", b"[[[[]]]]",
        b"[" * 200_000, b'""', b'"x"', b'"/x"', b'"../x"', b'"\\u0000"', b'"\\ud800"', b'"' + b"a" * 5000 + b'"',
    )  # fmt: skip
    if not name.endswith(".json"):
        return number(random, files, name)
    places = [at for at in range(len(files[name])) if files[name][at : at + 2] == b": "]
    at = int(random.choice(places)) + 2
    end = at
    while files[name][end : end + 1] not in (b",", b"\n", b""):
        end += 1
    files[name] = files[name][:at] + values[int(random.integers(len(values)))] + files[name][end:]
    return None


def swap(random: np.random.Generator, files: Files, name: str) -> None:
    alike = [other for other in sorted(files) if Path(other).suffix == Path(name).suffix]
    other = str(random.choice(alike))
    files[name], files[other] = files[other], files[name]


CHANGES: tuple[Change, ...] = (
    flip, flip, truncate, extend, run_of(0), run_of(255), splice, remove, number, number, digits, swap,
)  # fmt: skip


def use(manifest_path: Path, random: np.random.Generator) -> bool:
    """Do all that readers do; return whether every file could be opened. Only the two errors may come out."""
    opened = True
    try:
        manifest = load_manifest(manifest_path)
    except ManifestError:
        manifest, opened = None, False
    for path in sorted(manifest_path.glob("*_document.json")):
        try:
            load_sidecar(path)
        except ManifestError:
            opened = False
    for path in sorted(manifest_path.glob("*.idx")):
        try:
            reader = ShardReader(path.with_suffix(""))
        except ShardError:
            opened = False
            continue
        use_reader(reader, random)
    if manifest is not None:
        files = FileCache()
        parts = Parts(manifest.root, files=files)
        for shard in manifest.shards:
            try:
                part = parts.open(shard)
            except ShardError:
                opened = False
                continue
            only_shard_errors(partial(part.tokens, 0, part.num_tokens))
            only_shard_errors(partial(part.read_into, part.num_tokens // 2, np.empty(17, dtype=np.int64)))
            use_documents(part, random)
        files.close()
    return opened


def use_reader(reader: ShardReader, random: np.random.Generator) -> None:
    for call in (
        lambda: reader.tokens(0, reader.num_tokens),
        lambda: reader.tokens(reader.num_tokens // 3, reader.num_tokens // 2),
        lambda: reader.document_lengths,
        reader.verify,
    ):
        only_shard_errors(call)
    use_documents(reader, random)


def use_documents(reader: Any, random: np.random.Generator) -> None:
    for _ in range(4):
        token, document = int(random.integers(-1, 80)), int(random.integers(-1, 20))
        only_shard_errors(partial(reader.document_span, document))
        only_shard_errors(partial(reader.document, document))
        found = only_shard_errors(partial(reader.document_at, token))
        span = None if found is None else only_shard_errors(partial(reader.document_span, found))
        assert span is None or span[0] <= token < span[1]


def only_shard_errors(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ShardError:
        return None


def meaning(path: Path) -> object:
    """Return what a JSON file says: another layout, or an empty code (which is then made anew), says the same."""
    try:
        if path.name == "manifest.json":
            return load_manifest(path)
        return load_sidecar(path) if path.name.endswith("_document.json") else json.loads(path.read_bytes())
    except ValueError:
        return None


def fuzz(corpora: Corpora, *, count: int, seed: int) -> collections.Counter[str]:
    """Damage files ``count`` times; return how the damage was found."""
    random = np.random.default_rng(seed)
    found: collections.Counter[str] = collections.Counter()
    targets = corpora.targets()
    while sum(found.values()) < count:
        files = dict(corpora.files)
        name = targets[int(random.integers(len(targets)))]
        change = CHANGES[int(random.integers(len(CHANGES)))]
        change(random, files, name)
        changed = corpora.set(files)
        if not changed:
            continue
        kind = "tokens and indices" if any(Path(each).suffix != ".json" for each in changed) else "JSON files"
        root = Path(name).parent
        # A swap may reach into the other folder.
        roots = sorted({Path(each).parent for each in changed} | {root})
        opened = [use(each, random) for each in roots]
        problems = [line for verdict in verify(roots, show_progress=False) for line in verdict.problems]
        by_structure = [line for line in problems if "content hash" not in line and "content_hash" not in line]
        if not all(opened):
            assert problems, f"{change} of {name}: refused at opening, but verify finds nothing"
            how = "at opening"
        elif by_structure:
            how = "by structure"
        elif problems:
            how = "by hash"
        elif kind == "JSON files" and all(meaning(Path(each)) == corpora.meanings[each] for each in changed):
            how = "same meaning"
        else:
            how = "missed"
            sys.stdout.write(f"missed: {change} of {name}\n")
        found[f"{kind}: {how}"] += 1
        corpora.mend(changed)
    assert not [line for verdict in verify(corpora.manifests, show_progress=False) for line in verdict.problems]
    return found


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Corpora:
    return Corpora(tmp_path_factory.mktemp("fuzz"))


def table(found: collections.Counter[str]) -> str:
    return "\n".join([f"{count:>7,}  {how}" for how, count in sorted(found.items())] + [f"{found.total():>7,}  tried"])


def test_damage_is_found_and_never_crashes(corpora: Corpora) -> None:
    found = fuzz(corpora, count=300, seed=0)
    sys.stdout.write(f"{table(found)}\n")
    assert not [how for how in found if how.endswith("missed")], table(found)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_damage_is_found_and_never_crashes_at_length(corpora: Corpora) -> None:
    found = fuzz(corpora, count=12_000, seed=1)
    sys.stdout.write(f"{table(found)}\n")
    assert not [how for how in found if how.endswith("missed")], table(found)


def test_damage_takes_no_memory(corpora: Corpora) -> None:
    fuzz(corpora, count=5, seed=2)  # what is imported and cached at first does not count
    tracemalloc.start()
    try:
        fuzz(corpora, count=40, seed=3)
        # The block sizes bound it. What a damaged header asks for would be 2^60 bytes.
        assert tracemalloc.get_traced_memory()[1] < 16e6
    finally:
        tracemalloc.stop()


def shrink_and_use(folder: Path, seconds: float) -> int:
    """Use opened readers while their files become shorter and longer; return how many errors came out."""
    readers = [
        ShardReader(path.with_suffix(""), files=files)
        for path in sorted(folder.glob("*.idx"))
        for files in (None, FileCache())
    ]
    paths = [path for reader in readers for path in (idx_path(reader.prefix), bin_path(reader.prefix))]
    sound = {path: path.read_bytes() for path in paths}
    random, stop = np.random.default_rng(0), threading.Event()

    def shrink() -> None:
        while not stop.is_set():
            for path, data in sound.items():
                os.truncate(path, int(random.integers(len(data))))
            time.sleep(0.001)
            for path, data in sound.items():
                path.write_bytes(data)

    thread = threading.Thread(target=shrink)
    thread.start()
    errors, ends, own = 0, time.monotonic() + seconds, np.random.default_rng(1)
    while time.monotonic() < ends:
        for reader in readers:
            try:
                reader.tokens(0, reader.num_tokens)
                reader.document(int(own.integers(len(reader))))
                reader.document_at(int(own.integers(reader.num_tokens)))
                assert len(reader.document_lengths) == len(reader)
                ShardReader(reader.prefix).verify()
            except ShardError:
                errors += 1
    stop.set()
    thread.join()
    return errors


def test_files_that_shrink_while_they_are_read_kill_nobody(corpora: Corpora) -> None:
    # In a process of its own: a mapped file that shrinks ends the process with SIGBUS, and no test could tell.
    code = (
        f"import runpy; from pathlib import Path; names = runpy.run_path({str(Path(__file__))!r}); "
        f"print(names['shrink_and_use'](Path({str(corpora.manifests[0])!r}), 0.5))"
    )
    root = Path(__file__).resolve().parents[4]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    corpora.mend(list(corpora.files))
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert int(done.stdout) > 10, "the files were never caught short"
