"""Surgery on a model from beginning to end: opened, checked and written, with rows for new tokens."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from megatron.checkpoint.convert.check import tokenizer_of
from megatron.checkpoint.convert.huggingface import HuggingFaceSource, write_huggingface
from megatron.checkpoint.convert.native import NativeSource
from megatron.checkpoint.convert.source import ConversionError, Source
from megatron.checkpoint.extend.rows import METHODS
from megatron.checkpoint.extend.source import ExtendedSource
from megatron.checkpoint.extend.tokenizers import (
    extension_problems,
    old_tokenizer_note,
    open_extended,
    tokenizer_files,
)
from megatron.tokenizer.extend.extension import FILE_NAME, Extension

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Surgery:
    """What is asked for.

    Attributes:
        model: a Hugging Face folder, a checkpoint or a run's ``save`` folder.
        tokenizer: folder of the extended tokenizer, with its ``extension.json``.
        output: Hugging Face folder to write, which must not exist.
        init: how rows of the embedding are made, one of :data:`megatron.checkpoint.extend.rows.METHODS`.
        init_output: the same for the output matrix; None for ``init``. None where it is the embedding.
        vocab_divisible_by: the rows are padded to a multiple of this.
        seed: of random rows.
    """

    model: str
    tokenizer: Path
    output: Path
    init: str = METHODS[0]
    init_output: str | None = None
    vocab_divisible_by: int = 1
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Operation:
    """A surgery that can be done.

    Attributes:
        source: the model with its new rows, not yet written.
        output: where to.
        notes: what there is to say about it.
    """

    source: ExtendedSource
    output: Path
    notes: tuple[str, ...]

    def write(self, check: Callable[[Path], None]) -> None:
        """Write the model as a Hugging Face folder, a few rows at a time; it appears when all of it is there.

        Args:
            check: called with the folder before it has its name, and may add files. What it raises keeps the folder
                from appearing; after :class:`megatron.checkpoint.unfinished.WrongResultError` nothing is left.

        Raises:
            ValueError: there is something of its name by now.
            OSError: it cannot be written.
        """

        def checked(written: Source) -> None:
            assert isinstance(written, HuggingFaceSource)
            check(written.folder)

        write_huggingface(self.source, self.output, check=checked)


def planned(wanted: Surgery) -> Operation:
    """Open the model and the tokenizers, and see whether they fit together; nothing is written.

    Raises:
        ValueError: they do not, or what is asked for cannot be done; all that is wrong is told at once.
    """
    problems = list(_contradictions(wanted))
    source = _attempt(problems, lambda: _opened(wanted.model))
    extension = _attempt(problems, lambda: _extension(wanted.tokenizer))
    if source is not None:
        problems += _tying_problems(source, wanted)
    if source is None or extension is None:
        raise ConversionError("\n".join(problems))
    files = _attempt(problems, lambda: _new_files(wanted.tokenizer, source, extension))
    if problems or files is None:
        raise ConversionError("\n".join(problems))
    old_rows = source.architecture.vocab_size
    rows = padded_rows(old_rows, extension.new_size, divisible_by=wanted.vocab_divisible_by)
    output_method = wanted.init if wanted.init_output is None else wanted.init_output
    extended = ExtendedSource(
        source, extension, rows=rows, tokenizer_files=files.content, input_method=wanted.init,
        output_method=output_method, seed=wanted.seed,
    )  # fmt: skip
    notes = (
        *source.notes,
        files.note,
        _size_note(old_rows, rows, extension),
        f"new rows of the embedding, which is the output matrix as well: {wanted.init}"
        if source.architecture.tie_word_embeddings
        else f"new rows of the embedding: {wanted.init}; of the output matrix: {output_method}",
    )
    return Operation(extended, wanted.output, notes)


def _extension(folder: Path) -> Extension:
    if folder.is_file():
        raise ConversionError(f"--tokenizer {folder} is a file; give its folder, {folder.parent}")
    return Extension.load(folder)


class _Files(NamedTuple):
    """Of the extended tokenizer, by name, and what was found about the old one."""

    content: dict[str, bytes]
    note: str


def _new_files(folder: Path, source: Source, extension: Extension) -> _Files:
    """Return the files of the extended tokenizer for the model's folder.

    Raises:
        ValueError: it does not fit the model; all that is wrong is told at once.
    """
    problems: list[str] = []
    rows = source.architecture.vocab_size
    if rows < extension.old_size:
        problems.append(
            f"{source} has {rows:,} rows, fewer than the {extension.old_size:,} tokens of the tokenizer that was "
            "extended: it is another model's"
        )
    known = tokenizer_of(source)
    if known is None:
        problems.append(f"{source} has no tokenizer: nobody knows what its rows stand for")
        raise ConversionError("\n".join(problems))
    old, prepend_bos = known
    new = _attempt(problems, lambda: open_extended(folder, extension, eod_id=old.eod_id))
    if new is None:
        raise ConversionError("\n".join(problems))
    problems += extension_problems(old, new, extension)
    old_files = source.hf_files()
    content = _attempt(problems, lambda: tokenizer_files(new, old_files, prepend_bos=prepend_bos))
    if problems or content is None:
        raise ConversionError("\n".join(problems))
    # What is written anew may differ from the extended tokenizer's own files, and shards may be made with either.
    content[FILE_NAME] = extension.about(content).to_json().encode("utf-8")
    return _Files(content, old_tokenizer_note(old, old_files, extension))


def padded_rows(old_rows: int, new_size: int, *, divisible_by: int) -> int:
    """Return how many rows a model gets: as many as it has or as there are tokens, padded as GPT-NeoX does.

    Args:
        old_rows: of the model, its padding included; none is ever taken away.
        new_size: tokens of the extended vocabulary. Those that are new take the place of padding.
        divisible_by: ``make_vocab_size_divisible_by``, times the number of tensor-parallel processes.
    """
    return math.ceil(max(old_rows, new_size) / divisible_by) * divisible_by


def _size_note(old_rows: int, rows: int, extension: Extension) -> str:
    old_size, new_size = extension.old_size, extension.new_size
    return (
        f"{old_size:,} tokens in {old_rows:,} rows -> {new_size:,} tokens in {rows:,} rows: {new_size - old_size:,} "
        f"are new, {min(old_rows, new_size) - old_size:,} of them in the place of padding; {rows - new_size:,} rows "
        "are padding"
    )


def _contradictions(wanted: Surgery) -> Iterator[str]:
    for option, method in (("--init", wanted.init), ("--init-output", wanted.init_output)):
        if method is not None and method not in METHODS:
            yield f"{option} {method}: take one of {', '.join(METHODS)}"
    if wanted.vocab_divisible_by < 1:
        yield f"--vocab-divisible-by {wanted.vocab_divisible_by}: must be at least 1"
    if wanted.seed < 0:
        yield f"--seed {wanted.seed}: must be at least 0"
    if wanted.output.exists() or wanted.output.is_symlink():
        yield f"{wanted.output} exists; give another name, or delete it"
    elif "://" not in wanted.model and wanted.output.resolve().is_relative_to(Path(wanted.model).resolve()):
        yield f"{wanted.output} lies in {wanted.model}, which is read"


def _tying_problems(source: Source, wanted: Surgery) -> Iterator[str]:
    if source.architecture.tie_word_embeddings and wanted.init_output not in (None, wanted.init):
        yield f"--init-output {wanted.init_output}: the output matrix of {source} is its embedding, made by --init"


def _opened(model: str) -> Source:
    if "://" not in model:
        folder = Path(model)
        if not folder.is_dir():
            raise ConversionError(f"{folder} is no folder")
        if (folder / "config.json").exists():
            return HuggingFaceSource(folder)
    return NativeSource(model)


def _attempt(problems: list[str], what: Callable[[], _T]) -> _T | None:
    """Return what there is, or note why there is none."""
    try:
        return what()
    except (ValueError, OSError) as error:
        problems.append(str(error))
        return None
