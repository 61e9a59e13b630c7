"""A whole run, alone in its folder, on machines that are fit for it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from megatron.checkpoint.storage import LocalStorage, open_storage
from megatron.config.schema import Config
from megatron.parallel.process import Peers, World
from megatron.train.nodes import NodeError, check_nodes
from megatron.train.stop import StopRequests
from megatron.train.trainer import Trainer
from megatron.utils.files import InUseError, exclusive
from megatron.utils.log import get_logger

logger = get_logger(__name__)


def train(config: Config, world: World) -> str:
    """Make or resume a run, alone in its folder, and return why it ended.

    Raises:
        ValueError: as :class:`Trainer`; or another run is writing to the same folder.
        NodeError: a machine is not fit for it.
    """
    if config.checkpoint.save is None:
        raise ValueError("save is not set: give the folder for this run's checkpoints and metrics")
    with ExitStack() as stack:
        # Whoever is told to stop while the model is loaded does so before the first step, and not in the middle.
        requests = stack.enter_context(StopRequests(config.survival, ends_at=world.ends_at))
        if world.is_main:
            for folder in _own_folders(config):
                stack.enter_context(exclusive(folder / ".lock"))
        # Nobody looks for a checkpoint before it is certain that no other run is still writing one.
        world.barrier()
        peers = Peers(world)
        hosts = peers.broadcast(peers.gather(socket.gethostname()))
        num_hosts = len(set(hosts or ()))
        if world.is_main and world.size > 1:
            logger.info("%d processes on %d machine%s", world.size, num_hosts, "s" if num_hosts > 1 else "")
        wanted = config.survival.node_test
        if num_hosts > 1 if wanted is None else wanted:
            for line in check_nodes(world, peers, Path(config.checkpoint.save)):
                if world.is_main:
                    logger.warning("slow: %s", line)
        return Trainer(config, world, peers=peers, requests=requests).run()


def _own_folders(config: Config) -> Iterator[Path]:
    section = config.checkpoint
    yield Path(section.save or ".")
    checkpoints = None if section.checkpoint_url is None else open_storage(section.checkpoint_url)
    if isinstance(checkpoints, LocalStorage) and checkpoints != open_storage(section.save or "."):
        yield checkpoints.path


def may_pass(error: BaseException) -> bool:
    """Whether another try may go better: a disk, a network or a machine is to blame, or another run is still there."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, OSError | InUseError | NodeError):
            return not isinstance(chain, FileNotFoundError | IsADirectoryError | NotADirectoryError)
        chain = chain.__cause__
    return False
