"""GPT-NeoX's keys turned into this project's: the table of ``keys.py`` applied to what the user wrote."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from megatron.config.fields import as_number
from megatron.config.keys import LATER_KEYS, NEOX_KEYS, REJECTED_VALUES, NeoxKey, Status
from megatron.config.problems import Problem, did_you_mean, shown
from megatron.config.read import Entry
from megatron.config.schema import SECTION_OF_KEY


@dataclasses.dataclass
class Translation:
    """What is left of the user's entries: only keys of the schema, and what there is to say about the rest."""

    entries: dict[str, Entry]
    problems: list[Problem] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)

    def reject(self, key: str, entry: Entry, rule: str, fix: str) -> None:
        """Note that the entry cannot be used."""
        self.problems.append(Problem(entry.where, key, rule, fix, entry.value))

    def warn(self, key: str, entry: Entry, text: str) -> None:
        """Note something that the user should know but need not change."""
        self.warnings.append(f"{entry.where}: {key} = {shown(entry.value)} {text}")


def translate(entries: Mapping[str, Entry]) -> Translation:
    """Apply the key table. An entry whose value is null counts as not given, as in GPT-NeoX."""
    given = {key: entry for key, entry in entries.items() if entry.value is not None}
    result = Translation({key: entry for key, entry in given.items() if key in SECTION_OF_KEY})
    for key, entry in given.items():
        if key in SECTION_OF_KEY:
            continue
        neox = NEOX_KEYS.get(key) or LATER_KEYS.get(key)
        if neox is None:
            fix = did_you_mean(key, (*SECTION_OF_KEY, *NEOX_KEYS)) or "Remove it; docs/configuration.md lists all keys."
            result.reject(key, entry, "is not a known key", fix)
        elif neox.status is not Status.RENAMED:
            _judge(neox, entry, result)
    renamings = (
        *(_precision, _adam, _zero, _gated_width, _plain_names, _overridden_weights, _without_effect, _launcher),
    )
    for rename in renamings:
        rename(given, result)
    _refuse_known_values(result)
    return result


def _judge(neox: NeoxKey, entry: Entry, result: Translation) -> None:
    """Let a fixed, ignored or rejected key pass, with or without a word, or refuse it."""
    harmless = _HARMLESS.get(neox.name, _is_switched_off)
    if any(_same(entry.value, value) for value in neox.accepts) or harmless(entry.value):
        return
    if neox.status is Status.IGNORED:
        result.warn(neox.name, entry, f"is ignored: {neox.note}")
        return
    choices = " or ".join(repr(value) for value in neox.accepts if value is not None)
    fix = f"Remove the key, or set it to {choices}." if choices else "Remove the key."
    late = neox.note.startswith("not supported yet")
    result.reject(neox.name, entry, neox.note if late else f"is not possible: {neox.note}", fix)


def _same(given: Any, value: object) -> bool:
    """Compare as the YAML surface does: any letter case, ``1e-5`` is a number, and booleans are no numbers."""
    if isinstance(given, str) and isinstance(value, str):
        return given.lower() == value.lower()
    given = as_number(given)
    return isinstance(given, bool) == isinstance(value, bool) and given == value


def _is_switched_off(value: Any) -> bool:
    """Tell whether a value is one of DeepSpeed's ``{enabled: false}`` mappings, or an empty one."""
    return isinstance(value, dict) and (not value or value.get("enabled") is False)


def _is_dense_attention(value: Any) -> bool:
    """Tell whether every layer type in ``[[["flash"], 32]]`` or ``["global", "flash"]`` is dense causal attention."""
    if isinstance(value, list):
        return bool(value) and all(_is_dense_attention(item) for item in value)
    if isinstance(value, str):
        return value.lower() in ("global", "flash", "all")
    return isinstance(value, int) and not isinstance(value, bool)


_HARMLESS: Mapping[str, Callable[[Any], bool]] = MappingProxyType({"attention_config": _is_dense_attention})

_ZERO_OFFLOADS = frozenset({"cpu_offload", "cpu_offload_params", "offload_optimizer", "offload_param"})
_ZERO_DETAILS = frozenset(
    {
        *("allgather_bucket_size", "allgather_partitions", "contiguous_gradients", "elastic_checkpoint"),
        *("grad_hooks", "ignore_unused_parameters", "load_from_fp32_weights", "overlap_comm", "reduce_bucket_size"),
        *("reduce_scatter", "round_robin_gradients", "stage3_gather_16bit_weights_on_model_save"),
        *("stage3_max_live_parameters", "stage3_max_reuse_distance", "stage3_param_persistence_threshold"),
        *("stage3_prefetch_bucket_size", "sub_group_size"),
    }
)


