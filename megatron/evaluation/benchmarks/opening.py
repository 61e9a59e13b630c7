"""Opens the translator that a command line names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from megatron.config.benchmark_load import load_benchmark
from megatron.evaluation.benchmarks.manifest import BenchmarkDataError
from megatron.evaluation.benchmarks.translators import ModelTranslator, TranslationTable, Translator
from megatron.evaluation.language_model import LanguageModel
from megatron.utils.log import get_logger

logger = get_logger(__name__)

# The definition that says what languages are called to language models, and in which script they are wanted.
_NAMED_IN = "flores200-from-eng"


def open_translator(
    table: Path | None,
    seq2seq: Path | None,
    model: Path | None,
    *,
    examples: Path | None = None,
    codes: Sequence[str] = (),
    device: str = "cpu",
) -> Translator:
    """Return the one translator that is named.

    Args:
        table: a file of given translations.
        seq2seq: a folder of a Hugging Face model with an encoder and a decoder.
        model: a language model: Hugging Face folder, checkpoint or run.
        examples: a file of translations that a language model is shown.
        codes: ``corpus code=own code`` of a seq2seq model.
        device: of a seq2seq model.

    Raises:
        BenchmarkDataError: none or several are named, or it cannot be opened.
    """
    if sum(each is not None for each in (table, seq2seq, model)) != 1:
        raise BenchmarkDataError("name one translator: a table, a seq2seq model or a language model")
    if table is not None:
        found = TranslationTable(table)
        if found.dropped:
            logger.warning("%s: lines left out: %s", table, dict(found.dropped))
        return found
    if seq2seq is not None:
        from megatron.evaluation.benchmarks.seq2seq import Seq2SeqTranslator

        pairs = [code.partition("=") for code in codes]
        if wrong := [code for code, (_, equals, _) in zip(codes, pairs, strict=True) if not equals]:
            raise BenchmarkDataError(f"codes must be like kor_Kore=kor_Hang, not {', '.join(wrong)}")
        return Seq2SeqTranslator(seq2seq, codes={ours: own for ours, _, own in pairs}, device=device)
    assert model is not None
    return _language_model(model, None if examples is None else TranslationTable(examples))


def _language_model(place: Path, examples: TranslationTable | None) -> ModelTranslator:
    """Open a model on this process alone: on a GPU in bfloat16 where there is one, else on the CPU."""
    import torch

    from megatron.checkpoint.folder import open_folder
    from megatron.config.layout import Layout
    from megatron.evaluation.engine_model import identity_of, open_engine_model
    from megatron.parallel.mesh import Mesh
    from megatron.parallel.parallelize import Execution
    from megatron.parallel.process import Peers, World

    has_gpu = torch.cuda.is_available()
    mesh = Mesh(Layout(), World(rank=0, size=1, device=torch.device("cuda" if has_gpu else "cpu")))
    execution = Execution(torch.bfloat16 if has_gpu else torch.float32)
    folder = open_folder(place)
    model = open_engine_model(folder, mesh=mesh, peers=Peers(), execution=execution)
    identity = identity_of(folder, name=place.name, precision=str(execution.dtype))
    return ModelTranslator(
        cast(LanguageModel, model),
        f"{identity['name']} {identity['weights']}",
        examples=examples,
        language_names=load_benchmark(_NAMED_IN).language_names,
    )
