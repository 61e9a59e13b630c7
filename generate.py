#!/usr/bin/env python3
"""Continue prompts with a trained model: a Hugging Face folder, a checkpoint, or a run's save folder."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from megatron.checkpoint.folder import open_folder
from megatron.config.cli import parse_with_run
from megatron.config.schema import Config
from megatron.generate.open import open_vllm_writer, open_writer
from megatron.generate.options import GenerationOptions
from megatron.generate.prompts import Writer, continue_all, read_prompts, write_records
from megatron.generate.sampling import Sampling
from megatron.parallel.precision import compute_dtype
from megatron.parallel.process import Peers, World, joined_world
from megatron.utils.log import setup_logging
from megatron.utils.status import EXIT_MISTAKE


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line; what a configuration says is the default of what the options say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompt", action="append", default=[], help="text to continue; may be given again")
    parser.add_argument("--prompts-file", type=Path, help="prompts, one a line")
    parser.add_argument("--maximum-tokens", type=int, default=64, help="most new tokens (default 64)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0, the default, is greedy")
    parser.add_argument("--top-k", type=int, default=0, help="sample from the k most likely tokens")
    parser.add_argument("--top-p", type=float, default=0.0, help="sample from the tokens that hold this probability")
    parser.add_argument("--num-samples", type=int, default=1, help="texts for each prompt (default 1)")
    parser.add_argument("--stop", action="append", default=[], help="a text ends before it; may be given again")
    parser.add_argument("--batch-size", type=int, default=16, help="most texts at a time (default 16)")
    parser.add_argument("--precision", choices=("fp32", "bfloat16"), default="fp32", help="(default fp32)")
    parser.add_argument("--tensor", type=int, default=1, help="processes that divide every matrix (default 1)")
    parser.add_argument("--backend", choices=("own", "vllm"), default="own", help="what writes (default own)")
    parser.add_argument("--seed", type=int, default=0, help="of the random choices (default 0)")
    parser.add_argument("--output", help="write one JSON object a line here")
    arguments = parse_with_run(parser, argv, defaults_from)
    if "://" in (arguments.output or ""):
        parser.error("give --output: texts are kept in a folder of this machine")
    return arguments


def defaults_from(config: Config) -> dict[str, Any]:
    """Return the options that a run's configuration stands for."""
    section, folder = config.generate, config.checkpoint.save or config.checkpoint.load
    return {
        "model": folder,
        "prompts_file": None if section.sample_input_file is None else Path(section.sample_input_file),
        "maximum_tokens": section.maximum_tokens,
        "temperature": section.temperature,
        "top_k": section.top_k,
        "top_p": section.top_p,
        "num_samples": section.num_samples,
        "stop": list(section.stop_strings),
        "batch_size": section.generation_batch_size,
        "seed": config.train.seed,
        "output": f"{folder or '.'}/{section.sample_output_file}",
        "tensor": config.parallel.model_parallel_size,
    }


def main(argv: list[str]) -> int:
    """Generate, show and write; return the exit status."""
    arguments = parse(argv)
    with joined_world() as world:
        setup_logging(level=logging.INFO if world.is_main else logging.WARNING)
        try:
            return run(arguments, world)
        except ValueError as error:
            if world.is_main:
                sys.stderr.write(f"error: {error}\n")
            return EXIT_MISTAKE


def run(arguments: argparse.Namespace, world: World) -> int:
    """Generate in one process of several: matrices divided as asked for, texts among the rest; the first one writes."""
    peers = Peers(world)
    path: Path | None = arguments.prompts_file
    prompts = arguments.prompt or ([""] if path is None else peers.from_main(lambda: read_prompts(path)))
    sampling = Sampling(arguments.temperature, arguments.top_k, arguments.top_p)
    options = GenerationOptions(arguments.maximum_tokens, tuple(arguments.stop), sampling, arguments.seed)
    folder = open_folder(arguments.model, peers=peers)
    dtype, tensor = compute_dtype(arguments.precision), arguments.tensor
    writer: Writer
    if arguments.backend == "vllm":
        writer = open_vllm_writer(folder, world=world, dtype=dtype, num_gpus=tensor)
    else:
        size = arguments.batch_size
        writer = open_writer(folder, world=world, peers=peers, dtype=dtype, tensor=tensor, batch_size=size)
    records = continue_all(writer, folder.tokenizer, prompts, options, num_samples=arguments.num_samples)
    if not world.is_main:
        return 0
    bold, plain = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("", "")
    for record in records:
        sys.stdout.write(f"{record['prompt']}{bold}{record['output']}{plain}\n")
    if arguments.output is not None:
        write_records(records, Path(arguments.output))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
