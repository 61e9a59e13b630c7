"""From YAML files and ``key=value`` arguments to the settings of the corpus pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from megatron.config.corpus_schema import CorpusConfig
from megatron.config.problems import ConfigError, Problem
from megatron.config.read import apply_overrides, read_files
from megatron.config.validation import problem_of

_FOLDERS_OF_THE_PIPELINE = ("work", "text")


def load_corpus(files: Sequence[str | Path], overrides: Sequence[str] = ()) -> CorpusConfig:
    """Read the settings of the corpus pipeline.

    Args:
        files: YAML files, merged at the top level; the suffix ``.yml`` may be left out.
        overrides: ``key=value`` arguments, which win over the files; ``dedup.near=false`` reaches inside.

    Raises:
        ConfigError: lists every problem of all files and arguments.
    """
    entries, problems = read_files(files)
    problems += apply_overrides(entries, overrides)
    try:
        config = CorpusConfig.model_validate({key: entry.value for key, entry in entries.items()})
    except ValidationError as error:
        problems += [problem_of(details, CorpusConfig, entries) for details in error.errors()]
    if problems:
        raise ConfigError(problems)
    if problems := list(_broken_rules(config)):
        raise ConfigError(problems)
    return config


def _broken_rules(config: CorpusConfig) -> Iterator[Problem]:
    """Find what no single key can say."""
    seen: set[str] = set()
    for number, tokenizer in enumerate(config.tokenise):
        key, value = f"tokenise.{number}.output", tokenizer.output
        path = Path(value)
        if path.is_absolute() or ".." in path.parts or not path.parts or path.parts[0] in _FOLDERS_OF_THE_PIPELINE:
            rule = "is not a folder of its own inside the output folder"
            yield Problem("", key, rule, "Give a name, such as shards-llama2.", value)
        if value in seen:
            yield Problem("", key, "is given twice", "Each tokenizer needs a folder of its own.", value)
        seen.add(value)
    output = Path(config.output).resolve()
    for number, each in enumerate(config.inputs):
        path = Path(each.path).resolve()
        if path == output or output in path.parents or path in output.parents:
            rule = "and the output folder lie in one another, so the pipeline would read what it writes"
            yield Problem("", f"inputs.{number}.path", rule, "Choose another output.", each.path)
