"""Texts that a GPU writes: those of a loop without a cache, and those of the CPU."""

from __future__ import annotations

import random

import pytest
import torch

from megatron.config.architecture import Architecture
from megatron.generate.options import GenerationOptions
from megatron.generate.sampling import Sampling
from megatron.generate.writer import TextWriter
from megatron.model.llama import Llama
from megatron.parallel.engine import Engine

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]
SHAPE = Architecture(8_000, 512, 1_376, 4, 8, 2, 64, 512, initializer_range=0.1)


def written(model: Llama, sampling: Sampling, *, batch_size: int, dtype: torch.dtype) -> list[list[int]]:
    chance = random.Random(0)
    prompts = [[chance.randrange(3, 8_000) for _ in range(chance.randint(0, 120))] for _ in range(20)]
    writer = TextWriter(
        Engine.alone(model, dtype=dtype), None, first_id=1, end_ids=range(2, 200), batch_size=batch_size  # type: ignore[arg-type]
    )  # fmt: skip
    return [text.tokens for text in writer.write_ids(prompts, GenerationOptions(40, sampling=sampling))]


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.0, top_p=0.9)])
def test_a_gpu_writes_what_a_cpu_writes(sampling: Sampling) -> None:
    model = Llama(SHAPE).double()
    model.init_weights(seed=1)
    on_cpu = written(model, sampling, batch_size=16, dtype=torch.float64)
    model.cuda()
    for batch_size in (1, 16):
        assert written(model, sampling, batch_size=batch_size, dtype=torch.float64) == on_cpu


def test_bfloat16_follows_the_model_without_a_cache() -> None:
    model = Llama(SHAPE).cuda()
    model.init_weights(seed=1)
    chance = random.Random(0)
    prompt = [chance.randrange(3, 8_000) for _ in range(60)]
    writer = TextWriter(Engine.alone(model, dtype=torch.bfloat16), None, first_id=1, end_ids=[])  # type: ignore[arg-type]
    [text, *_] = writer.write_ids([prompt, prompt[:9], prompt[:31]], GenerationOptions(40))
    with torch.no_grad():
        logits = model(torch.tensor([[1, *prompt, *text.tokens]], device="cuda"))[0, len(prompt) : -1]
    taken = logits.gather(1, torch.tensor(text.tokens, device="cuda").unsqueeze(1)).squeeze(1)
    assert bool((logits.max(1).values - taken < 0.05 * logits.std()).all())  # the likeliest, or nearly so
