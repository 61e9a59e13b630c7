"""The optional back end vLLM, which writes many texts on one machine's GPUs faster than anything here does.

It cannot be run where there is no GPU, and has not been: what is tested is what it is asked for, and what is said where
it is not installed. It pins a PyTorch of its own, so it may need an environment of its own, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megatron.generate.options import GenerationOptions, Written

_INSTALL = "pip install vllm==0.33.0"


class VLLMWriter:
    """Continues prompts with vLLM; stands for :class:`megatron.generate.writer.TextWriter`, in one process.

    Random choices depend on each text's seed alone, as there, but are not the same ones: greedy texts are comparable
    with those of other back ends, up to rounding, random ones only with texts of the same back end and version.

    Args:
        folder: an exported Hugging Face model, with its tokenizer.
        first_id: begins every text.
        end_ids: end a text.
        dtype: to compute in, as vLLM names it.
        num_gpus: how many GPUs divide the model.

    Raises:
        ValueError: vLLM is not installed.
    """

    def __init__(
        self, folder: Path, *, first_id: int, end_ids: Sequence[int], dtype: str = "bfloat16", num_gpus: int = 1
    ) -> None:
        try:
            import vllm
        except ImportError as error:
            raise ValueError(f"writing with vLLM needs vLLM, which is not installed: {_INSTALL}") from error
        self._vllm: Any = vllm
        self._first_id, self._end_ids = first_id, tuple(end_ids)
        self._model = vllm.LLM(model=str(folder), dtype=dtype, tensor_parallel_size=num_gpus)

    def write(
        self, prompts: Sequence[Sequence[int]], options: GenerationOptions, *, show_progress: bool = False
    ) -> list[Written]:
        """Continue every prompt, as :meth:`megatron.generate.writer.TextWriter.write` does."""
        requests = [{"prompt_token_ids": [self._first_id, *prompt]} for prompt in prompts]
        settings = [
            self._vllm.SamplingParams(**sampling_settings(options, index, end_ids=self._end_ids))
            for index in range(len(prompts))
        ]
        answers = self._model.generate(requests, settings, use_tqdm=show_progress)
        return [written_by(answer.outputs[0], end_ids=self._end_ids) for answer in answers]


def sampling_settings(options: GenerationOptions, index: int, *, end_ids: Sequence[int]) -> dict[str, Any]:
    """Return what ``vllm.SamplingParams`` is made from for text ``index`` of a call."""
    sampling = options.sampling
    settings: dict[str, Any] = {
        "max_tokens": options.maximum_tokens,
        "temperature": sampling.temperature,
        "stop": list(options.stop),
        "stop_token_ids": list(end_ids),
        # The model's own files may name other ids; only those that are given end a text.
        "ignore_eos": True,
        "skip_special_tokens": True,
        "spaces_between_special_tokens": False,
    }
    if sampling.is_random:
        settings |= {"top_k": sampling.top_k or -1, "top_p": sampling.top_p or 1.0, "seed": options.seed + index}
    return settings


def written_by(output: Any, *, end_ids: Sequence[int]) -> Written:
    """Return one ``CompletionOutput`` of vLLM as what a model wrote.

    Its ``finish_reason`` is ``length`` or ``stop``; ``stop_reason`` then is the string, or the id, that ended the text.
    """
    tokens = list(output.token_ids)
    if output.finish_reason == "length":
        return Written(output.text, len(tokens), "length")
    if isinstance(output.stop_reason, str):
        return Written(output.text, len(tokens), "stop")
    return Written(output.text, len(tokens) - (tokens[-1:] != [] and tokens[-1] in end_ids), "end")
