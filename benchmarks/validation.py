#!/usr/bin/env python3
"""What it costs to follow every language in the course of a run.

Held-out text of many corpora is scored as training does it, all of it in one go, beside the same code asked for one
corpus after the other. ``step tokens`` says how many tokens are trained on in the time of one scored token, and ``% of
EMMA-500`` what that comes to there: 16 KiB of each of 546 languages every 100 steps of 16.8 million tokens. Lengths of
documents and tokens per byte are those of the Universal Declaration of Human Rights in 279 languages, by Llama 2's
tokenizer: articles of 160 tokens in the median, 2.05 bytes a token.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import Comparison, alternate, parse_arguments, show, small_llama

from megatron.data.indexed import ShardWriter
from megatron.data.manifest import ShardInfo, TokenizerInfo
from megatron.evaluation.bits_per_byte import HeldOutSet
from megatron.model.llama import Llama
from megatron.model.micro_batch import MicroBatch
from megatron.optim.adamw import build_adamw
from megatron.parallel.engine import Engine
from megatron.train.step import TrainStep
from megatron.utils.log import setup_logging

VOCABULARY, LENGTH, ROWS = 32_000, 1024, 4
CORPORA, BYTES_EACH, BYTES_PER_TOKEN = 546, 16_384, 2.05
STEP_TOKENS, STEPS_BETWEEN = 4096 * 4096, 100
_MEDIAN_TOKENS, _SPREAD = 160, 0.6


def write_shards(folder: Path, corpora: int, tokens_each: int) -> list[ShardInfo]:
    """Write held-out shards of so many random tokens each."""
    random = np.random.default_rng(0)
    shards = []
    for number in range(corpora):
        code = "".join(chr(97 + number // 26**place % 26) for place in range(3))
        documents = tokens = 0
        with ShardWriter(folder / f"{code}_{number}", dtype=np.uint16) as writer:
            while tokens < tokens_each:
                length = max(4, min(4 * LENGTH, round(_MEDIAN_TOKENS * float(random.lognormal(0, _SPREAD)))))
                writer.add_document(random.integers(3, VOCABULARY, length).astype(np.uint16))
                documents, tokens = documents + 1, tokens + length
        shards.append(
            ShardInfo(
                name=f"{code}_Latn_{number}", path=f"{code}_{number}", split="valid", source="monolingual",
                language=code, script="Latn", documents=documents, words=tokens, tokens=tokens,
                bytes=round(tokens * BYTES_PER_TOKEN), unk_tokens=0, dtype="uint16", content_hash=writer.content_hash,
            )
        )  # fmt: skip
    return shards


def main() -> None:
    """Run the benchmark."""
    arguments = parse_arguments(__doc__ or "")
    setup_logging()
    model = Llama(small_llama(vocab_size=VOCABULARY, positions=LENGTH))
    model.init_weights(seed=0)
    engine = Engine.alone(model)
    tokenizer = TokenizerInfo("SPMTokenizer", "", VOCABULARY, 2, 1, prepend_bos=False)
    step = TrainStep(
        engine=engine,
        optimizer=build_adamw(model, learning_rate=1e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1),
        learning_rate=lambda _: 1e-4,
        max_gradient_norm=1.0,
    )
    rows = torch.randint(3, VOCABULARY, (ROWS, LENGTH + 1), generator=torch.Generator().manual_seed(0))
    train_seconds: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = write_shards(folder, *((24, 200) if arguments.quick else (48, 400)))
        tokens = sum(shard.tokens - shard.documents for shard in shards)

        def held_out(some: list[ShardInfo]) -> HeldOutSet:
            return HeldOutSet(folder=folder, shards=some, tokenizer=tokenizer, seq_length=LENGTH)

        whole, each = held_out(shards), [held_out([shard]) for shard in shards]

        def all_at_once(_: int) -> None:
            started = time.perf_counter()
            step([MicroBatch(rows[:, :-1], rows[:, 1:], None, None)], step=0)
            train_seconds.append((time.perf_counter() - started) / (ROWS * LENGTH))
            before = time.perf_counter()
            whole.score(engine, batch_tokens=ROWS * LENGTH)
            score_seconds.append((time.perf_counter() - before) / tokens)

        score_seconds: list[float] = []
        each_seconds: list[float] = []

        def one_by_one(_: int) -> None:
            before = time.perf_counter()
            for one in each:
                one.score(engine, batch_tokens=ROWS * LENGTH)
            each_seconds.append((time.perf_counter() - before) / tokens)

        alternate(all_at_once, one_by_one, repetitions=2 if arguments.quick else 5, amount=tokens)
    ratio = statistics.median(score / train for score, train in zip(score_seconds[1:], train_seconds[1:], strict=True))
    probe_tokens = CORPORA * BYTES_EACH / BYTES_PER_TOKEN
    more = {
        "step tokens": ratio,
        "% of EMMA-500": 100 * probe_tokens * ratio / (STEP_TOKENS * STEPS_BETWEEN),
    }
    ours, peer = ([1 / seconds for seconds in found[1:]] for found in (score_seconds, each_seconds))
    line = Comparison(f"{len(shards)} corpora at once", ours, peer, "one after the other", "tokens/s", more)
    show([line], as_json=arguments.json)


if __name__ == "__main__":
    main()
