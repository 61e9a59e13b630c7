"""Extending a tokenizer: learn, write to a folder aside, measure, and only then give it its name."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from megatron.tokenizer.base import Tokenizer, TokenizerError
from megatron.tokenizer.extend.byte_level_old import ByteLevelOld
from megatron.tokenizer.extend.checks import check_beginning, check_pivots, warn_of_characters, warn_of_few_lines
from megatron.tokenizer.extend.extension import Extension
from megatron.tokenizer.extend.gates import (
    BrokenGatesError,
    Checks,
    Gate,
    gate_table,
    guard_gate,
    library_gates,
    measure,
    pivot_gate,
    share_limit,
)
from megatron.tokenizer.extend.learn import Learnt, choose_characters, learn, prepare
from megatron.tokenizer.extend.old import OldTokenizer
from megatron.tokenizer.extend.report import Report, by_script, corpus_rows, script_rows
from megatron.tokenizer.extend.script_guard import allows, has_script, scripts_of
from megatron.tokenizer.extend.sentencepiece_old import SentencePieceOld
from megatron.tokenizer.extend.source import Source, in_text, pivot_lines
from megatron.tokenizer.extend.words import count_words, shares_of
from megatron.tokenizer.load import load_model_file
from megatron.utils.files import fsync_folder, write_text
from megatron.utils.log import get_logger

GUARDS = ("pairs", "script")
_REPORT = "extension_report"

Text = TypeVar("Text", str, bytes)
_logger = get_logger(__name__)


@dataclass(frozen=True)
class ExtendSettings:
    """How to extend.

    Attributes:
        new_tokens: at least so many.
        size_multiple: the size of the extended vocabulary is a multiple of this, for tensor parallelism.
        alpha: a language's share of what is learnt from is its bytes to this power.
        weights: factors of those shares, by code.
        character_coverage: part of a language's text whose characters get tokens (SentencePiece).
        guard: ``pairs`` keeps the pivot texts; ``script`` also leaves out the scripts that they are written in.
        hold_out: every so-manieth document is not learnt from.
        max_words: distinct words of one corpus that are counted.
        longest: characters of the longest new token; of byte-level vocabularies three bytes for each.
        max_held_out_changed: the share of pivot lines which may change when the guard has not seen them.
        max_unused: the share of new tokens that held-out text may leave unused.
        parallel: the corpus that the documents of others translate, for the premium.
        prepend_bos: whether the written tokenizer begins texts with its beginning-of-text token; a ``tokenizer.json``
            keeps what it does.
    """

    new_tokens: int = 8000
    size_multiple: int = 128
    alpha: float = 0.3
    weights: Mapping[str, float] = field(default_factory=dict)
    character_coverage: float = 0.9995
    guard: str = "pairs"
    hold_out: int = 5
    max_words: int = 30_000
    longest: int = 16
    max_held_out_changed: float = 0.05
    max_unused: float = 1.0
    parallel: str | None = None
    prepend_bos: bool = True

    def count(self, old_size: int) -> int:
        """Return how many tokens are added to a vocabulary of this size."""
        return -(-(old_size + self.new_tokens) // self.size_multiple) * self.size_multiple - old_size

    def check(self, sources: Sequence[Source]) -> None:
        """Raise :class:`TokenizerError` that lists everything which cannot be."""
        codes = {source.code for source in sources}
        names = {source.name for source in sources}
        problems = [
            f"{name} {value}: must be {rule}"
            for name, value, is_right, rule in (
                ("new_tokens", self.new_tokens, self.new_tokens > 0, "at least 1"),
                ("size_multiple", self.size_multiple, self.size_multiple > 0, "at least 1"),
                ("alpha", self.alpha, 0 <= self.alpha <= 1, "from 0 to 1"),
                ("character_coverage", self.character_coverage, 0 <= self.character_coverage <= 1, "from 0 to 1"),
                ("guard", self.guard, self.guard in GUARDS, f"one of {', '.join(GUARDS)}"),
                ("hold_out", self.hold_out, self.hold_out > 1, "at least 2"),
                ("max_words", self.max_words, self.max_words > 0, "at least 1"),
                ("longest", self.longest, self.longest > 1, "at least 2"),
                ("parallel", self.parallel, self.parallel is None or self.parallel in names, "a corpus of the input"),
            )
            if not is_right
        ]
        problems += [f"weight of {code}: no corpus has this code" for code in sorted(set(self.weights) - codes)]
        negative = [(code, factor) for code, factor in self.weights.items() if factor < 0]
        problems += [f"weight of {code} {factor}: must be 0 or more" for code, factor in negative]
        if not any(source.is_pivot for source in sources):
            problems.append("there is no pivot text, so nothing says what must stay as it is: name pivots")
        if all(source.is_pivot for source in sources):
            problems.append("there is no text to learn from: all corpora are pivots")
        if problems:
            raise TokenizerError("; ".join(problems))


def extend_tokenizer(path: Path, sources: Sequence[Source], output: Path, settings: ExtendSettings) -> Report:
    """Extend a tokenizer and write it, with ``extension.json`` and a report, into a new folder.

    Args:
        path: a SentencePiece ``tokenizer.model``, Llama 3's ``tokenizer.model``, or a ``tokenizer.json`` of Llama 3's
            kind; or a folder with one of them, of both ``tokenizer.model``.
        sources: what to learn from, and the pivots.
        output: the folder; must not be there.
        settings: how.

    Raises:
        TokenizerError: the tokenizer or the settings cannot be used, or the texts give too few tokens.
        BrokenGatesError: the result would do harm; nothing is written.
    """
    settings.check(sources)
    if output.exists():
        raise TokenizerError(f"{output}: is there already; give a new folder, or remove it")
    # By name, so that nothing depends on the order in which they are given.
    sources = sorted(sources, key=lambda source: (source.name, source.code))
    path = _file_of(path)
    if path.name.endswith(".json"):
        return _extend(ByteLevelOld(path, longest=settings.longest), sources, output, settings)
    tokenizer = load_model_file(path)
    if tokenizer.kind == "TiktokenTokenizer":
        return _extend(ByteLevelOld(path, tokenizer=tokenizer, longest=settings.longest), sources, output, settings)
    return _extend(SentencePieceOld(path, tokenizer=tokenizer, longest=settings.longest), sources, output, settings)


def _file_of(path: Path) -> Path:
    """Return the tokenizer of a folder; ``tokenizer.json`` of a SentencePiece model could not be extended."""
    if not path.is_dir():
        return path
    found = [path / name for name in ("tokenizer.model", "tokenizer.json") if (path / name).is_file()]
    if not found:
        raise TokenizerError(f"{path}: holds neither tokenizer.model nor tokenizer.json; name the file itself")
    return found[0]


def _extend(old: OldTokenizer[Text], sources: Sequence[Source], output: Path, settings: ExtendSettings) -> Report:
    size = old.tokenizer.vocab_size
    count = settings.count(size)
    _logger.info("%s tokens and %s new ones are %s", f"{size:,}", f"{count:,}", f"{size + count:,}")
    check_pivots(sources)
    check_beginning(old.tokenizer, prepend_bos=settings.prepend_bos)
    taught = _Taught(old, sources, settings)
    # First with a guard that has not seen all, which tells how other pivot text will fare; then with all.
    seen = old.joined(form for line in pivot_lines(sources, held_out=False) for form in in_text(line))
    _logger.info("learning twice: first without a tenth of the pivot lines, to see how often such lines change")
    trial = taught.learn(seen, count, title="learn, to see")
    guard = guard_gate(
        old, trial.tokens, pivot_lines(sources, held_out=True), at_most=settings.max_held_out_changed
    )
    warn_of_few_lines(guard.of)
    seen |= old.joined(form for line in pivot_lines(sources, held_out=True) for form in in_text(line))
    _logger.info("learning again, with all pivot lines kept: these are the new tokens")
    learnt = taught.learn(seen, count, title="learn")
    warn_of_characters(learnt.num_characters, count, without_room=taught.facts["characters_without_room"])
    _logger.info("writing the tokenizer, and measuring it on all texts")
    with _aside(output) as folder:
        new = old.write(learnt.tokens, folder, prepend_bos=settings.prepend_bos)
        spellings = old.spellings(learnt.tokens)
        Extension(old.tokenizer.fingerprint, Extension.fingerprints_in(folder), size, spellings).save(folder)
        report = _report(old, new, folder, learnt, sources, taught, guard, settings)
        write_text(folder / f"{_REPORT}.json", report.to_json())
        write_text(folder / f"{_REPORT}.tsv", report.to_tsv())
        if broken := [gate for gate in report.gates if not gate.passes]:
            table = "\n".join(gate_table(report.gates))
            raise BrokenGatesError(f"{len(broken)} gates are broken, so nothing is written\n{table}")
    return report


class _Taught(Generic[Text]):
    """What is learnt from: the words of the corpora, and each corpus's share."""

    def __init__(self, old: OldTokenizer[Text], sources: Sequence[Source], settings: ExtendSettings) -> None:
        self.old: OldTokenizer[Text] = old
        self.settings = settings
        taught = [source for source in sources if not source.is_pivot]
        self.counts = [
            count_words(source.learnt(settings.hold_out), old.words, max_words=settings.max_words) for source in taught
        ]
        shares = shares_of(
            [one.text_bytes for one in self.counts],
            [source.code for source in taught],
            alpha=settings.alpha,
            factors=settings.weights,
        )
        self.shares = {source.name: share for source, share in zip(taught, shares, strict=True)}
        self.scripts = scripts_of(pivot_lines(sources)) if settings.guard == "script" else []
        self.facts: dict[str, Any] = {}

    def learn(self, forbidden: Collection[Text], count: int, *, title: str) -> Learnt[Text]:
        """Return new tokens, none of them forbidden; ``facts`` is about them."""
        old, settings, scripts = self.old, self.settings, self.scripts
        shares = list(self.shares.values())
        is_allowed: Callable[[str | bytes], bool] = allows(scripts) if scripts else lambda token: True

        def is_word(text: str) -> bool:
            return not (scripts and has_script(text, scripts))

        characters = choose_characters(
            old,
            self.counts,
            shares,
            coverage=settings.character_coverage,
            is_allowed=lambda character: is_allowed(character) and old.token_of(character) not in forbidden,
        )
        lesson = prepare(old, self.counts, shares, characters[:count], is_allowed=is_word)
        _logger.info(
            "%d corpora, %s distinct words, %s new characters; %s texts must not become tokens",
            len(shares), f"{len(lesson.words):,}", f"{len(lesson.characters):,}", f"{len(forbidden):,}",
        )  # fmt: skip
        learnt = learn(
            old, lesson, forbidden=forbidden, is_allowed=is_allowed, count=count,
            size_multiple=settings.size_multiple, title=title,
        )  # fmt: skip
        self.facts = {
            "old_tokenizer": old.tokenizer.fingerprint,
            "old_size": old.tokenizer.vocab_size,
            "new_tokens": len(learnt.tokens),
            "new_size": old.tokenizer.vocab_size + len(learnt.tokens),
            "new_characters": learnt.num_characters,
            "characters_without_room": len(characters) - learnt.num_characters,
            "dropped_tokens": learnt.dropped,
            "distinct_words": len(lesson.words),
            "rare_words_dropped": sum(one.dropped for one in self.counts),
            "learnt_bytes": sum(one.text_bytes for one in self.counts),
            "forbidden": len(forbidden),
            "scripts_left_out": scripts,
            "settings": asdict(settings),
        }
        return learnt


