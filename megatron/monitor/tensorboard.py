"""A run as TensorBoard curves. Uses tensorboard's own event writer, so neither torch nor tensorflow is needed."""

from __future__ import annotations

from pathlib import Path

from megatron.monitor.record import Event
from megatron.monitor.scalars import scalars

_FLUSH_SECONDS = 10


class TensorBoardWriter:
    """Listener that draws the scalars of events (:func:`megatron.monitor.scalars.scalars`).

    When a run resumes, TensorBoard is told to forget the points that the resumed run will draw again.

    Args:
        folder: where the event files go; made when missing. Every process of a run adds its own file.

    Raises:
        ValueError: the package ``tensorboard`` is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError as error:
            raise ValueError(
                f"tensorboard_dir is set, but tensorboard cannot be imported ({error}): pip install tensorboard"
            ) from None
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventFileWriter(str(folder), flush_secs=_FLUSH_SECONDS)

    def __call__(self, event: Event) -> None:
        """Draw one event; kinds without numbers to draw are ignored."""
        if event["event"] == "start":
            self._mark_restart(event)
        elif values := scalars(event):
            self._add_scalars(event, values)
            if event["event"] == "validation":
                self._writer.flush()

    def close(self) -> None:
        """Write out what is pending and close the event file."""
        self._writer.close()

    def _add_scalars(self, event: Event, values: dict[str, float]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event as EventProto
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        self._writer.add_event(EventProto(wall_time=event["time"], step=event["step"], summary=summary))

    def _mark_restart(self, event: Event) -> None:
        from tensorboard.compat.proto.event_pb2 import Event as EventProto
        from tensorboard.compat.proto.event_pb2 import SessionLog

        # TensorBoard drops earlier points whose step is at or above the one of a session's START.
        resumed_from = event.get("resumed_from")
        first_step = 0 if resumed_from is None else resumed_from + 1
        log = SessionLog(status=SessionLog.START)
        self._writer.add_event(EventProto(wall_time=event["time"], step=first_step, session_log=log))
