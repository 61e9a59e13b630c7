"""The accelerators that a run is reckoned for, and what of their speed is reached.

Peaks, memory and memory bandwidth are the makers' data sheets (A100: NVIDIA 2021; H100, H200: NVIDIA 2024; MI250X: AMD
2022, half a card, which is one device to the software). ``A100-64`` is Leonardo's (CINECA; arXiv 2307.16885), whose
additional units are not counted: makers and users rate it as an A100. Memory is what a process sees of it.

Links count one direction, for each accelerator. Inside a node: NVLink 3 and 4, Infinity Fabric (LUMI's documentation;
50 GB/s is the slower pair of links). Between nodes, of the machines that most users have: JUWELS Booster (A100-40, 4 x
200 Gbit/s a node), Leonardo (A100-64, 4 x 100 Gbit/s), DGX A100 and H100 (8 x 200 and 8 x 400 Gbit/s), LUMI (4 x
200 Gbit/s for 8 dies).

``reached`` is an estimate, not a measurement of this project: the share of the peak at which large matrix products and
attention run. For the A100 it is chosen so that published runs come out (docs/simulation.md compares: Llama 2 7B and
Llama 3 8B and 70B with PyTorch's FSDP). H100s draw more power than they may in bfloat16 and reach less of their peak
(torchtitan: 6,667 tokens/s for Llama 3 8B). MI250X: 38 % of the peak for a model of 22 billion with recomputation (Dash
et al., arXiv 2312.12705).
"""

from __future__ import annotations

import dataclasses

GIB = 1 << 30

USABLE = 0.92
"""Share of the memory that a run may plan with: the driver, NCCL's buffers and fragments take the rest."""

MEMORY_REACHED = 0.8
"""Share of the memory bandwidth that elementwise work reaches."""

LINK_REACHED = 0.7
"""Share of a link's bandwidth that large messages reach (NCCL's own tests: 0.7 to 0.9)."""

MESSAGE_SECONDS = 3e-5
"""What every message takes besides its bytes."""

HOP_SECONDS = 4e-6
"""What it takes on top for every process that it passes in a ring."""


@dataclasses.dataclass(frozen=True)
class Gpu:
    """One accelerator, as one process uses it.

    Attributes:
        name: what ``--gpu`` takes.
        memory_bytes: that a process sees.
        peak_flops: FLOP/s in bfloat16 without sparsity.
        memory_bandwidth: bytes per second.
        inside_bandwidth: bytes per second that it sends to its own node, in one direction.
        between_bandwidth: the same to other nodes.
        per_node: accelerators in a node, unless told otherwise.
        reached: share of the peak at which matrix products run.
        fp32_peak_flops: FLOP/s of float32 matrix products, for runs with ``precision: fp32``.
    """

    name: str
    memory_bytes: float
    peak_flops: float
    memory_bandwidth: float
    inside_bandwidth: float
    between_bandwidth: float
    per_node: int
    reached: float
    fp32_peak_flops: float

    @property
    def usable_bytes(self) -> float:
        """Memory that a run may plan with."""
        return USABLE * self.memory_bytes


GPUS = (
    Gpu("A100-40", 39.4 * GIB, 312e12, 1.555e12, 300e9, 25e9, 4, 0.66, 19.5e12),
    Gpu("A100-64", 63.4 * GIB, 312e12, 1.640e12, 300e9, 12.5e9, 4, 0.66, 19.5e12),
    Gpu("A100-80", 79.2 * GIB, 312e12, 2.039e12, 300e9, 25e9, 8, 0.66, 19.5e12),
    Gpu("H100", 79.1 * GIB, 989e12, 3.350e12, 450e9, 50e9, 8, 0.45, 67e12),
    Gpu("H200", 139.8 * GIB, 989e12, 4.800e12, 450e9, 50e9, 8, 0.45, 67e12),
    Gpu("MI250X", 64.0 * GIB, 191.5e12, 1.638e12, 50e9, 12.5e9, 8, 0.50, 47.9e12),
)


def gpu_named(name: str) -> Gpu:
    """Return the accelerator of a name, in any case.

    Raises:
        ValueError: there is none; the message lists those that are known.
    """
    for gpu in GPUS:
        if gpu.name.lower() == name.lower():
            return gpu
    known = ", ".join(gpu.name for gpu in GPUS)
    raise ValueError(f"--gpu {name}: this type is not known. Use one of {known}.")
