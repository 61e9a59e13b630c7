"""From YAML files and ``key=value`` arguments to one :class:`schema.Config`, and back to a resolved file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from megatron.config.check import broken_rules
from megatron.config.fields import Section
from megatron.config.problems import ABSENT, ConfigError, Problem
from megatron.config.read import Entry, apply_overrides, read_files
from megatron.config.schema import SECTIONS, SHAPE_KEYS, Config
from megatron.config.translate import translate
from megatron.config.validation import problem_of
from megatron.utils.files import fingerprint_bytes, write_text
from megatron.utils.log import get_logger

_logger = get_logger(__name__)


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which gives U+0085 other white space around it unless it is in double quotes."""

    def represent_scalar(self, tag: str, value: str, style: str | None = None) -> yaml.ScalarNode:
        return super().represent_scalar(tag, value, style='"' if "\x85" in value else style)


def load(files: Sequence[str | Path], overrides: Sequence[str] = ()) -> Config:
    """Read a run's configuration.

    Args:
        files: YAML files, merged at the top level; the suffix ``.yml`` may be left out.
        overrides: ``key=value`` arguments, which win over the files; ``optimizer.params.lr=1e-4`` reaches inside.

    Raises:
        ConfigError: lists every problem of all files and arguments. Next to a file that cannot be read only those that
            its keys could not mend.
    """
    entries, problems = read_files(files)
    problems += apply_overrides(entries, overrides)
    return Config(**_resolve(entries, problems, SECTIONS))  # type: ignore[arg-type]


def load_sections(files: Sequence[str | Path], overrides: Sequence[str], names: Collection[str]) -> dict[str, Section]:
    """Read some sections of a configuration, for tools that need no more; the keys of the others may be absent.

    Args:
        files: as for :func:`load`.
        overrides: as for :func:`load`.
        names: the sections, such as ``data``.

    Raises:
        ConfigError: lists every problem of these sections, and every key that no section knows.
    """
    entries, problems = read_files(files)
    problems += apply_overrides(entries, overrides)
    return _resolve(entries, problems, names)


def config_from(values: Mapping[str, Any]) -> Config:
    """Build a configuration from YAML keys and values in memory, under the same rules as :func:`load`."""
    entries = {key: Entry(value, "") for key, value in values.items()}
    return Config(**_resolve(entries, [], SECTIONS))  # type: ignore[arg-type]


def dump(config: Config) -> str:
    """Return the resolved YAML: every setting with its value, such that loading it gives an equal configuration."""
    return "\n".join(
        f"# {name}\n" + yaml.dump(dict(settings), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
        for name, settings in effective_settings(config).items()
    )


def effective_settings(config: Config) -> dict[str, dict[str, Any]]:
    """Return the plain values of every section, without keys that are absent or that have no effect in this run."""
    idle = _idle_keys(config)
    settings = {}
    for name in SECTIONS:
        section = getattr(config, name).model_dump(mode="json", exclude_none=True)
        settings[name] = _without_empty_lists({key: value for key, value in section.items() if key not in idle})
    return {name: section for name, section in settings.items() if section}


def _idle_keys(config: Config) -> set[str]:
    """Return the keys that have no effect in this run; none of them was given, or loading would have said so."""
    data = config.data
    idle: set[str] = set() if config.train.checkpoint_activations else {"checkpoint_mode"}
    idle |= set() if config.checkpoint.save is not None else {"async_checkpoint", "max_failed_saves"}
    if not config.logging.use_wandb:
        idle |= {"wandb_project", "wandb_team", "wandb_group", "wandb_run_name", "wandb_host"}
    idle |= set() if config.logging.profile else {"profile_step_start", "profile_step_stop", "profile_ranks"}
    idle |= set() if config.new_tokens.are_named else {"new_tokens_only_steps"}
    idle |= set() if config.parallel.model_parallel_size > 1 else {"sequence_parallel"}
    idle |= set() if config.parallel.pipe_parallel_size > 1 else {"pipe_schedule", "pipe_chunks"}
    # Beside a folder the given shape keys stay, for every process that reads the resolved file to compare.
    idle |= set(SHAPE_KEYS) - config.model.model_fields_set if config.model.hf_model is not None else {"load_weights"}
    if not data.train_data_paths:
        idle.add("weight_by_num_documents")
    if not data.weight_by_num_documents:
        idle.add("weighted_sampler_alpha")
    if data.data_path is None:
        idle.add("split")
        if not data.train_data_paths:
            idle.add("eval_iters")
    return idle


def _without_empty_lists(value: Any) -> Any:
    """Leave lists without entries out of mappings, however deep inside: not to give them means the same."""
    if isinstance(value, dict):
        return {key: _without_empty_lists(inner) for key, inner in value.items() if inner != []}
    return [_without_empty_lists(inner) for inner in value] if isinstance(value, list) else value


def resolved_name(config: Config) -> str:
    """Return the file name of the resolved configuration, ``resolved-<8 hexadecimal digits>.yml``."""
    return f"resolved-{fingerprint_bytes(dump(config).encode())[:8]}.yml"


def write_resolved(config: Config, path: Path) -> None:
    """Write :func:`dump`'s text to ``path``, atomically."""
    write_text(path, dump(config))


def _resolve(entries: Mapping[str, Entry], problems: list[Problem], names: Collection[str]) -> dict[str, Section]:
    """Return the sections of these names; the rules that need a key of another section do not run."""
    translation = translate(entries)
    problems += translation.problems
    for warning in dict.fromkeys(translation.warnings):
        _logger.warning("%s", warning)
    given = translation.entries
    complete = not any(problem.hides_keys for problem in problems)
    refused = {problem.key.split(".")[0] for problem in problems}
    sections: dict[str, Section] = {}
    values: dict[str, Any] = {}
    for name, section in SECTIONS.items():
        if name not in names:
            continue
        written = {key: entry.value for key, entry in given.items() if key in section.model_fields}
        try:
            sections[name] = section.model_validate(written)
            values.update(dict(sections[name]))
        except ValidationError as error:
            found = [problem_of(details, section, given) for details in error.errors()]
            # A key that was refused before is not also missing, nor is one that may be in a file that was not read.
            problems += [
                problem
                for problem in found
                if problem.value is not ABSENT or (problem.key not in refused and (complete or problem.where))
            ]
            bad = {str(details["loc"][0]) for details in error.errors()}
            values.update(_good_values(section, written, bad))
    # Keys that were given, but refused for their value, are no defaults either.
    for key in refused - given.keys():
        values.pop(key, None)
    everything = {**{key: entries[key] for key in refused & entries.keys()}, **given}
    problems += broken_rules(values, everything, complete=complete)
    if problems:
        raise ConfigError(problems)
    return sections


def _good_values(section: type[Section], written: Mapping[str, Any], bad: set[str]) -> dict[str, Any]:
    """Return the values of a section's sound fields, so that rules about them still run."""
    values = {}
    for name, field in section.model_fields.items():
        if name in bad:
            continue
        if name in written:
            values[name] = TypeAdapter(field.rebuild_annotation()).validate_python(written[name])
        else:
            values[name] = field.get_default(call_default_factory=True)
    return values