def _report(
    old: OldTokenizer[Text],
    new: Tokenizer,
    folder: Path,
    learnt: Learnt[Text],
    sources: Sequence[Source],
    taught: _Taught[Text],
    guard: Gate,
    settings: ExtendSettings,
) -> Report:
    tokens = learnt.tokens
    checks: Checks = Checks(old.tokenizer, new, old.libraries(folder, tokens))
    measured, used = measure(sources, checks, hold_out=settings.hold_out)
    surfaces = [old.surface(token) for token in tokens]
    for surface in surfaces:
        if surface is not None:
            checks.compare(surface)
    first = old.tokenizer.vocab_size
    unused = sum(number not in used for number in range(first, first + len(tokens)))
    most_unused = share_limit(settings.max_unused)
    gates = [
        pivot_gate(old.tokenizer, new, sources),
        guard,
        Gate("new tokens that their text does not become", old.not_found(folder, tokens), 0, len(tokens)),
        Gate("new tokens unused in held-out text, share", unused / len(tokens), most_unused, len(tokens)),
        Gate("old ids with another token", old.kept(folder), 0, first),
        *library_gates(checks),
    ]
    rows = corpus_rows(sources, measured, taught.shares, parallel=settings.parallel)
    shown = {old.show(token): surface is None for token, surface in zip(tokens, surfaces, strict=True)}
    groups = by_script(list(shown), shown.__getitem__)
    pivots = {source.name for source in sources if source.is_pivot}
    scripts = script_rows([row for row in rows if row.name not in pivots])
    return Report(taught.facts, gates, rows, scripts, groups)


@contextmanager
def _aside(output: Path) -> Iterator[Path]:
    """Give a folder beside ``output`` that gets its name at the end, and goes away after an error."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.tmp", dir=output.parent) as aside:
        folder = Path(aside) / output.name
        folder.mkdir()  # with the rights of any new folder, which a temporary one has not
        yield folder
        folder.rename(output)
    fsync_folder(output.parent)
