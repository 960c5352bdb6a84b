"""What may be asked of a plan, and sizes of memory as people write them."""

import re
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from volseg.config import Config
from volseg.errors import ConfigError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", re.IGNORECASE)


class PlanRequest(Config):
    """What a plan must keep to. The last four fields are what a budget of time gives up."""

    dims: Literal["auto", "2", "2.5", "3"] = "auto"
    """Slices, slices with their neighbours as further channels, or volumes; `auto` takes volumes unless there are hardly any
    slices."""
    resolution: Literal["auto", "full", "low"] = "auto"
    """`low` sees a quarter of a scan at once, in coarser voxels; `auto` takes it only without a GPU, where full resolution
    takes too long."""
    regions: bool = False
    """Train the nested regions of the collection, each with a sigmoid, instead of its labels."""
    max_vram: PositiveInt | None = None
    """Bytes of GPU memory a training may take; None is 8 GiB. Giving it plans for a GPU."""
    max_ram: PositiveInt | None = None
    """Bytes of memory the whole process may take; None is half of what is free without a GPU, and no bound with one."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the training will run; `auto` is CUDA where max_vram is given or a GPU is there."""
    budget_seconds: PositiveFloat | None = None
    """Time from now to the finished package; None is as long as it takes. See volseg.plan.budget."""
    fold: int | Literal["all"] = 0
    """The fold that validates."""
    base_width: PositiveInt | None = Field(default=None, multiple_of=8)
    """Feature maps of the first level; None is 32 for a GPU (less where patches would get too small), 16 without one."""
    coarsen: float = Field(default=1.0, ge=1)
    """A case has this to the third power fewer voxels on the model's grid (to the second, for slices)."""
    max_base_width: PositiveInt | None = Field(default=None, ge=8, multiple_of=8)
    """No first level is wider than this."""
    max_voxels: PositiveInt | None = Field(default=None, ge=512)
    """No patch has more voxels than this; None is 80 x 80 x 80 without a GPU, no bound with one."""
    max_batch_size: PositiveInt | None = None
    """No batch has more patches than this."""


def parse_bytes(text: str) -> int:
    """A size such as "8G", "7.5 GiB", "512M" or "1000000" in bytes; K, M, G and T are powers of 1024.

    Raises:
        ConfigError: not a size, or zero.
    """
    match = _SIZE.fullmatch(text)
    size = round(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if size < 1:
        raise ConfigError(f"'{text}' is no size of memory; write it like 8G, 7.5G or 512M.")
    return size


def readable_bytes(size: float) -> str:
    """A size for people, such as "7.5 GiB"."""
    unit, name = (1 << 30, "GiB") if size >= 1 << 30 else (1 << 20, "MiB")
    return f"{size / unit:.2g} {name}" if size < 10 * unit else f"{size / unit:.0f} {name}"
