"""Perplexity of a text under an n-gram model, which KenLM reads."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from megatron.corpus.document import CorpusError

#: What stands for a blank in models over characters.
BLANK = "▁"
#: Longer texts are judged by so many characters from their beginning.
MAX_CHARACTERS = 1 << 16

_ENDINGS = (".arpa", ".bin", ".klm")


def find_model(folder: str, code: str) -> Callable[[str], float] | None:
    """Return the perplexity under the model of a corpus; None when the folder has no model for it.

    The model is ``<xxx_Ssss>`` or ``<xxx>`` with ``.arpa``, ``.bin`` or ``.klm``, over words, which blanks separate;
    with ``.chars`` before the ending it is over characters, and U+2581 stands for a blank. Each line of a text is a
    sentence.

    Raises:
        CorpusError: there is no such folder, the package ``kenlm`` is missing, or the model cannot be read.
    """
    if not Path(folder).is_dir():
        raise CorpusError(f"filters.perplexity_models: {folder} is no folder; name one that holds <xxx_Ssss>.arpa")
    for name in (code, code.partition("_")[0]):
        for kind in ("", ".chars"):
            for ending in _ENDINGS:
                path = Path(folder) / f"{name}{kind}{ending}"
                if path.is_file():
                    return functools.partial(_perplexity, _load(str(path), path.stat().st_mtime_ns), bool(kind))
    return None


def _perplexity(model: Any, characters: bool, text: str) -> float:
    """Return 10 to the mean negative decimal logarithm of the probability of a word, ends of lines included."""
    score, words = 0.0, 0
    for line in text[:MAX_CHARACTERS].split("\n"):
        parts = list(BLANK.join(line.split())) if characters else line.split()
        if parts:
            score += model.score(" ".join(parts).encode("utf-8", "replace").decode("utf-8"), bos=True, eos=True)
            words += len(parts) + 1
    return min(10.0 ** min(-score / words, 300.0), 1e300) if words else math.inf


@functools.lru_cache(maxsize=1)
def _load(path: str, _changed: int) -> Any:
    try:
        import kenlm  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise CorpusError("filters.perplexity_models needs KenLM: pip install kenlm==0.3.0") from error
    config = kenlm.Config()
    config.show_progress = False
    try:
        return kenlm.Model(path, config)
    except (OSError, RuntimeError) as error:
        raise CorpusError(f"{path}: KenLM cannot read this model: {error}") from error
