"""How sure a fastText model is that a text is in the language of its label."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from megatron.corpus.document import CorpusError
from megatron.corpus.languages import UNDETERMINED, parse_label, script_subtag
from megatron.languages.script import NO_SCRIPTS, looks_like
from megatron.languages.tables import macrolanguages

#: Longer texts are judged by so many characters from their beginning.
MAX_CHARACTERS = 2000

_PREFIX = "__label__"
_MOST_LABELS = 10


def find_scorer(path: str, code: str, resolve: Callable[[str], str]) -> Callable[[str], float] | None:
    """Return the score, 0 to 1, of the label ``code`` for a text; None when the model does not know its language.

    The score is the sum of the model's probabilities for all labels that do not contradict the corpus code: they are
    the same language, or one is the macrolanguage of the other, and in the same script where both name one. Of the
    model's labels the ten best count.

    Args:
        path: a model for fastText.
        code: the corpus code, ``xxx_Ssss``.
        resolve: any language code to ISO 639-3.

    Raises:
        CorpusError: the package ``fasttext-predict`` is missing, or the model cannot be read.
    """
    file = Path(path)
    if not file.is_file():
        raise CorpusError(f"filters.language_model: there is no file {path}")
    model = _load(path, file.stat().st_mtime_ns)
    fitting = frozenset(label for label in _labels(path, file.stat().st_mtime_ns) if _fits(label, code, resolve))
    return functools.partial(_score, model, fitting) if fitting else None


def _score(model: Any, fitting: frozenset[str], text: str) -> float:
    line = " ".join(text[:MAX_CHARACTERS].split()).encode("utf-8", "replace").decode("utf-8")
    labels, scores = model.predict(line, k=_MOST_LABELS)
    # The model's probabilities add up to a little more than 1 at times.
    return min(1.0, sum(float(score) for label, score in zip(labels, scores, strict=True) if label in fitting))


def _fits(label: str, code: str, resolve: Callable[[str], str]) -> bool:
    name = label.removeprefix(_PREFIX)
    found, own = resolve(name), resolve(code)
    if UNDETERMINED in (found, own):
        return False
    groups = macrolanguages()
    if found != own and groups.get(found) != own and groups.get(own) != found:
        return False
    scripts = _script(name), _script(code)
    return None in scripts or looks_like(scripts[0] or "")[0] == looks_like(scripts[1] or "")[0]


def _script(code: str) -> str | None:
    label = parse_label(code)
    script = label.script if label else script_subtag(code)
    return None if script in NO_SCRIPTS else script


@functools.lru_cache(maxsize=1)
def _labels(path: str, changed: int) -> tuple[str, ...]:
    # The package has no list of labels; a prediction without a limit returns them all.
    try:
        labels, _ = _load(path, changed).predict("a", k=-1, threshold=-1.0)
    except ValueError as error:
        raise CorpusError(f"{path}: this model tells no languages apart: {error}") from error
    if not labels:
        raise CorpusError(f"{path}: this model names no languages; give one for language identification")
    return tuple(labels)


@functools.lru_cache(maxsize=1)
def _load(path: str, _changed: int) -> Any:
    try:
        import fasttext  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError as error:
        raise CorpusError("filters.language_model needs fastText: pip install fasttext-predict==0.9.2.4") from error
    try:
        return fasttext.load_model(path)
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        raise CorpusError(f"{path}: fastText cannot read this model: {error}") from error
