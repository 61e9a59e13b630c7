"""The checkpoints of a run: written beside their final place, marked complete, renamed, and only then announced.

A run's folder holds GPT-NeoX's names: ``latest`` (a text file that names the newest checkpoint) and one folder
``global_step<N>`` for each. Inside lie tensors (safetensors files, at most two for each process), ``index.json`` that
says which holds what, ``state.json``, the resolved configuration, and ``COMPLETE``, which is written last.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict

from megatron.checkpoint.blocks import FileSums
from megatron.checkpoint.host_copies import HostCopies
from megatron.checkpoint.index import Index
from megatron.checkpoint.plan import SavePlans, tensors_of
from megatron.checkpoint.seal import INDEX, MARKER, STATE, holds_only_ours, is_sealed, seal, why_incomplete
from megatron.checkpoint.shards import File, Piece, headers_of, stored_tensors, write_file, write_files
from megatron.checkpoint.storage import Storage
from megatron.checkpoint.unfinished import publish, unfinished
from megatron.parallel.process import Peers
from megatron.utils.log import get_logger

logger = get_logger(__name__)

_LATEST = "latest"
_PREFIX = "global_step"


class CheckpointError(ValueError):
    """A checkpoint is missing, incomplete, or does not belong to this run."""


class SaveError(OSError):
    """A checkpoint could not be written; those before it are as they were."""


@dataclasses.dataclass(frozen=True)
class Saved:
    """A checkpoint that has been written.

    Attributes:
        checkpoint: where it lies.
        step: optimizer steps done.
        bytes: of all its tensors.
        waited_seconds: how long training stood still for it.
        seconds: from its begin until it was complete.
    """

    checkpoint: Storage
    step: int
    bytes: int
    waited_seconds: float
    seconds: float


class CheckpointStore:
    """Writes the checkpoints of one run and finds them again. Every process has one, and calls it like the others.

    Args:
        folder: where they lie.
        peers: all processes of the run; this one alone by default.
        keep_last: how many of the newest checkpoints to keep; all by default.
        is_kept: whether the checkpoint of a step is never deleted.
        in_background: whether training goes on while a checkpoint is written; the processes then hold a copy of what
            they write in the host's memory.
    """

    def __init__(
        self,
        folder: Storage,
        *,
        peers: Peers | None = None,
        keep_last: int | None = None,
        is_kept: Callable[[int], bool] = lambda _: False,
        in_background: bool = False,
    ) -> None:
        self.folder = folder
        self._peers = peers or Peers()
        self._keep_last, self._is_kept = keep_last, is_kept
        self._plans = SavePlans(self._peers)
        self._copies = HostCopies()
        self._thread = ThreadPoolExecutor(1, "checkpoint") if in_background else None
        self._saving: Future[Saved] | None = None
        self._copying: Future[Any] | None = None
        self._waited_seconds = 0.0
        self._done: tuple[Saved, Saved] | None = None
        self._told: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()
        self._passed_over: set[str] = set()

    def save(
        self,
        *,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        state: dict[str, Any],
        files: Mapping[str, str] | None = None,
        copies: Mapping[str, Path] | None = None,
        stopped: float | None = None,
    ) -> None:
        """Begin to write the checkpoint of ``step``; :meth:`wait` says what became of it.

        When this returns, training may go on: in the background weights and moments are copied first, and the next step
        of the optimizer waits for that. Whoever changes them otherwise calls :meth:`wait_copied` before. Before the
        next save, :meth:`wait` must be called.

        Args:
            step: optimizer steps done.
            model: its parameters are stored under their names, whatever the layout.
            optimizer: its state, or None to store the weights alone.
            state: small JSON values to find again in ``state.json``; ``step`` is added.
            files: further text files to store, by name.
            copies: further files to store as they are: name in the checkpoint -> existing file.
            stopped: when training stopped for it, by ``time.perf_counter``; by default now.
        """
        assert self._saving is None, "what became of the save before has not been asked for"
        started = time.perf_counter() if stopped is None else stopped
        own, tensors = self._plans.files(
            tensors_of(*get_state_dict(model, [] if optimizer is None else [optimizer]))
        )
        small = {
            **{name: text.encode("utf-8") for name, text in (files or {}).items()},
            STATE: json.dumps({**state, "step": step}, indent=1).encode("utf-8"),
        }
        job = _Job(step, own, tensors, small, copies or {}, started)
        if self._thread is None:
            self._saving = Future()
            try:
                self._saving.set_result(self._write(job))
            except Exception as error:
                self._saving.set_exception(error)
            return
        after = _event_now(tensors.values())
        self._copying = self._thread.submit(_try, functools.partial(self._copies.of, tensors, after=after))
        self._saving = self._thread.submit(self._write_copies, job, self._copying)
        if optimizer is None:
            self.wait_copied()
        elif optimizer not in self._told:
            optimizer.register_step_pre_hook(lambda *_: self.wait_copied())
            self._told.add(optimizer)
        self._waited_seconds = time.perf_counter() - started

    def wait_copied(self) -> None:
        """Wait until weights and moments may change: until the save under way has a copy of its own."""
        if self._copying is not None:
            started = time.perf_counter()
            self._copying.result()
            self._copying = None
            self._waited_seconds += time.perf_counter() - started

    def saved(self) -> Saved | None:
        """Return the checkpoint under way once it is written, without waiting; processes learn of it one by one."""
        saving = self._saving
        done = saving is not None and saving.done() and saving.exception() is None
        return self._with_wait(saving.result()) if saving is not None and done else None

    def failed(self) -> bool:
        """Whether the save under way is known to have failed; processes learn of it one by one."""
        saving = self._saving
        return saving is not None and saving.done() and saving.exception() is not None

    def wait(self) -> Saved | None:
        """Wait until the save under way has ended; return what was written, or None when there was nothing to write.

        Raises:
            SaveError: it failed, in all processes alike.
        """
        saving, self._saving = self._saving, None
        if saving is None:
            return None
        found = saving.result()
        self._copying = None
        return self._with_wait(found)

    def _with_wait(self, saved: Saved) -> Saved:
        """Say how long training has stood still, which only its own thread knows."""
        if self._thread is None:
            return saved
        if self._done is None or self._done[0] is not saved:
            self._done = saved, dataclasses.replace(saved, waited_seconds=self._waited_seconds)
        return self._done[1]

    def newest(self) -> Storage | None:
        """Return the newest complete checkpoint, or None where no save has ever been completed.

        Others are passed over, and the log says why.

        Raises:
            CheckpointError: there are checkpoints, but not one is whole.
            OSError: it cannot be told now.
        """
        name = self._peers.from_main(self._newest)
        return None if name is None else self.folder / name

    def _newest(self) -> str | None:
        for name in checkpoint_names(self.folder):
            if name in self._passed_over:
                continue
            reason = why_incomplete(self.folder / name)
            if reason is None:
                return name
            logger.warning("%s/%s is passed over: %s", self.folder, name, reason)
            if is_sealed(self.folder / name):
                self._passed_over.add(name)
        if self._passed_over:
            raise CheckpointError(
                f"{self.folder} holds checkpoints, but not one that is whole (the log says what is wrong with each). "
                "Repair one, or move them away, or give this run another `save` folder"
            )
        return None

    def pass_over(self, checkpoint: Storage, reason: object) -> None:
        """Take a checkpoint, which has turned out to be damaged, for none from now on."""
        if self._peers.is_main:
            logger.warning("%s is passed over: %s", checkpoint, reason)
        self._passed_over.add(checkpoint.name)

    def _write_copies(self, job: _Job, copying: Future[Any]) -> Saved:
        copies, problem = copying.result()
        return self._write(dataclasses.replace(job, tensors=copies or {}, problem=problem))

    def _write(self, job: _Job) -> Saved:
        """Write this process's files, agree that all have theirs, and let the main process complete the checkpoint."""
        final = f"{_PREFIX}{job.step}"
        temporary = self.folder.temporary_name(final)
        cleared = _try(self._clear, temporary, final)[1] if self._peers.is_main else None
        self._peers.barrier()  # nobody writes before what an earlier attempt has left is gone
        problem = cleared or job.problem
        written = None
        if problem is None:
            written, problem = _try(_write_files, self.folder / temporary, job)
        everyone = self._peers.gather((written, problem))
        if everyone is not None:
            problem = next((f"process {rank}: {p}" for rank, (_, p) in enumerate(everyone) if p), None)
            sums = {name: sums for of_one, _ in everyone for name, sums in (of_one or {}).items()}
            if problem is None:
                _, problem = _try(self._complete, temporary, final, job, sums)
            if problem is None:
                self._announce(final, job.step)
            elif cleared is None:
                _try(_delete, self.folder, temporary)
            told = (problem, sum(file.bytes for file in sums.values()))
        else:
            told = None
        problem, size = self._peers.broadcast(told)
        seconds = time.perf_counter() - job.started
        if problem is not None:
            error = SaveError(f"the checkpoint of step {job.step} was not written: {problem}")
            if self._peers.is_main:
                logger.error("%s", error)  # training may go on for long before it asks
            raise error
        return Saved(self.folder / final, job.step, size, seconds, seconds)

    def _complete(self, temporary: str, final: str, job: _Job, sums: dict[str, FileSums]) -> None:
        """Write the small files, last of all the marker, and give the folder its name."""
        assert self._plans.tensors is not None
        small = {**job.small, **{name: path.read_bytes() for name, path in job.copies.items()}}
        _seal(self.folder / temporary, Index(self._plans.tensors, sums), small)
        if temporary != final:
            _delete(self.folder, final)
        self.folder.publish(temporary, final)
        self._passed_over.discard(final)  # it is another one now

    def _clear(self, temporary: str, final: str) -> None:
        """Make room for a checkpoint, but for nothing that is not one of ours."""
        for name in {temporary, final}:
            if not holds_only_ours(self.folder / name):
                raise FileExistsError(f"{self.folder / name} holds what this program has not written: move it away")
        _delete(self.folder, temporary)

    def _announce(self, final: str, step: int) -> None:
        """Name the newest checkpoint, and delete old ones. It is complete, whatever becomes of this."""
        for what, function in (("contents of `latest`", self._write_latest), ("old checkpoints", self._delete_old)):
            _, problem = _try(function, final, step)
            if problem is not None:
                logger.warning("%s/%s is whole, but %s are not in order: %s", self.folder, final, what, problem)

    def _write_latest(self, final: str, step: int) -> None:
        self.folder.put_bytes(_LATEST, f"{final}\n".encode())

    def _delete_old(self, final: str, step: int) -> None:
        """Keep the newest complete checkpoints up to ``step``; delete older ones, and what a crash left behind.

        Folders without a marker are not deleted: on a file system none of ours is ever without one, and in an object
        store the same step comes again.
        """
        old = [name for name in self.folder.names() if name.startswith(f".{_PREFIX}") and name.endswith(".tmp")]
        if self._keep_last is not None:
            numbers = {name: int(name.removeprefix(_PREFIX)) for name in checkpoint_names(self.folder)}
            candidates = [
                name
                for name, number in numbers.items()
                if number <= step
                and not self._is_kept(number)
                and name not in self._passed_over
                and is_sealed(self.folder / name)
            ]
            old += candidates[self._keep_last :]
        problems = [problem for name in old if (problem := _try(_delete, self.folder, name)[1])]
        if problems:
            raise OSError("; ".join(problems))


