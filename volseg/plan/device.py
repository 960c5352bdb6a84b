"""What a plan is made for: a GPU or a CPU, and how much memory."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from volseg.errors import ConfigError
from volseg.plan.request import PlanRequest, readable_bytes

DEFAULT_BYTES = 8 << 30
"""As in nnU-Net's plans: what most GPUs have."""

_PIPELINE_BYTES = 1 << 30
"""On a GPU, the process still needs this much RAM, and as much again for every four workers."""


@dataclass(frozen=True)
class Target:
    """Where the training will run."""

    device: Literal["cpu", "cuda"]
    budget_bytes: int
    workers: int
    why: str


def chosen_target(request: PlanRequest) -> Target:
    """The device, the memory a training may take there, and how many workers prepare patches.

    A GPU is planned for where it is asked for, max_vram is given, or there is one. Its memory is 8 GiB unless told. Without
    a GPU it is max_ram, else half of the free memory but at most 8 GiB. Workers: for a GPU one per core less one, at most 12
    and within max_ram; without one a quarter of the cores, as the network needs them itself.

    Raises:
        ConfigError: max_vram together with the CPU.
    """
    if request.device == "cpu" and request.max_vram is not None:
        raise ConfigError("--max-vram is memory of a GPU, but the plan is for the CPU; use --max-ram.")
    cores = os.cpu_count() or 1
    asked = request.device == "cuda" or request.max_vram is not None
    if asked or (request.device == "auto" and torch.cuda.is_available()):
        budget = request.max_vram or DEFAULT_BYTES
        workers = max(1, min(12, cores - 1))
        if request.max_ram is not None:
            workers = max(1, min(workers, 4 * (request.max_ram // _PIPELINE_BYTES - 1)))
        said = "as asked" if request.max_vram else "the default"
        return Target(
            "cuda", budget, workers, f"Planned for a GPU with {readable_bytes(budget)} of memory ({said})."
        )
    workers = max(1, cores // 4)
    if request.max_ram is not None:
        why = f"Planned for the CPU with {readable_bytes(request.max_ram)} of memory (as asked)."
        return Target("cpu", request.max_ram, workers, why)
    free = free_bytes()
    budget = min(DEFAULT_BYTES, free // 2)
    why = (
        f"Planned for the CPU{', as there is no GPU,' if request.device == 'auto' else ''} with {readable_bytes(budget)}: half of the {readable_bytes(free)} of "
        f"memory that is free, at most {readable_bytes(DEFAULT_BYTES)}."
    )
    return Target("cpu", budget, workers, why)


def free_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Memory that can be had without swapping; where the system does not say, all there is."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (OSError, ValueError, AttributeError):
            return 2 * DEFAULT_BYTES
