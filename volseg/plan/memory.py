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
    for the gradients of the weights, so one run tells it for every patch whose extents suit the network. Of architectures
    that are not `memory_per_voxel`, each patch and batch take a run of their own.

    Args:
        shape: the network and its precision.
        patch_voxels: extents of a patch, which suit the network. A last extent of 1 is left out in 2D.
        batch_size: patches at once.
        optimizer: AdamW keeps two states per weight, SGD one.
        device: what the fixed part is of.

    Raises:
        ConfigError: the architecture cannot be run without data.
        InputError: its self-attention would take more than self_attention_gib.
    """
    kept = parameter_count(shape) * _PARAMETER_BYTES * (2 + _STATES[optimizer])
    if shape.architecture.memory_per_voxel:
        step = _gradient_bytes(shape) + _voxel_bytes(shape) * prod(patch_voxels) * batch_size
    else:
        axes = len(_rule(shape).divisors)
        step = _gradient_bytes(shape) + _peak_bytes(shape, patch_voxels[:axes], batch_size)
    return round((kept + step) * SLACK[device]) + FIXED_BYTES[device]


def parameter_count(shape: NetworkShape) -> int:
    """Number of trained numbers."""
    return sum(parameter.numel() for parameter in _network(shape).parameters())


@lru_cache(maxsize=4)
def _network(shape: NetworkShape) -> torch.nn.Module:
    with torch.device("meta"):
        network = shape.architecture.build(shape.in_channels, shape.out_channels)
    return network.to(torch.bfloat16 if shape.half else torch.float32).train()


def _rule(shape: NetworkShape) -> ExtentRule:
    return cast(ExtentRule, _network(shape).extents)


def _gradient_bytes(shape: NetworkShape) -> float:
    """Of the weights. In autocast they and their gradients are four bytes, with two-byte copies of the weights for the step."""
    return parameter_count(shape) * _PARAMETER_BYTES * (1.5 if shape.half else 1.0)


@lru_cache(maxsize=512)
def _voxel_bytes(shape: NetworkShape) -> float:
    """Bytes per voxel of a batch, from a small patch."""
    # Twice the least: an instance norm refuses a single voxel per channel.
    rule = _rule(shape)
    extents = rule.fitting(tuple(2 * least for least in rule.least))
    # Many patches, so that the activations outweigh the gradients of the weights and set the time of the peak.
    return _peak_bytes(shape, extents, _MANY) / (prod(extents) * _MANY)


@lru_cache(maxsize=512)
def _peak_bytes(shape: NetworkShape, extents: tuple[int, ...], batch: int) -> int:
    """The most bytes that one step's tensors take at a time, weights not counted."""
    network = _network(shape)
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
