"""The agent's exit status, with processes that end in the order that is hardest to tell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from megatron.launch.agent import leave
from megatron.utils.status import EXIT_MISTAKE, EXIT_UNFINISHED

ROOT = Path(__file__).parents[3]

SCRIPT = """
import os, sys, time
from pathlib import Path
from megatron.launch.agent import leave

rank, told = int(os.environ["RANK"]), Path(sys.argv[1])
statuses = [int(status) for status in sys.argv[2:]]
if rank == 1:
    status = leave(statuses[1], os.environ)
    told.touch()
    time.sleep(60)  # the agent ends it when it sees that the other has failed
    sys.exit(status)
while not told.exists():
    time.sleep(0.05)
sys.exit(statuses[0])
"""


def test_a_mistake_is_told_though_another_process_ends_first_for_want_of_it(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    arguments = ["--standalone", "--nproc-per-node", "2", str(tmp_path / "script.py"), str(tmp_path / "told")]
    command = [sys.executable, "-m", "megatron.launch.agent", *arguments, "1", str(EXIT_MISTAKE)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == EXIT_MISTAKE, ended.stderr


@pytest.mark.parametrize("status", [EXIT_MISTAKE, EXIT_UNFINISHED])
def test_without_an_agent_a_status_is_what_it_is(status: int) -> None:
    assert leave(status, {}) == status