@dataclasses.dataclass(frozen=True)
class _Job:
    """What a process writes of one checkpoint."""

    step: int
    files: tuple[File, ...]
    tensors: Mapping[Piece, Tensor]
    small: Mapping[str, bytes]
    copies: Mapping[str, Path]
    started: float
    problem: str | None = None  # why this process has nothing to write


def _event_now(tensors: Iterable[Tensor]) -> torch.cuda.Event | None:
    """Return what has happened on a GPU when all that it has been told so far is done."""
    if not any(tensor.is_cuda for tensor in tensors):
        return None
    event = torch.cuda.Event()
    event.record()
    return event


def _write_files(folder: Storage, job: _Job) -> dict[str, FileSums]:
    return {file.name: write_file(folder, file, lambda piece: (job.tensors[piece],)) for file in job.files}


def _seal(checkpoint: Storage, index: Index, small: Mapping[str, bytes]) -> None:
    """Write what lies beside the tensors, last of all the marker."""
    files = {**small, INDEX: index.to_json()}
    for name, data in files.items():
        checkpoint.put_bytes(name, data)
    checkpoint.put_bytes(MARKER, seal(files))


def write_checkpoint(
    folder: Storage,
    name: str,
    files: Sequence[File],
    read: Callable[[Piece], Iterable[Tensor]],
    *,
    small: Mapping[str, bytes],
    description: str,
    resumes: str,
    check: Callable[[Storage, Index], None] = lambda checkpoint, index: None,
) -> None:
    """Write a checkpoint in this process alone, some rows of a tensor at a time, behind a progress bar.

    Args:
        folder: where to write.
        name: the checkpoint's, which must not exist. It appears when it is complete.
        files: what its tensors' files hold.
        read: as for :func:`megatron.checkpoint.shards.write_files`.
        small: what lies beside them, ``state.json`` among it.
        description: of the bar.
        resumes: says from what it is made; an interrupted call of the same is gone on with.
        check: called when all tensors are written; what it raises keeps the checkpoint from appearing.

    Raises:
        ValueError: there is something of that name, or what is written contradicts itself.
        OSError: it cannot be written.
    """
    with unfinished(folder, name, f"{resumes} {headers_of(files)}") as (temporary, resumed):
        sums = write_files(temporary, files, read, description=description, resumed=resumed)
        index = Index(stored_tensors(piece for file in files for piece in file.pieces), sums)
        Index.from_json(index.to_json())  # which looks for contradictions
        check(temporary, index)
        _seal(temporary, index, small)
        publish(folder, name)


