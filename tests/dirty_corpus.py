#!/usr/bin/env python3
"""A dirtied copy of a corpus with a list of what was planted, and how much of that the corpus pipeline finds.

``python tests/dirty_corpus.py --input <folder> --output <folder> [--seed 0]`` writes ``main/main.jsonl``,
``second/second.jsonl`` (a second source of the same languages) and ``truth.json`` into the output folder, runs the
pipeline up to stage ``split`` and prints one line for each kind of fault. Documents carry their file and line through
all passes, and all examples of what a rule did are kept, so every planted record is looked up by itself.
"""

from __future__ import annotations

import argparse
import html
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import ftfy.bad_codecs  # noqa: F401  (registers sloppy-windows-1252)
import orjson
import yaml

from megatron.config.corpus_load import load_corpus
from megatron.config.corpus_schema import CleanConfig
from megatron.corpus.cleaning.cleaner import Cleaner
from megatron.corpus.engine.backend import Here
from megatron.corpus.engine.run import Runner
from megatron.corpus.languages import to_iso639_3
from megatron.corpus.pipeline import Pipeline
from megatron.corpus.read import read_documents
from megatron.corpus.reading.compressed import zstd_chunks
from megatron.languages.script import main_script
from megatron.languages.tables import known_scripts

MAX_DOCUMENT_BYTES = 200_000
_DOCUMENT_BYTES = 1000
_ALL_EXAMPLES = 1 << 40
CLEAN = "clean"

DUPLICATES = ("dedup/exact_duplicate", "dedup/near_duplicate")
_SCRIPT = ("script/foreign_script", "script/other_script", "languages/script_corrected", "filters/script")
#: The rules that should find each kind; kinds that are not here are judged by their label or by what was read.
RULES: Mapping[str, tuple[str, ...]] = {
    "exact, same bytes": DUPLICATES[:1],
    "exact, other case": DUPLICATES,  # ß has no capital of its own: such texts are only nearly equal
    "exact, other white space": DUPLICATES[:1],
    "near, 2 % of words": DUPLICATES,
    "near, 2 % of words, other source": DUPLICATES,
    "near, 0.5 % of characters": DUPLICATES,
    "near, 2 % of characters": DUPLICATES,
    "html": ("clean/html",),
    "mojibake, latin-1": ("clean/mojibake",),
    "mojibake, cp1252": ("clean/mojibake",),
    "control characters, BOM": ("clean/control",),
    "repeated lines": ("clean/repeated_lines",),
    "boilerplate lines": ("clean/boilerplate",),
    "wrong label": _SCRIPT,
    "wrong label, script is possible": _SCRIPT,
    "mixed scripts": ("languages/mixed_script", *_SCRIPT),
}
#: Kinds that should not be read, or not come out of cleaning.
GONE = ("blank", "giant", "not JSON", "truncated", "not UTF-8", "no text field", "text is no string", "not an object",
        "lone surrogate")  # fmt: skip
#: Codes that are withdrawn or in an odd form, the language each means, and the script of the text to give it to.
ODD_CODES = (
    ("iw", "heb", "Hebr"), ("in", "ind", "Latn"), ("ji", "yid", "Hebr"), ("jw", "jav", "Latn"), ("mo", "ron", "Latn"),
    ("zh-min-nan", "nan", "Hani"), ("sr-Latn", "srp", "Latn"), ("SWA", "swa", "Latn"), ("pt_BR", "por", "Latn"),
    ("German", "deu", "Latn"), ("Hindi", "hin", "Deva"), ("Russian", "rus", "Cyrl"), ("ger", "deu", "Latn"),
    ("ar-EG", "ara", "Arab"), ("i-hak", "hak", "Hani"), ("deu_Latn", "deu", "Latn"),
)  # fmt: skip
NONSENSE = ("xx-nonsense", "zzzz", "q1", "unknown", "???", "not a language")
_BOILERPLATE = (
    "© 2019 Example Ltd. All rights reserved.", "Home > News > Sport > Football", "Share on Facebook",
    "https://www.example.org/index.html", "This site uses cookies. Accept cookies", "Home | About | Contact | Login",
    "=====================",
)  # fmt: skip


@dataclass(frozen=True)
class Base:
    """A clean document."""

    text: str
    code: str | None
    script: str


