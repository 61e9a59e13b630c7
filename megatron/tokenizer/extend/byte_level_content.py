"""A byte-level ``tokenizer.json``: checked to be what tiktoken does with ranks, and written with more tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from megatron.tokenizer.base import TokenizerError
from megatron.tokenizer.export import byte_letters, merges_of

_BYTE_OF = {letter: byte for byte, letter in enumerate(byte_letters())}
_LETTER_OF = dict(enumerate(byte_letters()))


@dataclass(frozen=True)
class ByteLevelContent:
    """What a ``tokenizer.json`` of byte-level tokens says.

    Attributes:
        content: all of it.
        ranks: bytes and id of each token that text can become, in the order of the ids.
        added: ids of the added tokens, special ones and others, by their text.
        pattern: the regular expression that cuts text into words.
        merges_are_strings: whether a merge is written ``"a b"``, as older files do.
    """

    content: Mapping[str, Any]
    ranks: Mapping[bytes, int]
    added: Mapping[str, int]
    pattern: str
    merges_are_strings: bool

    @property
    def size(self) -> int:
        """One more than the largest id."""
        return 1 + max(*self.ranks.values(), *self.added.values())

    def extended(self, tokens: Sequence[bytes]) -> str:
        """Return the content with more tokens, whose ids follow all others'.

        The added tokens stand in the vocabulary, too: without them the library would count the ids of its tokens, not
        look at their ids, and give other ids to the special ones.
        """
        ranks = {**self.ranks, **{token: number for number, token in enumerate(tokens, start=self.size)}}
        model = self.content["model"]
        names = {token: spelled(token) for token in ranks}
        vocab = {names[token]: number for token, number in ranks.items()} | dict(self.added)
        merges = [[names[left], names[right]] for left, right in merges_of(ranks)]
        new_model = {
            **model,
            "vocab": dict(sorted(vocab.items(), key=lambda item: item[1])),
            "merges": [" ".join(merge) for merge in merges] if self.merges_are_strings else merges,
        }
        return orjson.dumps({**self.content, "model": new_model}, option=orjson.OPT_INDENT_2).decode()


def read_content(data: bytes, path: Path) -> ByteLevelContent:
    """Read a ``tokenizer.json`` of byte-level tokens whose merges are all splits of its tokens, as Llama 3's are.

    Args:
        data: the file.
        path: its name, for messages.

    Raises:
        TokenizerError: it is of another kind; says in which ways.
    """
    try:
        content = orjson.loads(data)
    except ValueError as error:
        raise TokenizerError(f"{path}: is not JSON ({error})") from error
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or not isinstance(model.get("vocab"), dict):
        raise TokenizerError(f"{path}: is no tokenizer.json with a BPE vocabulary; only those can be extended")
    if model.get("byte_fallback"):
        raise TokenizerError(
            f"{path}: was made from a SentencePiece model; give that, tokenizer.model: what is merged there cannot be "
            "told from this file for certain"
        )
    added = {token["content"]: token["id"] for token in content.get("added_tokens") or []}
    pattern = _pattern(content)
    problems = [] if pattern is not None else ["it cuts text in another way than by one pattern and then into bytes"]
    ranks, wrong = _ranks(model["vocab"], added)
    if wrong:
        problems.append(f"{len(wrong)} tokens are not spelled in the letters of bytes, such as {wrong[0]!r}")
    if missing := sum(bytes([byte]) not in ranks for byte in range(256)):
        problems.append(f"{missing} of the 256 single bytes are no tokens")
    if not model.get("ignore_merges"):
        problems.append("a word that is a token may become others (ignore_merges is not true)")
    if any(model.get(name) for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix")):
        problems.append("it uses dropout, or marks where words go on or end")
    merges = model.get("merges") or []
    found = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in merges]
    if not problems and (difference := _difference(found, ranks)):
        problems.append(difference)
    if problems or pattern is None:
        raise TokenizerError(
            f"{path}: cannot be extended without harm: {'; '.join(problems)}. Byte-level tokenizers of Llama 3's kind "
            "can be: give its tokenizer.model or tokenizer.json"
        )
    return ByteLevelContent(content, ranks, added, pattern, bool(merges) and isinstance(merges[0], str))


def spelled(token: bytes) -> str:
    """Return a token in the letters of its bytes."""
    return token.decode("latin-1").translate(_LETTER_OF)


def bytes_of(word: str) -> bytes:
    """Return the bytes of what is spelled in their letters.

    Raises:
        KeyError: a letter is none of theirs.
    """
    return bytes([_BYTE_OF[letter] for letter in word])


def _ranks(vocab: Mapping[str, int], added: Mapping[str, int]) -> tuple[dict[bytes, int], list[str]]:
    ranks: dict[bytes, int] = {}
    wrong = []
    for text, number in sorted(vocab.items(), key=lambda item: item[1]):
        if added.get(text) == number:
            continue
        try:
            ranks[bytes_of(text)] = number
        except KeyError:
            wrong.append(text)
    return ranks, wrong


def _pattern(content: Mapping[str, Any]) -> str | None:
    """Return the pattern, if the text is cut by it alone, kept as it is, and written in the letters of its bytes."""
    pre_tokenizer = content.get("pre_tokenizer") or {}
    steps = pre_tokenizer.get("pretokenizers") or []
    if content.get("normalizer") is not None or [step.get("type") for step in steps] != ["Split", "ByteLevel"]:
        return None
    cut, letters = steps
    pattern = (cut.get("pattern") or {}).get("Regex")
    is_plain = cut.get("behavior") == "Isolated" and not cut.get("invert")
    if not is_plain or letters.get("add_prefix_space", True) or letters.get("use_regex", True):
        return None
    return pattern if isinstance(pattern, str) else None


def _difference(found: Sequence[tuple[str, ...]], ranks: Mapping[bytes, int]) -> str | None:
    """Return how the merges differ from all splits of the tokens, the earlier token first."""
    names = {token: spelled(token) for token in ranks}
    wanted = [(names[left], names[right]) for left, right in merges_of(ranks)]
    if list(found) == wanted:
        return None
    missing, more = set(wanted) - set(found), set(found) - set(wanted)
    if missing or more:
        example = min(missing or more)
        return (
            f"its merges are not all splits of its tokens: {len(missing)} splits are no merges and {len(more)} merges "
            f"are no splits, such as {' + '.join(example)}"
        )
    place = next((place for place, pair in enumerate(wanted) if found[place] != pair), len(wanted))
    return (
        "its merges are not in the order of the ids of their tokens, each once: the first that differs is merge "
        f"{place}, {' + '.join(found[place])}"
    )
