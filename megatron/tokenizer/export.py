"""Hugging Face tokenizer files from SentencePiece models and tiktoken ranks.

Both store which strings are tokens and how early each was learnt; ``tokenizer.json`` stores merges, pairs of tokens. A
pair may be merged exactly when its concatenation is a token, and the earlier token wins; so the merges are all splits
of all tokens into two tokens, in the order of the tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from megatron.tokenizer.base import TokenizerError
from megatron.utils.files import write_text

#: How SentencePiece writes a space, U+2581.
SPACE = "▁"
Text = TypeVar("Text", str, bytes)


@dataclass(frozen=True)
class SpecialTokens:
    """The spelling of a tokenizer's special tokens; None for those it does not have."""

    bos: str | None
    eod: str | None
    unk: str | None


def merges_of(ranks: Mapping[Text, int]) -> list[tuple[Text, Text]]:
    """Return the merges of a BPE vocabulary, the first to apply first.

    Args:
        ranks: every token and its place in the order of learning.
    """
    merges: list[tuple[Text, Text]] = []
    for token in sorted(ranks, key=lambda token: ranks[token]):
        pairs = [
            (left, right)
            for cut in range(1, len(token))
            if (left := token[:cut]) in ranks and (right := token[cut:]) in ranks
        ]
        merges += sorted(pairs, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
    return merges


def sentencepiece_json(model: bytes, *, tokens: SpecialTokens) -> str:
    """Return the ``tokenizer.json`` of a SentencePiece BPE model.

    Args:
        model: the bytes of the ``tokenizer.model``.
        tokens: its special tokens.

    Raises:
        TokenizerError: the model is not BPE, changes the text, or has pieces of a kind that cannot be expressed.
    """
    from sentencepiece import sentencepiece_model_pb2

    schema: Any = sentencepiece_model_pb2  # generated code, without types

    proto = schema.ModelProto.FromString(model)
    kinds = schema.ModelProto.SentencePiece
    problems = []
    if proto.trainer_spec.model_type != schema.TrainerSpec.BPE:
        problems.append("it is not a BPE model")
    if proto.normalizer_spec.precompiled_charsmap or proto.normalizer_spec.remove_extra_whitespaces:
        problems.append("it normalises text")
    if proto.trainer_spec.treat_whitespace_as_suffix or not proto.normalizer_spec.escape_whitespaces:
        problems.append("it treats spaces in another way")
    if any(piece.type in (kinds.USER_DEFINED, kinds.UNUSED) for piece in proto.pieces):
        problems.append("it has user-defined or unused pieces")
    normal_pieces = {piece.piece for piece in proto.pieces if piece.type == kinds.NORMAL}
    # SentencePiece merges any characters; tokenizer.json only those that are pieces themselves.
    if not {character for piece in normal_pieces for character in piece} <= normal_pieces:
        problems.append("it has pieces with characters that are no pieces")
    if problems:
        raise TokenizerError(f"the SentencePiece model cannot be written as tokenizer.json: {'; '.join(problems)}")
    vocab = {piece.piece: number for number, piece in enumerate(proto.pieces)}
    # Bytes and control pieces are never found in text, so no merge may make one.
    normal = [(number, piece) for number, piece in enumerate(proto.pieces) if piece.type == kinds.NORMAL]
    normal.sort(key=lambda entry: (-entry[1].score, entry[0]))
    merges = merges_of({piece.piece: rank for rank, (_, piece) in enumerate(normal)})
    byte_fallback = any(piece.type == kinds.BYTE for piece in proto.pieces)
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token=tokens.unk, fuse_unk=True, byte_fallback=byte_fallback))
    prefix = proto.normalizer_spec.add_dummy_prefix
    replace = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), replace]) if prefix else replace
    parts: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)] if prefix else parts)
    special = [piece.piece for piece in proto.pieces if piece.type in (kinds.CONTROL, kinds.UNKNOWN)]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    return tokenizer.to_str()


def tiktoken_json(ranks: Mapping[bytes, int], *, special_tokens: Sequence[str], pattern: str) -> str:
    """Return the ``tokenizer.json`` of tiktoken ranks.

    Args:
        ranks: byte strings and their ids.
        special_tokens: the tokens that follow, in the order of their ids.
        pattern: the regular expression that cuts text into words.
    """
    letters = dict(enumerate(byte_letters()))
    spelled = {token: token.decode("latin-1").translate(letters) for token in ranks}
    vocab = {spelled[token]: rank for token, rank in ranks.items()}
    merges = [(spelled[left], spelled[right]) for left, right in merges_of(ranks)]
    # A word that is a token is that token, whatever the merges lead to: tiktoken looks the word up first.
    tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=True))
    cut = pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special_tokens])
    return tokenizer.to_str()


def write_hf_files(
    folder: Path,
    tokenizer_json: str,
    *,
    tokens: SpecialTokens,
    prepend_bos: bool,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write ``tokenizer.json``, ``tokenizer_config.json`` and ``special_tokens_map.json``, each atomically.

    Args:
        folder: made if it is not there.
        tokenizer_json: the tokenizer; what it adds to a text is replaced.
        tokens: its special tokens.
        prepend_bos: whether every text begins with the beginning-of-text token.
        extra: further entries of ``tokenizer_config.json``.

    Raises:
        TokenizerError: ``prepend_bos`` without a beginning-of-text token.
    """
    tokenizer = Tokenizer.from_str(tokenizer_json)
    bos_id = tokenizer.token_to_id(tokens.bos) if tokens.bos is not None else None
    if prepend_bos and bos_id is None:
        raise TokenizerError("prepend_bos needs a beginning-of-text token, and this tokenizer has none")
    single, pair = ("$A", "$A $B")
    if prepend_bos:
        single, pair = f"{tokens.bos} $A", f"{tokens.bos} $A {tokens.bos}:1 $B:1"
    template = processors.TemplateProcessing(single, pair, [(tokens.bos, bos_id)] if prepend_bos else [])
    tokenizer.post_processor = template
    special = {"bos_token": tokens.bos, "eos_token": tokens.eod, "unk_token": tokens.unk}
    special = {name: token for name, token in special.items() if token is not None}
    # The general class takes tokenizer.json as it is. `LlamaTokenizer` would rebuild it, with other spaces.
    config = {
        "add_bos_token": prepend_bos,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "tokenizer_class": "PreTrainedTokenizerFast",
        **(extra or {}),
        **special,
    }
    write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
    write_text(folder / "tokenizer_config.json", json.dumps(config, ensure_ascii=False, indent=2) + "\n")
    write_text(folder / "special_tokens_map.json", json.dumps(special, ensure_ascii=False, indent=2) + "\n")


def byte_letters() -> list[str]:
    """Return the printable character that stands for each byte in byte-level vocabularies (GPT-2's table).

    Printable Latin-1 characters stand for themselves; the others get the characters from U+0100 on, in order.
    """
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(256 + others.index(byte)) for byte in range(256)]