@dataclass(frozen=True)
class Planted:
    """What was planted at one place.

    Attributes:
        id: ``<file>:<line>``.
        kind: the kind of fault, or :data:`CLEAN`.
        code: the language code of the document before.
        detail: what exactly.
        expected: the text that cleaning should give; None where it does not matter.
        language: the ISO 639-3 code that it should get; None where it does not matter.
    """

    id: str
    kind: str
    code: str | None
    detail: str = ""
    expected: str | None = None
    language: str | None = None


@dataclass
class Outcome:
    """What became of each document: its corpus, its cleaned text, whether it came out, and the rules that hit it."""

    corpus: dict[str, str] = field(default_factory=dict)
    cleaned: dict[str, str] = field(default_factory=dict)
    out: set[str] = field(default_factory=set)
    hits: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    kind: str
    planted: int
    found: int
    false_hits: int
    exact: int | None
    missed: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def recall(self) -> float:
        """Share of the planted faults that were found."""
        return self.found / self.planted if self.planted else 1.0

    @property
    def precision(self) -> float:
        """Share of what the rules hit, among these faults and the clean documents, that was planted."""
        return self.found / (self.found + self.false_hits) if self.found + self.false_hits else 1.0

    @property
    def restored(self) -> float | None:
        """Share of the planted faults whose text came out as it was before."""
        return None if self.exact is None else self.exact / self.planted


# ---- clean documents -------------------------------------------------------------------------------------------------


def load_bases(folder: Path, *, most: int = 1 << 20) -> list[list[Base]]:
    """Join successive texts of each file to documents of about 1 kB; of files with one code only the first is used.

    Args:
        folder: JSON lines files, at any depth; pairs and code are left out.
        most: documents of each language at most.
    """
    languages: dict[str, list[Base]] = {}
    for path in sorted([*folder.rglob("*.jsonl"), *folder.rglob("*.jsonl.zst")]):
        documents, lines, code = [], [], None
        for document in read_documents(path):
            code = document.original_code
            lines.append(document.text)
            if sum(len(line.encode()) for line in lines) >= _DOCUMENT_BYTES:
                text = "\n".join(lines)
                documents.append(Base(text, code, main_script(text)))
                lines = []
            if len(documents) >= most:
                break
        if code is not None and code not in languages and len(documents) > 1:
            languages[code] = documents
    return list(languages.values())


# ---- faults ----------------------------------------------------------------------------------------------------------


def _changed(text: str, share: float, rng: Random, *, words: bool) -> str:
    """Replace a share of the words, or of the letters, by others of the same text."""
    spaced = text.count(" ") > len(text) / 30
    units = text.split(" ") if words and spaced else list(text)
    places = [i for i, unit in enumerate(units) if any(map(str.isalpha, unit))]
    others = [units[i] for i in places]
    for place in rng.sample(places, max(1, round(share * len(places)))):
        units[place] = rng.choice([other for other in rng.sample(others, 8) if other != units[place]] or ["x"])
    return (" " if words and spaced else "").join(units)


def _spaced(text: str) -> str:
    return "\n\n\n" + text.replace(" ", "  ").replace("\n", " \r\n\r\n") + "\t"


def _html(text: str, rng: Random) -> str:
    words = html.escape(text).split(" ")
    place = rng.randrange(len(words))
    words[place] = "".join(f"&#{ord(c)};" for c in words[place]) if "&" not in words[place] else words[place]
    place = rng.randrange(len(words))
    if "\n" not in words[place]:
        words[place] = f'<a href="/x?a=1&amp;b=2"><b>{words[place]}</b></a>'
    body = " ".join(words).replace("\n", "<br/>")
    script = '<script type="text/javascript">if (a < b) { document.write("<p>x</p>"); }</script>'
    style = "<style>p { color: red }</style><!-- a comment -->"
    return f'<!DOCTYPE html><html><body>{script}{style}<div class="text"><p>{body}</p></div></body></html>'


def _controls(text: str, rng: Random) -> str:
    characters = list(text)
    for _ in range(8):
        characters.insert(rng.randrange(len(characters)), rng.choice("\x00\x01\x08\x0e\x1f\x7f\ufeff\u202a\u202c\xad"))
    return "\ufeff" + "".join(characters)


def _with_lines(text: str, lines: Sequence[str], rng: Random) -> str:
    kept = text.split("\n")
    for line in lines:
        kept.insert(rng.randrange(len(kept) + 1), line)
    return "\n".join(kept)


