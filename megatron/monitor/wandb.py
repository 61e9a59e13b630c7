"""A run at Weights & Biases, for those who have it; everything is in ``metrics.jsonl`` as well."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from megatron.config.schema import LoggingConfig
from megatron.monitor.console import incident_text
from megatron.monitor.record import Event
from megatron.monitor.scalars import scalars
from megatron.utils.files import write_text
from megatron.utils.log import get_logger

logger = get_logger(__name__)

_VERSION = "0.31.0"


class WandbWriter:
    """Listener that logs the scalars of a run (:func:`megatron.monitor.scalars.scalars`) and tells of incidents.

    A run that goes on is the same run there: its id lies in ``wandb-id`` in the run's folder. Steps are a number of
    their own, so that what a restart repeats may be logged again. Without a network, set ``WANDB_MODE=offline``.

    Args:
        section: ``wandb_project`` and the other keys.
        folder: the run's.
        settings: the resolved configuration.

    Raises:
        ValueError: the package ``wandb`` is not installed.
    """

    def __init__(self, section: LoggingConfig, folder: Path, *, settings: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ValueError(
                f"use_wandb is set, but wandb cannot be imported ({error}): pip install wandb=={_VERSION}"
            ) from None
        path = folder / "wandb-id"
        known = path.read_text(encoding="utf-8").strip() if path.exists() else None
        arguments = {
            "project": section.wandb_project,
            "entity": section.wandb_team,
            "group": section.wandb_group,
            "name": section.wandb_run_name or folder.name,
            "dir": str(folder),
            "id": known,
            "resume": "allow" if known else None,
            "config": dict(settings),
            "settings": wandb.Settings(base_url=section.wandb_host, console="off"),
        }
        try:
            self._run = wandb.init(**arguments)
        except Exception as error:  # compute nodes often have no way out
            logger.warning("Weights & Biases: %s; the run is kept in %s for `wandb sync`", error, folder / "wandb")
            self._run = wandb.init(**arguments, mode="offline")
        if known is None:
            write_text(path, f"{self._run.id}\n")
        self._run.define_metric("*", step_metric="step")

    def __call__(self, event: Event) -> None:
        """Log one event; a service that does not answer never ends a run."""
        try:
            if values := scalars(event):
                self._run.log({"step": event["step"], **values})
            elif event["event"] == "incident":
                self._run.alert(title=f"step {event['step']}: {event['kind']}", text=incident_text(event))
        except Exception as error:
            logger.warning("Weights & Biases: %s", error)

    def close(self) -> None:
        """Send what is pending."""
        try:
            self._run.finish()
        except Exception as error:
            logger.warning("Weights & Biases: %s", error)