def _zero(given: Mapping[str, Entry], result: Translation) -> None:
    """Leave out of ``zero_optimization`` what only says how DeepSpeed goes about it, and what is switched off."""
    entry = given.get("zero_optimization")
    if entry is None or not isinstance(entry.value, dict):
        return
    details = _ZERO_DETAILS & entry.value.keys()
    idle = {key for key in _ZERO_OFFLOADS & entry.value.keys() if _offloads_nothing(entry.value[key])}
    kept = {key: value for key, value in entry.value.items() if key not in details | idle}
    if kept.get("enabled") is False:
        kept = {}
    if offloads := sorted(_ZERO_OFFLOADS & kept.keys()):
        rule = f"{offloads[0]}: not supported yet: nothing is moved to the host"
        result.reject("zero_optimization", entry, rule, f"Remove {' and '.join(offloads)}; stage 3 saves most memory.")
        kept = {key: value for key, value in kept.items() if key not in offloads}
    result.entries["zero_optimization"] = dataclasses.replace(entry, value=kept)
    if details and not _same(kept.get("stage", 0), 0):
        text = "are ignored: PyTorch sends a block's tensors together, and overlaps messages with computation by itself"
        result.warnings.append(f"{entry.where}: zero_optimization: {', '.join(sorted(details))} {text}")


def _offloads_nothing(value: Any) -> bool:
    return value is False or value is None or (isinstance(value, dict) and value.get("device", "none") == "none")


def _precision(given: Mapping[str, Entry], result: Translation) -> None:
    """Fold ``fp16: {enabled}`` and ``bf16: {enabled}`` into ``precision``."""
    for key, precision in (("fp16", "fp16"), ("bf16", "bfloat16")):
        entry = given.get(key)
        if entry is None:
            continue
        enabled = entry.value.get("enabled", False) if isinstance(entry.value, dict) else None
        if not isinstance(enabled, bool):
            result.reject(key, entry, "is not a mapping with `enabled: true` or `enabled: false`", "Use precision.")
            continue
        named = result.entries.get("precision")
        matches = named is not None and _same(named.value, precision)
        if named is not None and matches != enabled:
            rule = f"contradicts precision = {shown(named.value)} ({named.where})"
            result.reject(key, entry, rule, f"Remove {key}.")
        elif named is None and enabled:
            result.entries["precision"] = Entry(precision, entry.where)


def _adam(given: Mapping[str, Entry], result: Translation) -> None:
    """Fold ``optimizer_type`` into ``optimizer``."""
    entry = given.get("optimizer_type")
    if entry is None:
        return
    written = given["optimizer"].value if "optimizer" in given else {}
    if not isinstance(written, dict):
        return
    if "type" in written and not _same(written["type"], entry.value):
        rule = f"contradicts optimizer.type = {shown(written['type'])}"
        result.reject("optimizer_type", entry, rule, "Remove optimizer_type.")
        return
    optimizer = given.get("optimizer", Entry({}, entry.where))
    result.entries["optimizer"] = dataclasses.replace(optimizer, value={**written, "type": entry.value})


