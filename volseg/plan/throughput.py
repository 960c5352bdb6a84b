"""How long a configuration takes on this machine: measured where that is quick, else told by its operations."""

import time
from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod
from typing import cast

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from volseg.infer.engines import choose_device, keep_memory_mapped
from volseg.infer.sliding import plan_boxes
from volseg.models import Architecture
from volseg.models.extents import ExtentRule
from volseg.package.fingerprint import Fingerprint
from volseg.plan.spacing import turned
from volseg.preprocess.spatial import Orient, Respace
from volseg.train.distributed import ALONE
from volseg.train.precision import choose_precision
from volseg.train.samples.patches import Batch
from volseg.train.settings import TrainConfig
from volseg.train.split import trained_regions
from volseg.train.step import Stepper
from volseg.train.targets import TargetCode

MEASURED_STEPS = 3
"""Steps that a measurement takes: one to warm up, then as many to time, the quickest of which counts."""

_READ_SECONDS, _MAP_SECONDS = 4e-8, 1.2e-7
"""Preparing a case takes this long per voxel and channel of the scan, and of the grid of the model (2 cores: 0.4 s for
8.4 million voxels brought to 2.1 million; the first number is doubled, as disks differ)."""

_FORWARD_SHARE = 0.5
"""Of a training step's time, the forward pass: a third, but whole cases are predicted without autocast on CPU."""


def measure_step(config: TrainConfig, *, device: str = "auto") -> float:
    """Seconds of a training step on patches of noise: forward, loss, backward, optimizer, average.

    Args:
        config: nothing of its dataset is read.
        device: "auto", "cpu" or "cuda".
    """
    keep_memory_mapped()
    place = choose_device(device)
    code = _code(config)
    network = config.architecture.build(in_channels(config), code.channels).to(place)
    precision, _ = choose_precision(
        config.precision, place, config.patch_voxels, config.architecture, in_channels=in_channels(config)
    )
    stepper = Stepper(network, config, code, precision=precision, ranks=ALONE)
    batches = [_noise(config, code, micro, place) for micro in range(config.accumulate)]
    seconds: list[float] = []
    for step in range(1, MEASURED_STEPS + 1):
        began = time.perf_counter()
        stepper.gradients(batches, progress=0.5)
        stepper.apply(step, 1e-6)
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def step_flops(config: TrainConfig) -> float:
    """Floating-point operations of the convolutions of a training step: three times those of the forward pass."""
    extents = config.patch_voxels[: config.architecture.dimensions]
    architecture = cast(Hashable, config.architecture)  # frozen, which pyright does not see
    forward = _forward_flops(architecture, in_channels(config), _code(config).channels, extents)
    return 3.0 * forward * config.batch_size * config.accumulate


@lru_cache(maxsize=64)
def _forward_flops(
    architecture: Architecture, channels: int, label_count: int, extents: tuple[int, ...]
) -> int:
    """Of one patch, all heads included, counted on tensors without data."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        architecture.build(channels, label_count).train()(torch.empty((1, channels, *extents)))
    return counter.get_total_flops()


@lru_cache(maxsize=64)
def _rule(architecture: Architecture) -> ExtentRule:
    with torch.device("meta"):
        return cast(ExtentRule, architecture.build(1, 1).extents)


def in_channels(config: TrainConfig) -> int:
    """Channels that the network of a configuration takes."""
    return len(config.dataset.channel_names()) * (2 * config.tile.slices_around + 1)


@dataclass(frozen=True)
class Surroundings:
    """Seconds of what comes before, between and after the steps."""

    preparation: float
    """All cases into the cache."""
    case: float
    """One held-out case, predicted."""
    held_out: int
    """Cases that are predicted at the end."""

    @property
    def end(self) -> float:
        """Predicting all held-out cases, choosing the postprocessing, writing the package."""
        return self.case * self.held_out


def surroundings(config: TrainConfig, fingerprint: Fingerprint, step_seconds: float) -> Surroundings:
    """What a training takes besides its steps, for median cases.

    A tile takes the share of a step that its voxels have in the batch, and of that the forward pass alone, once for each
    mirrored view.

    Args:
        config: the training.
        fingerprint: of its cases.
        step_seconds: of one step.
    """
    codes = next((step.codes for step in config.preprocess if isinstance(step, Orient)), "RAS")
    spacing = next((step.spacing_mm for step in config.preprocess if isinstance(step, Respace)), None)
    across, along, up = (axis.median for axis in fingerprint.size_mm)
    size = np.array(turned((across, along, up), codes))
    source = prod(axis.median for axis in fingerprint.shape)
    first, second, third = np.maximum(1, np.round(size / (spacing or size))).astype(int).tolist()
    tile = config.tile
    tiles = len(plan_boxes((first, second, third), tile, _rule(cast(Hashable, config.architecture))))
    batch = prod(config.patch_voxels) * config.batch_size * config.accumulate
    per_tile = step_seconds * _FORWARD_SHARE * prod(tile.tile_voxels) / batch * 2 ** len(config.mirror_axes)
    voxels = source * _READ_SECONDS + first * second * third * _MAP_SECONDS
    everyone = config.split.fold == "all"
    return Surroundings(
        preparation=voxels * len(fingerprint.channels) * fingerprint.cases,
        case=tiles * per_tile,
        held_out=0 if everyone else ceil(fingerprint.cases / config.split.folds),
    )


def _code(config: TrainConfig) -> TargetCode:
    return TargetCode.of(config.dataset.labels(), trained_regions(config))


def _noise(config: TrainConfig, code: TargetCode, micro: int, device: torch.device) -> Batch:
    generator = torch.Generator().manual_seed(micro)
    shape = (config.batch_size, *config.patch_voxels)
    images = torch.randn((config.batch_size, in_channels(config), *config.patch_voxels), generator=generator)
    labels = torch.randint(code.membership.shape[1], shape, generator=generator)
    return Batch(1, micro, images.to(device), labels.to(device))
