from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource
import sys

import torch

from megatron.parallel.process import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(10):  # holes have to fit first
    torch.zeros(100 << 20, dtype=torch.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    torch.zeros(100 << 20, dtype=torch.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the C library of Linux")
def test_memory_that_was_freed_is_there_without_new_pages() -> None:
    def faults(how: str) -> int:
        command = [sys.executable, "-c", FAULTS, how]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    new_pages = 4 * (100 << 20) // 4096
    assert faults("give back") > new_pages / 20  # fewer where pages are large
    assert faults("keep") < new_pages / 100