def _try(function: Callable[..., Any], *arguments: Any) -> tuple[Any, str | None]:
    """Return what a function returns, or what kept it from it: the others must be told, not left waiting."""
    try:
        return function(*arguments), None
    except Exception as error:  # whatever it is, `wait` raises it
        return None, f"{type(error).__name__}: {error}"


def checkpoint_names(folder: Storage) -> list[str]:
    """Return the names of what may be checkpoints in a run's folder, the newest first."""
    numbers = {name: name.removeprefix(_PREFIX) for name in folder.names() if name.startswith(_PREFIX)}
    steps = {name: int(number) for name, number in numbers.items() if number.isascii() and number.isdigit()}
    return sorted(steps, key=lambda name: -steps[name])


def _delete(folder: Storage, name: str) -> None:
    """Delete a checkpoint so that a crash in between cannot leave a part that looks whole."""
    folder.remove(f"{name}/{MARKER}")
    renames = folder.temporary_name(name) != name and not name.startswith(".")
    hidden = f".{name}.deleted.tmp" if renames else name
    if renames and (folder / name).names():
        folder.remove(hidden)
        folder.publish(name, hidden)
    folder.remove(hidden)


def find_checkpoint(folder: Storage) -> Storage:
    """Return the checkpoint that a folder is, or the newest complete one of the run whose folder it is.

    Raises:
        CheckpointError: there is none.
    """
    if is_sealed(folder) or folder.size(STATE) is not None:
        reason = why_incomplete(folder)
        if reason is not None:
            raise CheckpointError(f"{folder} is incomplete or damaged: {reason}")
        return folder
    newest = CheckpointStore(folder).newest()
    if newest is None:
        raise CheckpointError(f"{folder} is no checkpoint, and holds no complete {_PREFIX}<N> folder")
    return newest


def read_state(checkpoint: Storage) -> dict[str, Any]:
    """Return what ``state.json`` of a checkpoint holds.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        state = json.loads(checkpoint.read(STATE).decode("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{checkpoint}/{STATE} cannot be read: {error}") from error
    if not isinstance(state, dict) or not isinstance(state.get("step"), int):
        raise CheckpointError(f"{checkpoint}/{STATE} must be a JSON object with an integer `step`")
    return state