def _repeat(text: str) -> tuple[str, str]:
    longest = max(text.split("\n"), key=len)[:60].strip()
    return text + f"\n{longest}" * 9, text + f"\n{longest}" * 3


def _half(text: str, other: str) -> str:
    return text[: len(text) // 2] + "\n" + other[: len(text) // 2]


class Dirt:
    """Plants faults, each document with one; collects the lines of the two files and what is in them."""

    def __init__(self, languages: Sequence[Sequence[Base]], seed: int) -> None:
        self.languages, self.rng = languages, Random(seed)
        self.by_script: defaultdict[str, list[Base]] = defaultdict(list)
        for documents in languages:
            self.by_script[documents[0].script] += documents
        self._cleaner = Cleaner(CleanConfig(), source="monolingual")
        self._files: dict[str, list[tuple[bytes, Planted]]] = {"main.jsonl": [], "second.jsonl": []}
        self._last: list[tuple[bytes, Planted]] = []

    def plant(self) -> None:
        """Plant everything: of each language half of the documents stay clean, and copies of these come at the end."""
        faults = self._faults()
        number = 0
        for documents in self.languages:
            order = list(documents)
            self.rng.shuffle(order)
            half = (len(order) + 1) // 2
            for place, base in enumerate(order[:half]):
                self._add(base, CLEAN, base.text)
                self._copy(base, place)
            for base in order[half:]:
                for _ in faults:  # the next fault that this text can have
                    number += 1
                    if faults[number % len(faults)](base):
                        break
        self._odd_codes()
        for place in range(3 * len(GONE)):
            base = self.rng.choice(self.rng.choice(self.languages))
            self._gone(base, GONE[place % len(GONE)], place)

    def write(self, folder: Path) -> list[Planted]:
        """Write the files, and return what is in them."""
        truth = []
        for name, lines in self._files.items():
            self.rng.shuffle(lines)
            lines += self._last if name == "main.jsonl" else []
            path = folder / Path(name).stem / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"".join(line + b"\n" for line, _ in lines))
            truth += [
                Planted(**{**asdict(planted), "id": f"{name}:{number}"})
                for number, (_, planted) in enumerate(lines, start=1)
            ]
        text = json.dumps([asdict(planted) for planted in truth], ensure_ascii=False, indent=0)
        (folder / "truth.json").write_text(text)
        return truth

    def _add(self, base: Base, kind: str, text: str, *, code: str | None = None, detail: str = "",
             expected: str | None = None, language: str | None = None, file: str = "main.jsonl",
             last: bool = False, raw: bytes | None = None) -> bool:  # fmt: skip
        record = {"text": text, "original_code": code or base.code}
        line = json.dumps(record, ensure_ascii=False).encode() if raw is None else raw
        planted = Planted("", kind, base.code, detail, expected, language)
        (self._last if last else self._files[file]).append((line, planted))
        return True

    def _copy(self, base: Base, place: int) -> None:
        text, rng = base.text, self.rng
        copies: tuple[tuple[str, Callable[[], str]], ...] = (
            ("exact, same bytes", lambda: text),
            ("near, 2 % of words", lambda: _changed(text, 0.02, rng, words=True)),
            ("exact, other white space", lambda: _spaced(text)),
            ("near, 2 % of words, other source", lambda: _changed(text, 0.02, rng, words=True)),
            ("exact, other case", text.swapcase),
            ("near, 0.5 % of characters", lambda: _changed(text, 0.005, rng, words=False)),
            ("near, 2 % of characters", lambda: _changed(text, 0.02, rng, words=False)),
        )
        turn = int(rng.random() * 2) if len(self.languages) > 30 else 0
        kind, make = copies[(place + 3 * turn) % len(copies)]
        source = "other source" in kind
        self._add(base, kind, make(), file="second.jsonl" if source else "main.jsonl", last=not source)

    def _faults(self) -> list[Callable[[Base], bool]]:
        rng = self.rng

        def repaired(kind: str, base: Base, text: str, expected: str | None = None) -> bool:
            right = self._cleaner.clean(base.text if expected is None else expected).text
            return self._add(base, kind, text, expected=right, detail=base.script)

        def mojibake(base: Base, kind: str, encoding: str) -> bool:
            if sum(character > "\x7f" for character in base.text) < 10:
                return False
            return repaired(kind, base, base.text.encode().decode(encoding))

        def other(base: Base) -> Base:
            script = rng.choice([script for script in sorted(self.by_script) if script != base.script])
            return rng.choice(self.by_script[script])

        def wrong(base: Base) -> bool:
            code = other(base).code or ""
            scripts = known_scripts(to_iso639_3(code))
            kind = "wrong label" if scripts and base.script not in scripts else "wrong label, script is possible"
            return self._add(base, kind, base.text, code=code, detail=f"{base.code} as {code}")

        def mixed(base: Base) -> bool:
            added = other(base)
            text = _half(base.text, added.text)
            return self._add(base, "mixed scripts", text, detail=f"{base.script} {added.script}")

        def token(base: Base) -> bool:
            words = base.text.split(" ")
            words.insert(rng.randrange(len(words)), "</s>")
            return repaired("literal </s>", base, " ".join(words), " ".join(words))

        return [
            lambda base: repaired("html", base, _html(base.text, rng)),
            lambda base: mojibake(base, "mojibake, latin-1", "latin-1"),
            wrong,
            lambda base: repaired("control characters, BOM", base, _controls(base.text, rng)),
            mixed,
            lambda base: repaired("repeated lines", base, *_repeat(base.text)),
            lambda base: mojibake(base, "mojibake, cp1252", "sloppy-windows-1252"),
            lambda base: repaired("boilerplate lines", base, _with_lines(base.text, _BOILERPLATE, rng)),
            token,
        ]

    def _odd_codes(self) -> None:
        for code, language, script in ODD_CODES:
            for base in self.rng.sample(self.by_script[script], min(3, len(self.by_script[script]))):
                text = base.text[::-1]  # other text than that of the clean document
                self._add(base, "odd code", text, code=code, detail=f"{code} is {language}", language=language)
        for code in NONSENSE:
            base = self.rng.choice(self.rng.choice(self.languages))
            self._add(base, "nonsense code", base.text, code=code, detail=code, language="und")

    def _gone(self, base: Base, kind: str, place: int) -> None:
        line = json.dumps({"text": base.text, "original_code": base.code}, ensure_ascii=False).encode()
        raw: Mapping[str, bytes] = {
            "not JSON": b"{'text': 1}" if place % 2 else b"plain text",
            "truncated": line[: len(line) // 2].decode("utf-8", "ignore").encode(),
            "not UTF-8": line[:20] + b"\xff\xfe" + line[20:],
            "no text field": json.dumps({"body": base.text}).encode(),
            "text is no string": b'{"text": ["a", "list"]}',
            "not an object": b'["a", "list"]',
            "lone surrogate": rb'{"text": "one half \ud800 of a pair"}',
        }
        texts = {
            "blank": ("", " \n\t\u3000", "\ufeff\u200b", "<p>&nbsp;</p>")[place % 4],
            "giant": base.text * (MAX_DOCUMENT_BYTES // len(base.text.encode()) + 1),
        }
        self._add(base, kind, texts.get(kind, ""), raw=raw.get(kind))


# ---- the pipeline, and what it found ---------------------------------------------------------------------------------


def run_pipeline(folder: Path) -> Outcome:
    """Run the pipeline over what :class:`Dirt` wrote, with its default settings but for the longest document."""
    settings = {
        "inputs": [{"path": str(folder / "main")}, {"path": str(folder / "second")}],
        "output": str(folder / "out"),
        "read": {"max_document_bytes": MAX_DOCUMENT_BYTES},
        "explain": _ALL_EXAMPLES,
    }
    (folder / "corpus.yml").write_text(yaml.safe_dump(settings))
    with Here() as backend:
        pipeline = Pipeline(load_corpus([folder / "corpus.yml"]), Runner(backend, show_progress=False))
        pipeline.run("split")
    outcome = Outcome()
    for path, record in _records(folder / "out" / "work" / "read"):
        outcome.corpus[record["id"]] = path.parent.name
    for _, record in _records(folder / "out" / "work" / "clean"):
        outcome.cleaned[record["id"]] = record["text"]
    for _, record in _records(folder / "out" / "text"):
        outcome.out.add(record["id"])
    for (stage, rule), examples in pipeline.tally.examples.items():
        outcome.hits[f"{stage}/{rule}"].update(example.id for example in examples.values())
    return outcome


def _records(folder: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield all documents below a folder, each with its file."""
    for path in sorted(folder.rglob("*.jsonl.zst")):
        for line in b"".join(zstd_chunks(path)).splitlines():
            yield path, orjson.loads(line)


def score(truth: Sequence[Planted], outcome: Outcome) -> list[Row]:
    """Return recall, precision and restored texts of every kind that was planted."""
    clean = [planted for planted in truth if planted.kind == CLEAN]
    kinds = dict.fromkeys([*RULES, "odd code", "nonsense code", *GONE, "literal </s>"])
    rows = []
    for kind in kinds:
        planted = [each for each in truth if each.kind == kind]
        missed = [each for each in planted if not _is_found(each, kind, outcome)]
        wrong = [each for each in clean if kind != "literal </s>" and _is_wrong(each, kind, outcome)]
        texts = [each for each in planted if each.expected is not None]
        exact = sum(outcome.cleaned.get(each.id) == each.expected for each in texts)
        rows.append(Row(
            kind, len(planted), len(planted) - len(missed), len(wrong), exact if texts else None,
            tuple(each.id for each in missed), tuple(each.id for each in wrong),
        ))  # fmt: skip
    return rows


def _is_found(planted: Planted, kind: str, outcome: Outcome) -> bool:
    if kind in RULES:
        return any(planted.id in outcome.hits[rule] for rule in RULES[kind])
    if kind in GONE:
        return planted.id not in outcome.cleaned
    if planted.language is not None:
        return outcome.corpus.get(planted.id, "").partition("_")[0] == planted.language
    return outcome.cleaned.get(planted.id) == planted.expected


def _is_wrong(clean: Planted, kind: str, outcome: Outcome) -> bool:
    """Whether the rules for a kind of fault hit a clean document."""
    if kind in RULES:
        return any(clean.id in outcome.hits[rule] for rule in RULES[kind])
    if kind in GONE:
        dropped = any(clean.id in outcome.hits[rule] for rule in _SCRIPT)
        return clean.id not in outcome.corpus and not dropped
    language = outcome.corpus.get(clean.id, "und").partition("_")[0]
    return language != to_iso639_3(clean.code or "") and clean.id in outcome.corpus


def lines_of(rows: Sequence[Row], truth: Sequence[Planted], outcome: Outcome) -> Iterator[str]:
    """Yield the table, and what became of the clean documents."""
    yield f"{'kind':34} {'planted':>7} {'found':>6} {'recall':>7} {'false hits':>10} {'precision':>9} {'restored':>8}"
    for row in rows:
        restored = "" if row.restored is None else f"{row.restored:.3f}"
        yield (
            f"{row.kind:34} {row.planted:7} {row.found:6} {row.recall:7.3f} {row.false_hits:10} {row.precision:9.3f} "
            f"{restored:>8}"
        )
    clean = {planted.id for planted in truth if planted.kind == CLEAN}
    yield f"clean documents: {len(clean)}, of which {len(clean & outcome.out)} came out of the pipeline"
    for rule, ids in sorted(outcome.hits.items()):
        if clean & ids:
            yield f"  {rule}: {len(clean & ids)}"


def dirty(languages: Sequence[Sequence[Base]], output: Path, *, seed: int) -> tuple[list[Planted], Outcome]:
    """Write a dirtied copy of clean documents and run the pipeline over it."""
    dirt = Dirt(languages, seed)
    dirt.plant()
    truth = dirt.write(output)
    return truth, run_pipeline(output)


def main() -> int:
    """Read the command line, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True, help="folder of clean JSON lines")
    parser.add_argument("--output", type=Path, required=True, help="a new or empty folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--misses", action="store_true", help="list every miss and every false hit")
    args = parser.parse_args()
    truth, outcome = dirty(load_bases(args.input), args.output, seed=args.seed)
    rows = score(truth, outcome)
    print("\n".join(lines_of(rows, truth, outcome)))  # noqa: T201
    if args.misses:
        named = {planted.id: planted for planted in truth}
        for row in rows:
            for what, ids in (("missed", row.missed), ("wrong", row.wrong)):
                for each in ids:
                    print(f"{row.kind}\t{what}\t{each}\t{named[each].code}\t{named[each].detail}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
