"""A run as TensorBoard curves. Uses tensorboard's own event writer, so neither torch nor tensorflow is needed."""

from __future__ import annotations

from pathlib import Path

from megatron.monitor.record import Event
from megatron.monitor.summary import Grouping, macro_mean, macro_means, num_unscored, scores

_TRAIN_CURVES = ("loss", "learning_rate", "gradient_norm", "tokens_per_second", "mfu")
_FLUSH_SECONDS = 10


class TensorBoardWriter:
    """Listener that draws ``train`` and ``validation`` events as scalars.

    Tags: ``train/loss`` ..., ``validation/bits_per_byte`` (macro mean over all corpora), ``validation_tier/<tier>``,
    ``validation_source/<source>`` and ``validation_language/<code>``, the last three in bits per byte. When a run
    resumes, TensorBoard is told to forget the points that the resumed run will draw again.

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
        kind = event["event"]
        if kind == "train":
            values = {f"train/{name}": event.get(name) for name in _TRAIN_CURVES}
            self._add_scalars(event, {tag: float(value) for tag, value in values.items() if value is not None})
        elif kind == "validation":
            self._add_scalars(event, _validation_scalars(event))
            self._writer.flush()
        elif kind == "start":
            self._mark_restart(event)

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


def _validation_scalars(event: Event) -> dict[str, float]:
    """Return tag -> bits per byte for one ``validation`` event."""
    rows = event["rows"]
    if num_unscored(rows) == len(rows):
        return {}
    values = {"validation/bits_per_byte": macro_mean(score.bits_per_byte for score in scores(rows))}
    groupings: tuple[tuple[str, Grouping], ...] = (("tier", "tier"), ("source", "source"), ("language", "code"))
    for tag, by in groupings:
        values.update({f"validation_{tag}/{name}": value for name, value in macro_means(rows, by=by).items()})
    return values
