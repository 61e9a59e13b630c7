"""Checkpoints on disk: written beside their final place, marked complete, renamed, and only then announced.

A run's folder holds GPT-NeoX's names: ``latest`` (a text file that names the newest checkpoint) and one folder
``global_step<N>`` for each. Inside lie the tensors (PyTorch's distributed checkpoint), ``state.json``, the resolved
configuration, and ``COMPLETE``, which is written last.
"""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load as load_tensors
from torch.distributed.checkpoint.state_dict_saver import save as save_tensors

from megatron.utils.files import atomic_write, fsync_folder, write_text
from megatron.utils.log import get_logger

logger = get_logger(__name__)

_MARKER = "COMPLETE"
_STATE = "state.json"
_LATEST = "latest"
_PREFIX = "global_step"


class CheckpointError(ValueError):
    """A checkpoint is missing, incomplete, or does not belong to this run."""


class _MetadataUnpickler(pickle.Unpickler):
    """Reads the index that PyTorch writes as a pickle, and refuses everything that such an index does not hold."""

    _KNOWN = frozenset(
        {
            ("torch.distributed.checkpoint.metadata", "ChunkStorageMetadata"),
            ("torch.distributed.checkpoint.metadata", "Metadata"),
            ("torch.distributed.checkpoint.metadata", "MetadataIndex"),
            ("torch.distributed.checkpoint.metadata", "StorageMeta"),
            ("torch.distributed.checkpoint.metadata", "TensorProperties"),
            ("torch.distributed.checkpoint.metadata", "TensorStorageMetadata"),
            ("torch.distributed.checkpoint.metadata", "_MEM_FORMAT_ENCODING"),
            ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
            ("torch", "Size"),
            ("torch", "bfloat16"),
            ("torch", "float32"),
            ("torch", "float64"),
            ("torch", "int64"),
            ("torch.serialization", "_get_layout"),
            ("collections", "OrderedDict"),
            ("pathlib", "PosixPath"),
            ("pathlib._local", "PosixPath"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        # Exact names only: a pickle may ask for attributes of attributes ("os.system" in any module that imports os).
        if (module, name) not in self._KNOWN:
            raise CheckpointError(f"the checkpoint's index asks for {module}.{name}, which none needs; refused")
        return super().find_class(module, name)


class _SafeReader(FileSystemReader):
    """PyTorch's reader without its two ways to run code from a file.

    The index is read by :class:`_MetadataUnpickler`. Entries that are not tensors would be unpickled; ours has none, so
    an index that names one is refused. Tensors are loaded weights-only by PyTorch itself.
    """

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with (Path(self.path) / ".metadata").open("rb") as file:
            metadata: Metadata = _MetadataUnpickler(file).load()
        strangers = [
            name
            for name, entry in metadata.state_dict_metadata.items()
            if not isinstance(entry, TensorStorageMetadata)
        ]
        if strangers:
            raise CheckpointError(f"the checkpoint holds entries that are not tensors: {', '.join(strangers)}; refused")
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        folder: the ``save`` folder.
        keep_last: how many of the newest checkpoints to keep; all by default.
        milestones: steps whose checkpoints are never deleted.
        is_main: whether this process does the work that only one may do.
        barrier: waits until all processes have arrived.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep_last: int | None = None,
        milestones: Collection[int] = (),
        is_main: bool = True,
        barrier: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = folder
        self._keep_last = keep_last
        self._milestones = frozenset(milestones)
        self._is_main = is_main
        self._barrier = barrier

    def save(
        self,
        *,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        state: dict[str, Any],
        files: dict[str, str] | None = None,
        copies: dict[str, Path] | None = None,
    ) -> Path:
        """Write the checkpoint of ``step`` and return its folder. Every process must call this.

        Args:
            step: optimizer steps done.
            model: its parameters are stored under their names, whatever the layout.
            optimizer: its state, or None to store the weights alone.
            state: small JSON values to find again in ``state.json``; ``step`` is added.
            files: further text files to store, by name.
            copies: further files to store as they are: name in the checkpoint -> existing file.
        """
        final = self.folder / f"{_PREFIX}{step}"
        temporary = self.folder / f".{_PREFIX}{step}.tmp"
        if self._is_main:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        self._barrier()
        with _quiet_alone():
            save_tensors(
                _tensors(*_state_of(model, optimizer)),
                storage_writer=FileSystemWriter(temporary),
                no_dist=not dist.is_initialized(),
            )
        if self._is_main:
            for name, text in (files or {}).items():
                write_text(temporary / name, text)
            for name, source in (copies or {}).items():
                with atomic_write(temporary / name) as file:
                    file.write(source.read_bytes())
            write_text(temporary / _STATE, json.dumps({**state, "step": step}, indent=1))
            write_text(temporary / _MARKER, "")
            fsync_folder(temporary)
            _delete(final)
            temporary.rename(final)
            fsync_folder(self.folder)
            write_text(self.folder / _LATEST, final.name + "\n")
            self._delete_old(step)
        self._barrier()
        return final

    def newest(self) -> Path | None:
        """Return the newest complete checkpoint, or None. Incomplete ones are passed over and named in the log."""
        for step in sorted(self._steps(), reverse=True):
            path = self.folder / f"{_PREFIX}{step}"
            if _is_complete(path):
                return path
            logger.warning("%s is incomplete (it has no %s file) and is passed over", path, _MARKER)
        return None

    def _steps(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        numbers = (path.name.removeprefix(_PREFIX) for path in self.folder.glob(f"{_PREFIX}*") if path.is_dir())
        return [int(number) for number in numbers if number.isdigit()]

    def _delete_old(self, step: int) -> None:
        """Keep the newest complete checkpoints up to ``step``; delete older ones, and what a crash left behind."""
        for abandoned in self.folder.glob(f".{_PREFIX}*.tmp"):
            shutil.rmtree(abandoned)
        for number in self._steps():
            if number < step and not _is_complete(path := self.folder / f"{_PREFIX}{number}"):
                logger.warning("%s is incomplete and is deleted", path)
                shutil.rmtree(path)
        if self._keep_last is None:
            return
        candidates = [number for number in self._steps() if number <= step and number not in self._milestones]
        complete = sorted(number for number in candidates if _is_complete(self.folder / f"{_PREFIX}{number}"))
        for number in complete[: -self._keep_last]:
            _delete(self.folder / f"{_PREFIX}{number}")


def _is_complete(checkpoint: Path) -> bool:
    return (checkpoint / _MARKER).exists()


def _delete(checkpoint: Path) -> None:
    """Delete a checkpoint so that a crash in between cannot leave a part that looks whole."""
    (checkpoint / _MARKER).unlink(missing_ok=True)
    if checkpoint.exists():
        shutil.rmtree(checkpoint)


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint that ``path`` means: itself, or the newest complete one of a run's folder.

    Raises:
        CheckpointError: there is none.
    """
    if _is_complete(path):
        return path
    if (path / _STATE).exists():
        raise CheckpointError(f"{path} is incomplete (it has no {_MARKER} file)")
    newest = CheckpointStore(path).newest()
    if newest is None:
        raise CheckpointError(f"{path} is no checkpoint, and holds no complete {_PREFIX}<N> folder")
    return newest


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return what ``state.json`` of a checkpoint holds."""
    try:
        state = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{checkpoint / _STATE} cannot be read: {error}") from None
    if not isinstance(state, dict) or not isinstance(state.get("step"), int):
        raise CheckpointError(f"{checkpoint / _STATE} must be a JSON object with an integer `step`")
    return state


def load(checkpoint: Path, *, model: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
    """Fill ``model``, and ``optimizer`` if given, from a checkpoint. Every process must call this.

    Raises:
        CheckpointError: the checkpoint's tensors are damaged, or not those of this model.
    """
    weights, moments = _state_of(model, optimizer)
    target = _tensors(weights, moments)
    try:
        with _quiet_alone():
            load_tensors(target, storage_reader=_SafeReader(checkpoint), no_dist=not dist.is_initialized())
    except CheckpointError:
        raise
    except (Exception, CheckpointException) as error:  # PyTorch raises many kinds for a damaged or foreign checkpoint
        raise CheckpointError(f"{checkpoint} cannot be loaded into this model: {_reason(error)}") from error
    # Learning rate, decay and betas are the configuration's, not the checkpoint's: only moments are restored.
    set_state_dict(
        model,
        [] if optimizer is None else [optimizer],
        model_state_dict=target["model"],
        optim_state_dict={**moments, **target.get("optimizer", {})},
    )


def _reason(error: BaseException) -> str:
    """Return the innermost error's type and message: a collective error wraps those of the ranks with their traces."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    return f"{type(error).__name__} {error}".strip()


@contextmanager
def _quiet_alone() -> Iterator[None]:
    """Hide PyTorch's warning that one process saves alone; that is what is wanted."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _state_of(
    model: nn.Module, optimizer: torch.optim.Optimizer | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    return get_state_dict(model, [] if optimizer is None else [optimizer])


def _tensors(weights: dict[str, Any], moments: dict[str, Any]) -> dict[str, Any]:
    """Return everything of a run that is a tensor, by parameter name; optimizer settings are the configuration's."""
    return {"model": weights, "optimizer": {"state": moments["state"]}} if moments else {"model": weights}
