"""Run a network on batches of tiles: device, weights, 2D, mirroring, and memory that runs out."""

import ctypes
import logging
import sys
from collections.abc import Sequence
from itertools import chain, combinations
from math import prod
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from volseg.errors import ConfigError, DeviceError, IntensityError, PackageError
from volseg.infer.sliding import check_tile
from volseg.models import MODELS
from volseg.models.extents import ExtentRule
from volseg.package import Package

_log = logging.getLogger(__name__)

_BATCH_VOXELS = {"cpu": 2**18, "cuda": 2**22}
"""Voxels of a batch; a batch holds at least one tile. More gains nothing on the CPU and costs memory."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # malloc.h


class Engine:
    """A network on a device, ready for tiles.

    Args:
        module: the network in evaluation mode; its `extents` say what it takes and gives.
        dimensions: 2 (tiles one voxel thick along K) or 3.
        tile_voxels: extents of a tile; decides how many go into one batch.
        mirror_axes: average the logits over the flips of these array axes.
        device: where to compute, from choose_device.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        dimensions: int,
        tile_voxels: Sequence[int],
        mirror_axes: Sequence[int] = (),
        device: torch.device,
    ) -> None:
        self.device = device
        self.extents = cast(ExtentRule, module.extents)
        self._module, self._dimensions = module.to(device), dimensions
        self._flips = _flips(mirror_axes)
        self.tiles_per_batch = max(1, _BATCH_VOXELS[device.type] // prod(tile_voxels))
        if device.type == "cpu":
            keep_memory_mapped()

    def __call__(self, tiles: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Logits [B, N, I, J, K], less the network's margins, of tiles [B, C, I, J, K]; K is 1 for a 2D network.

        When CUDA memory runs out, batches are halved, then the work moves to the CPU for good; both are logged.

        Raises:
            DeviceError: the memory does not hold one tile on the CPU either.
            IntensityError: a logit is NaN or infinite.
        """
        done: list[npt.NDArray[np.float32]] = []
        start = 0
        while start < len(tiles):
            batch = tiles[start : start + self.tiles_per_batch]
            try:
                done.append(self._run(batch))
            except torch.OutOfMemoryError:
                self._retreat()
                continue
            start += len(batch)
        logits = done[0] if len(done) == 1 else np.concatenate(done)
        if not np.isfinite(logits).all():
            raise IntensityError(
                "the network gave NaN or infinite logits, so no label can be chosen; the package does not fit this "
                "input (are the intensities what the model's card says?)."
            )
        return logits

    @torch.inference_mode()
    def _run(self, tiles: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        batch = torch.from_numpy(np.ascontiguousarray(tiles)).to(self.device)
        logits = self._forward(batch)
        for axes in self._flips:
            logits = logits + self._forward(batch.flip(axes)).flip(axes)
        if self._flips:
            logits = logits / (len(self._flips) + 1)
        return logits.float().cpu().numpy()

    def _forward(self, batch: Tensor) -> Tensor:
        if self._dimensions == 2:
            return cast(Tensor, self._module(batch.squeeze(-1))).unsqueeze(-1)
        return cast(Tensor, self._module(batch))

    def _retreat(self) -> None:
        if self.device.type == "cpu":
            raise DeviceError(
                "there is not enough memory for one tile on the CPU; close other programs."
            ) from None
        torch.cuda.empty_cache()
        if self.tiles_per_batch > 1:
            self.tiles_per_batch //= 2
            _log.warning(
                "%s ran out of memory; going on with %d tiles at once", self.device, self.tiles_per_batch
            )
            return
        _log.warning("%s has no memory for one tile; going on with the CPU, which is slower", self.device)
        self.device = torch.device("cpu")
        self._module.to(self.device)
        keep_memory_mapped()


def package_engine(package: Package, *, device: str = "auto", head: int | None = None) -> Engine:
    """The engine of a package's network, pruned to a head where it has several (fewer nodes, less time).

    Raises:
        DeviceError: CUDA was asked for and is not there.
        PackageError: there is no such head, or architecture, weights and tile do not fit together.
    """
    info = package.info
    module, dimensions = _build(package, info.head if head is None else head)
    _check_tile(package, module, dimensions)
    tile_voxels, target = info.tile.tile_voxels, choose_device(device)
    return Engine(
        module, dimensions=dimensions, tile_voxels=tile_voxels, mirror_axes=info.mirror_axes, device=target
    )


def choose_device(device: str) -> torch.device:
    """The torch device for "auto", "cpu" or "cuda".

    Raises:
        ConfigError: another word.
        DeviceError: "cuda" where there is none.
    """
    if device not in {"auto", "cpu", "cuda"}:
        raise ConfigError(f"unknown device '{device}'; expected auto, cpu or cuda.")
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise DeviceError(
            "device 'cuda' was asked for, but this torch sees no CUDA device. Use --device cpu, or install a torch "
            "built for CUDA and check the driver with `volseg doctor`."
        )
    return torch.device("cuda" if available and device != "cpu" else "cpu")


def keep_memory_mapped() -> bool:
    """Tell glibc's malloc to keep freed memory instead of returning it to the system; whether that was possible.

    A network frees and asks for the same large buffers at every layer. By default each is mapped anew and its pages fault
    in one by one, which costs a large part of the time on a CPU. Other C libraries are left as they are.
    """
    if sys.platform != "linux":
        return False
    mallopt: Any = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    never, all_memory = 0, -1
    return bool(mallopt(_M_MMAP_MAX, never)) and bool(mallopt(_M_TRIM_THRESHOLD, all_memory))


def _build(package: Package, head: int | None) -> tuple[nn.Module, int]:
    """The network of a head in evaluation mode with its weights, and whether it is 2D or 3D."""
    info = package.info
    if info.head is not None and head is not None and head > info.head:
        raise PackageError(
            f"{package.source}: this model was packed with its heads up to {info.head} only; found head {head}."
        )
    try:
        architecture = MODELS.build(info.architecture)
        module = architecture.build(info.in_channels, info.channel_count, head=head)
    except ConfigError as error:
        raise PackageError(f"{package.source}: the architecture cannot be built: {error}") from None
    state = {name: torch.from_numpy(array) for name, array in package.weights().items()}
    if head != info.head:
        state = {name: state[name] for name in module.state_dict() if name in state}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:300]
        raise PackageError(
            f"{package.source}: the weights are not those of its architecture: {first}"
        ) from None
    return module.eval(), architecture.dimensions


def _check_tile(package: Package, module: nn.Module, dimensions: int) -> None:
    tile = package.info.tile.tile_voxels
    rule = cast(ExtentRule, module.extents)
    if dimensions == 2 and tile[2] != 1:
        raise PackageError(f"{package.source}: a 2D model needs tiles one voxel thick, found {tile}.")
    fitting = rule.fitting(tile[:dimensions])
    if fitting != tile[:dimensions]:
        raise PackageError(
            f"{package.source}: tiles of {tile} do not suit the network, whose next larger ones have {fitting}."
        )
    try:
        check_tile(package.info.tile, rule)
    except ConfigError as error:
        raise PackageError(f"{package.source}: {error}") from None


def _flips(axes: Sequence[int]) -> list[list[int]]:
    """All non-empty combinations of the spatial axes, as axes of a batch [B, C, I, J, K]."""
    every = chain.from_iterable(combinations(axes, count) for count in range(1, len(axes) + 1))
    return [[axis + 2 for axis in combination] for combination in every]
