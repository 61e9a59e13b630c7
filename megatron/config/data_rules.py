"""The rules about which shards are trained on, as :mod:`megatron.config.check` runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from megatron.config.derive import parse_split
from megatron.config.mixture_schema import MixtureConfig
from megatron.config.problems import Complaint


def _one_way_to_name_data(
    data_manifest: str | None, train_data_paths: tuple[str, ...], data_path: str | None
) -> Iterator[Complaint]:
    ways = {"data_manifest": data_manifest, "train_data_paths": train_data_paths, "data_path": data_path}
    first, *others = [key for key, value in ways.items() if value] or [""]
    for key in others:
        yield key, f"is given beside {first}", "Both name what to train on: keep one of the two."


def _weights_fit_paths(
    train_data_paths: tuple[str, ...], train_data_weights: tuple[float, ...]
) -> Iterator[Complaint]:
    if not train_data_weights:
        return
    if not train_data_paths:
        fix = "Shares of the corpora of a manifest are given by mixture."
        yield "train_data_weights", "has no effect without train_data_paths", fix
    elif len(train_data_weights) != len(train_data_paths):
        rule = f"has {len(train_data_weights):,} entries, but train_data_paths has {len(train_data_paths):,}"
        yield "train_data_weights", rule, "Give one weight for each path."
    if not any(train_data_weights):
        yield "train_data_weights", "is 0 throughout, so nothing would be trained on", "Raise a weight."


def _documents_of_what(train_data_paths: tuple[str, ...], weight_by_num_documents: bool) -> Iterator[Complaint]:
    if weight_by_num_documents and not train_data_paths:
        fix = "For the corpora of a manifest, mixture.alpha is the same by tokens."
        yield "weight_by_num_documents", "is true without train_data_paths", fix


def _held_out_beside_what(
    train_data_paths: tuple[str, ...], valid_data_paths: tuple[str, ...]
) -> Iterator[Complaint]:
    if valid_data_paths and not train_data_paths:
        fix = "A manifest lists its own held-out shards, and split cuts data_path: remove valid_data_paths."
        yield "valid_data_paths", "is given without train_data_paths", fix


def _one_way_to_share(
    mixture: MixtureConfig | None, train_data_weights: tuple[float, ...], weight_by_num_documents: bool
) -> Iterator[Complaint]:
    if mixture is None:
        return
    rule, fix = "is given beside mixture, which decides the shares too", "Keep one of the two."
    if weight_by_num_documents:
        yield "weight_by_num_documents", rule, fix
    elif train_data_weights:
        yield "train_data_weights", rule, f"{fix} mixture.weights gives single corpora their shares."


def _split_is_read(split: str) -> Iterator[Complaint]:
    try:
        parse_split(split)
    except ValueError as error:
        yield "split", str(error), "Write it as in `969, 30, 1`."


DATA_RULES: tuple[Callable[..., Iterator[Complaint]], ...] = (
    _one_way_to_name_data,
    _weights_fit_paths,
    _documents_of_what,
    _held_out_beside_what,
    _one_way_to_share,
    _split_is_read,
)
"""All rules of this module."""

DATA_RULES_OF_ABSENCE = (_weights_fit_paths, _documents_of_what, _held_out_beside_what)
"""Those that are broken because a key is not there."""
