"""What one training step holds in memory, found without a device: the step runs on tensors that have no data."""

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Literal, cast

import torch

from volseg.errors import ConfigError
from volseg.models import Architecture
from volseg.models.extents import ExtentRule
from volseg.models.live_bytes import LiveBytes
from volseg.train.losses.heads import training_loss
from volseg.train.settings import LossConfig
from volseg.train.targets import Target

Optimizer = Literal["adamw", "sgd"]

GIB = 1 << 30

FIXED_BYTES = {"cpu": GIB * 5 // 8, "cuda": GIB}
"""The interpreter, torch and its libraries (0.4 GiB of resident memory on CPU, plus the data that is being prepared); on
CUDA the context with its kernels (0.5 GiB) and the work space of the convolutions."""

SLACK = {"cpu": 1.20, "cuda": 1.15}
"""What the allocator and the work space of the convolutions take beyond the tensors: measured on CPU
(tests/plan/test_memory.py), granted on CUDA."""

_STATES = {"adamw": 2, "sgd": 1}
_PARAMETER_BYTES = 4
_MANY = 1024


@dataclass(frozen=True)
class NetworkShape:
    """What, besides the extents of a patch, decides how much memory a network takes in training."""

    architecture: Architecture
    in_channels: int
    out_channels: int
    exclusive: bool = True
    """Softmax over the channels; otherwise a sigmoid each."""
    half: bool = False
    """Activations in two bytes (bf16 or fp16 autocast) instead of four."""


def training_bytes(
    shape: NetworkShape,
    patch_voxels: tuple[int, ...],
    batch_size: int,
    *,
    optimizer: Optimizer = "adamw",
    device: Literal["cpu", "cuda"] = "cuda",
) -> int:
    """Bytes at the peak of a training step.

    (parameters x (weights + optimiser states + average) + peak of the step's own tensors) x SLACK + FIXED_BYTES. The peak
    of the step (activations kept for the backward pass, logits, gradients) is proportional to the voxels of a batch but
    for the gradients of the weights, so one run tells it for every patch whose extents suit the network. Of a network
    whose logits are smaller than its input it is not, and each patch takes a run of its own.

    Args:
        shape: the network and its precision.
        patch_voxels: extents of a patch, which suit the network. A last extent of 1 is left out in 2D.
        batch_size: patches at once.
        optimizer: AdamW keeps two states per weight, SGD one.
        device: what the fixed part is of.

    Raises:
        ConfigError: the architecture cannot be run without data.
    """
    rule = _rule(shape)
    patch = patch_voxels[: len(rule.margins)] if any(rule.margins) else None
    fixed, per_voxel, parameters = _step_bytes(shape, patch)
    kept = parameters * _PARAMETER_BYTES * (2 + _STATES[optimizer])
    step = fixed + per_voxel * prod(patch_voxels) * batch_size
    return round((kept + step) * SLACK[device]) + FIXED_BYTES[device]


def parameter_count(shape: NetworkShape) -> int:
    """Number of trained numbers."""
    return _step_bytes(shape)[2]


@lru_cache(maxsize=4)
def _network(shape: NetworkShape) -> torch.nn.Module:
    with torch.device("meta"):
        network = shape.architecture.build(shape.in_channels, shape.out_channels)
    return network.to(torch.bfloat16 if shape.half else torch.float32).train()


@lru_cache(maxsize=512)
def _rule(shape: NetworkShape) -> ExtentRule:
    return cast(ExtentRule, _network(shape).extents)


@lru_cache(maxsize=512)
def _step_bytes(shape: NetworkShape, patch_voxels: tuple[int, ...] | None = None) -> tuple[float, float, int]:
    """(bytes whatever the extents, bytes per voxel of a batch, number of parameters), from this patch or a small one."""
    network, rule = _network(shape), _rule(shape)
    # Twice the least: an instance norm refuses a single voxel per channel.
    extents = patch_voxels or rule.fitting(tuple(2 * least for least in rule.least))
    # Many patches, so that the activations outweigh the gradients of the weights and set the time of the peak.
    per_voxel = _peak_bytes(network, shape, extents, _MANY) / (prod(extents) * _MANY)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    # In autocast weights and their gradients are four bytes, with two-byte copies of the weights for the step.
    gradients = parameters * _PARAMETER_BYTES * (1.5 if shape.half else 1.0)
    return gradients, per_voxel, parameters


def _peak_bytes(network: torch.nn.Module, shape: NetworkShape, extents: tuple[int, ...], batch: int) -> int:
    """The most bytes that one step's tensors take at a time, weights not counted."""
    dtype = torch.bfloat16 if shape.half else torch.float32
    images = torch.empty((batch, shape.in_channels, *extents), dtype=dtype, device="meta")
    # The loss takes three axes: a 2D patch is one voxel thick.
    padded = (*_rule(shape).output(extents), 1)[: max(3, len(extents))]
    target = Target(torch.empty((batch, shape.out_channels, *padded), device="meta"), shape.exclusive)
    network.zero_grad(set_to_none=True)
    with LiveBytes() as live:
        live.start(images, target.one_hot)
        try:
            heads = network(images)
            heads = heads if isinstance(heads, list) else [heads]
            logits = [head.reshape(*head.shape[:2], *padded) for head in heads]
            training_loss(logits, target, LossConfig(), progress=0.5).backward()
        except (RuntimeError, NotImplementedError) as error:
            name = getattr(shape.architecture, "name", "?")
            raise ConfigError(
                f"the memory of '{name}' cannot be told without running it ({error}); give patch_voxels and batch_size in "
                "a configuration of your own."
            ) from error
    return live.peak
