"""Opens a trained model from whatever folder holds it: a Hugging Face folder, a checkpoint, or a run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from megatron.checkpoint import hf
from megatron.checkpoint.restore import load
from megatron.checkpoint.storage import LocalStorage, Storage, fetched, open_storage
from megatron.checkpoint.store import CheckpointError, find_checkpoint, read_state
from megatron.config.architecture import Architecture, RopeScaling
from megatron.model.llama import Llama
from megatron.parallel.process import Peers
from megatron.tokenizer.base import Tokenizer
from megatron.tokenizer.load import load_model_file, load_tokenizer


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A model with the tokenizer that belongs to it.

    Attributes:
        model: float32 on the asked device, in evaluation mode.
        tokenizer: its tokenizer.
        first_id: the id that starts a text: bos, or the end of the document before.
        end_ids: the ids that end a text.
        prepend_bos: whether texts begin with the tokenizer's bos id.
        place: the folder that it came from.
    """

    model: Llama
    tokenizer: Tokenizer
    first_id: int
    end_ids: tuple[int, ...]
    prepend_bos: bool
    place: Storage


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """What is known of a model before its weights are read.

    Attributes:
        architecture: its shape.
        tokenizer: as in :class:`TrainedModel`, like all that follow.
        first_id: see there.
        end_ids: see there.
        prepend_bos: see there.
        place: see there.
        step: optimizer steps of a checkpoint; None of a Hugging Face folder.
    """

    architecture: Architecture
    tokenizer: Tokenizer
    first_id: int
    end_ids: tuple[int, ...]
    prepend_bos: bool
    place: Storage
    step: int | None

    def load_into(self, model: Llama, *, peers: Peers | None = None) -> None:
        """Fill a model, or this process's part of one, with the weights; every process must call this.

        Raises:
            ValueError: the weights are incomplete or damaged.
        """
        if self.step is not None:
            load(self.place, model=model, optimizer=None, peers=peers)
        else:
            assert isinstance(self.place, LocalStorage)
            hf.load_weights(model, self.place.path)


def open_folder(place: str | Path, *, peers: Peers | None = None) -> ModelFolder:
    """Open a Hugging Face folder, a checkpoint, or the newest checkpoint of a run's ``save`` folder.

    Checkpoints and runs may also lie in an object store (``s3://bucket/run``).

    Args:
        place: the folder.
        peers: the processes that open it together, each of which must call this: the main one says which checkpoint is
            meant, since a run that is still being trained may save another one meanwhile. None for this one alone.

    Raises:
        ValueError: it is none of them, or incomplete or damaged.
    """
    meant = (peers or Peers()).from_main(lambda: _meant(place))
    if isinstance(meant, Path):
        return _open_hf(meant)
    checkpoint = open_storage(meant)
    state = read_state(checkpoint)
    with stored_tokenizer(checkpoint, state) as tokenizer:
        info: dict[str, Any] = state["tokenizer"]
    prepend_bos = bool(info["prepend_bos"])
    first_id = info["bos_id"] if prepend_bos else info["eod_id"]
    ends = (int(info["eod_id"]),)
    return ModelFolder(
        stored_architecture(state), tokenizer, first_id, ends, prepend_bos, checkpoint, int(state["step"])
    )


def _meant(place: str | Path) -> Path | str:
    """Return a Hugging Face folder as a path, or the name of a checkpoint."""
    if "://" not in str(place):
        folder = Path(place)
        if not folder.is_dir():
            raise CheckpointError(f"{folder} is no folder")
        if (folder / "config.json").exists():
            return folder
    return str(find_checkpoint(open_storage(place)))


def open_model(place: str | Path, *, device: torch.device) -> TrainedModel:
    """Open a model of any of the kinds that :func:`open_folder` takes, in one process.

    Raises:
        ValueError: as there.
    """
    folder = open_folder(place)
    model = Llama.empty(folder.architecture, device=device).eval()
    folder.load_into(model)
    return TrainedModel(
        model, folder.tokenizer, folder.first_id, folder.end_ids, folder.prepend_bos, folder.place
    )


@contextmanager
def stored_tokenizer(checkpoint: Storage, state: dict[str, Any]) -> Iterator[Tokenizer]:
    """Give the tokenizer that a checkpoint holds; it can be saved elsewhere as long as this lasts.

    Raises:
        ValueError: there is none, or it is not the one that the run was trained with.
    """
    if not state.get("tokenizer"):
        raise CheckpointError(f"{checkpoint} holds no tokenizer")
    info: dict[str, Any] = state["tokenizer"]
    with fetched(checkpoint, [f"tokenizer/{name}" for name in (checkpoint / "tokenizer").names()]) as folder:
        vocabulary = folder / "tokenizer" / Path(str(state["tokenizer_file"])).name
        tokenizer = load_tokenizer(info["kind"], vocabulary, eod_id=info["eod_id"])
        if tokenizer.fingerprint != info["fingerprint"]:
            raise CheckpointError(f"{vocabulary.name} is not the tokenizer that {checkpoint} was trained with")
        yield tokenizer


def _open_hf(folder: Path) -> ModelFolder:
    tokenizer, prepend_bos = hf_tokenizer(folder)
    bos_id = tokenizer.bos_id
    first_id = bos_id if prepend_bos and bos_id is not None else tokenizer.eod_id
    return ModelFolder(
        Architecture.from_folder(folder),
        tokenizer,
        first_id,
        _end_ids(folder, tokenizer),
        prepend_bos,
        LocalStorage(folder),
        None,
    )


def hf_tokenizer(folder: Path) -> tuple[Tokenizer, bool]:
    """Return the tokenizer of a Hugging Face folder, and whether its texts begin with bos.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    if (folder / "tokenizer.json").exists():
        tokenizer = load_tokenizer("HFTokenizer", folder / "tokenizer.json")
        # The file itself says whether a text begins with bos.
        return tokenizer, _begins_with(folder / "tokenizer.json", tokenizer.bos_id)
    if not (folder / "tokenizer.model").is_file():
        raise CheckpointError(f"{folder} holds no tokenizer: neither tokenizer.json nor tokenizer.model")
    tokenizer = load_model_file(folder / "tokenizer.model")
    return tokenizer, tokenizer.bos_id is not None


def _begins_with(path: Path, bos_id: int | None) -> bool:
    import tokenizers

    return bos_id is not None and tokenizers.Tokenizer.from_file(str(path)).encode("").ids[:1] == [bos_id]


def _end_ids(folder: Path, tokenizer: Tokenizer) -> tuple[int, ...]:
    ends = {tokenizer.eod_id}
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        if path.exists():
            value = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
            ends.update(value if isinstance(value, list) else [] if value is None else [value])
    return tuple(sorted(ends))


def stored_architecture(state: dict[str, Any]) -> Architecture:
    """Return the model's shape, as ``state.json`` has it."""
    stored = state["architecture"]
    scaling = stored.get("rope_scaling")
    return Architecture(**{**stored, "rope_scaling": None if scaling is None else RopeScaling(**scaling)})