def _gated_width(given: Mapping[str, Entry], result: Translation) -> None:
    """Translate GPT-NeoX's ``intermediate_size``, which its ``mlp_multiple_of`` or ``expansion_factor`` betrays.

    GPT-NeoX splits two thirds of the number between the gate and the other branch, and rounds each up to a multiple
    of ``mlp_multiple_of`` (``megatron/model/transformer.py``).
    """
    signs = [key for key in ("mlp_multiple_of", "expansion_factor") if key in given]
    if not signs:
        return
    multiple = _number_of(given, "mlp_multiple_of", result, whole=True, default=1)
    factor = _number_of(given, "expansion_factor", result, whole=False, default=4)
    total = _number_of(given, "intermediate_size", result, whole=True, default=None)
    hidden = _number_of(given, "hidden_size", result, whole=True, default=None)
    if total is None and hidden is not None and factor is not None:
        total = int(factor * hidden)
    if total is None or multiple is None:
        return
    branch = math.ceil((int(total * 2 / 3) // 2) / multiple) * int(multiple)
    source = given.get("intermediate_size", given[signs[0]])
    result.entries["intermediate_size"] = Entry(branch, source.where)
    text = (
        f"means GPT-NeoX's feed-forward width, {int(total)}; each branch has {branch}. "
        f"Write `intermediate_size: {branch}` and leave out {' and '.join(signs)} to silence this"
    )
    result.warn(signs[0], given[signs[0]], text)


def _number_of(
    given: Mapping[str, Entry], key: str, result: Translation, *, whole: bool, default: float | None
) -> float | None:
    """Return a positive number, the default when the key is absent, or None (and a problem) when it is no number."""
    if key not in given:
        return default
    value = as_number(given[key].value)
    kind = int if whole else (int, float)
    if isinstance(value, kind) and not isinstance(value, bool) and 0 < value < math.inf:
        return value
    if key not in SECTION_OF_KEY:  # the schema reports its own keys
        result.reject(key, given[key], f"is not a positive {'whole ' if whole else ''}number", "Change or remove it.")
    return None


def _plain_names(given: Mapping[str, Entry], result: Translation) -> None:
    """Give keys that only changed their name the new one."""
    for old, new in (("batch_size", "train_micro_batch_size_per_gpu"), ("clip_grad", "gradient_clipping")):
        entry = given.get(old)
        if entry is None:
            continue
        if new in given and not _same(entry.value, given[new].value):
            rule = f"contradicts {new} = {shown(given[new].value)} ({given[new].where})"
            result.reject(old, entry, rule, f"Remove {old}.")
        else:
            result.entries.setdefault(new, entry)


def _overridden_weights(given: Mapping[str, Entry], result: Translation) -> None:
    """Leave out weights that ``weight_by_num_documents`` overrides, as GPT-NeoX documents it."""
    by_documents, weights = given.get("weight_by_num_documents"), given.get("train_data_weights")
    if by_documents is not None and weights is not None and by_documents.value is True:
        result.warn("train_data_weights", weights, "is overridden by weight_by_num_documents")
        del result.entries["train_data_weights"]


_ONLY_WITH: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "split": ("data_path",),
        "weighted_sampler_alpha": ("weight_by_num_documents",),
        "eval_iters": ("train_data_paths", "data_path"),
    }
)


def _without_effect(given: Mapping[str, Entry], result: Translation) -> None:
    """Leave out what says something about shards that are named in another way; GPT-NeoX files often have it."""
    for key, needed in _ONLY_WITH.items():
        if key in given and not any(other in given and given[other].value for other in needed):
            if key == "eval_iters":
                result.warn(key, given[key], "is ignored: what a manifest holds out is scored whole")
            elif not _same(given[key].value, NEOX_KEYS[key].default):
                result.warn(key, given[key], f"has no effect without {' or '.join(needed)}")
            del result.entries[key]


_LAUNCHERS: Mapping[str, str] = MappingProxyType(
    {"pdsh": "ssh", "openmpi": "mpi", "mvapich": "mpi", "mpich": "mpi", "impi": "mpi"}
)


def _launcher(given: Mapping[str, Entry], result: Translation) -> None:
    """Give GPT-NeoX's launchers the names that they have here, and leave out its way to say "all machines"."""
    entry = given.get("launcher")
    if entry is not None and isinstance(entry.value, str):
        value = _LAUNCHERS.get(entry.value.lower(), entry.value)
        result.entries["launcher"] = dataclasses.replace(entry, value=value)
    if "num_nodes" in given and _same(given["num_nodes"].value, -1):
        del result.entries["num_nodes"]


def _refuse_known_values(result: Translation) -> None:
    """Give the reason for values that GPT-NeoX has and this project has not, instead of a bare list of choices."""
    for name, entry in list(result.entries.items()):
        value, key = entry.value, name
        if name == "optimizer" and isinstance(value, dict):
            value, key = value.get("type"), "optimizer.type"
        reason = REJECTED_VALUES.get((key, value.lower())) if isinstance(value, str) else None
        if reason is None:
            continue
        if reason.startswith("not supported yet"):
            rule, fix = reason, "Remove the key"
        else:
            rule, _, fix = reason.partition(": ")
        where = entry.place(key.split(".")[1:])
        result.problems.append(Problem(where, key, rule, f"{fix[0].upper()}{fix[1:]}.", value))
        if name == "optimizer":  # what else is in it is still checked
            rest = {inner: given for inner, given in entry.value.items() if inner != "type"}
            result.entries[name] = dataclasses.replace(entry, value=rest)
        else:
            del result.entries[name]

