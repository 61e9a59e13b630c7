"""When a run's checkpoints are written, and what becomes of saves that fail."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from megatron.checkpoint.store import CheckpointStore, Saved, SaveError
from megatron.config.schema import CheckpointConfig

_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 60.0, 960.0
_LAST_PAUSES_SECONDS = (5.0, 25.0)
"""Before the second and the third try of a save after which there is no other."""


class Saver:
    """Begins saves, learns what became of them, and tries again those that have failed.

    All processes call its methods together, but for :meth:`wants_retry` and :meth:`report`.

    Args:
        store: writes.
        section: when.
        write: records an event: its kind and its fields.
        record: records that a checkpoint is there: its step, and the fields.
        clock: seconds.
    """

    def __init__(
        self,
        store: CheckpointStore,
        section: CheckpointConfig,
        *,
        write: Callable[..., None],
        record: Callable[..., None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._section = store, section
        self._write, self._record, self._clock = write, record, clock
        self._failed = self._tries = 0
        self._failed_at: float | None = None
        self._is_retry = False
        self._reported: Saved | None = None

    def is_due(self, step: int) -> bool:
        """Whether the configuration wants a checkpoint of this step."""
        section = self._section
        regular = section.checkpoint_factor is not None and step % section.checkpoint_factor == 0
        return bool(regular) or step in section.extra_save_iters

    def wants_retry(self) -> bool:
        """Whether a save has failed, and it is time to try again: after one minute, two, four, up to sixteen.

        A save in the background fails some time after it was begun; this notices it. Processes may differ.
        """
        tries = self._tries + self._store.failed()
        if not tries:
            return False
        if self._failed_at is None:
            self._failed_at = self._clock()
        wait = min(_FIRST_RETRY_SECONDS * 2.0 ** (tries - 1), _LONGEST_RETRY_SECONDS)
        return self._clock() >= self._failed_at + wait

    def save(self, step: int, *, last: bool, retry: bool = False, **content: Any) -> None:
        """Begin a save, and wait for its end where training may not go on before.

        Args:
            step: optimizer steps done.
            last: it is the last one of this process.
            retry: it is no regular one; when it fails, that counts no further.
            **content: as for :meth:`CheckpointStore.save`.

        Raises:
            SaveError: it has failed, and so have too many before it; or it is the last of the run.
        """
        stopped = time.perf_counter()
        self.end()
        # With too many failed, the run ends, but not before it has tried to save where it is.
        must_succeed = last or self._failed > self._section.max_failed_saves
        self._is_retry, self._failed_at = retry, None
        for pause in _LAST_PAUSES_SECONDS if last else ():
            self._store.save(stopped=stopped, step=step, **content)
            if self.end():
                return
            time.sleep(pause)
        self._store.save(stopped=stopped, step=step, **content)
        if must_succeed or not self._section.async_checkpoint:
            self.end(must_succeed=must_succeed)

    def end(self, *, must_succeed: bool = False) -> bool:
        """Wait for the save under way, and count those in a row that have failed; return False if it has, too.

        Raises:
            SaveError: it has failed and must not.
        """
        try:
            saved = self._store.wait()
        except SaveError as error:
            self._failed += not self._is_retry
            self._tries += 1
            self._write("checkpoint_failed", reason=str(error))
            if must_succeed:
                raise
            return False
        if saved is not None:
            self._failed = self._tries = 0
            self.report(saved)
        return True

    def report(self, saved: Saved | None = None) -> None:
        """Record the save under way once it is on disk; processes learn of it one by one."""
        saved = self._store.saved() if saved is None else saved
        if saved is None or saved is self._reported:
            return
        self._reported = saved
        self._record(
            saved.step,
            path=str(saved.checkpoint),
            bytes=saved.bytes,
            seconds=saved.seconds,
            waited_seconds=saved.waited_seconds,
        )
