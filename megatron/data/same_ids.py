"""Whether a run's tokenizer gives the ids that its pretrained model knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from megatron.tokenizer.load import TOKENIZER_FILES, load_tokenizer, tokenizer_type_of

if TYPE_CHECKING:
    from megatron.config.schema import ModelConfig, TokenizerConfig

_PROBE = "The quick fox; Ärger, ñandú, Їжак, ελιά, שלום, سلام, नमस्ते, ประเทศ, 日本語, 한국어, ሰላም, 12,345.67\n\t</s> x"


def other_ids_problem(section: TokenizerConfig, model: ModelConfig, *, eod_id: int) -> str | None:
    """Return why a pretrained model cannot read a run's ids, or None: where it can, or came without a tokenizer.

    The ids of a text in many scripts are compared: the formats of the two tokenizers may differ, the ids may not.

    Args:
        section: the run's tokenizer, whose file is there.
        model: the run's model.
        eod_id: ends documents.

    Raises:
        TokenizerError: one of the two cannot be loaded.
    """
    if model.hf_model is None or not model.load_weights:
        return None
    folder = Path(model.hf_model)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return None
    kind, file = tokenizer_type_of(folder)
    ours = load_tokenizer(section.tokenizer_type, section.vocab_file, eod_id=eod_id)
    theirs = load_tokenizer(kind, file, eod_id=eod_id)
    if ours.encode(_PROBE) == theirs.encode(_PROBE):
        return None
    return (
        f"vocab_file {section.vocab_file} gives other ids than {file}, the tokenizer of hf_model: its "
        "weights would be of no use. Tokenise with the model's own tokenizer, or set load_weights: false"
    )
