"""One step of optimisation: optimizer, learning-rate schedule, averaged weights, precision."""

from math import cos, pi
from typing import Literal

import torch
from torch import Tensor, nn

from volseg.errors import ConfigError
from volseg.geometry import Shape
from volseg.train.settings import OptimizerConfig


def make_optimizer(module: nn.Module, settings: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW or SGD-Nesterov; biases and normalisation weights are not decayed."""
    groups = [
        {"params": [p for p in module.parameters() if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in module.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate)
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=True)


def learning_rate(step: int, steps: int, settings: OptimizerConfig) -> float:
    """Linear warm-up to the peak, then half a cosine to zero; step counts from 1 to steps."""
    warm = min(settings.warmup_steps, steps)
    if step <= warm:
        return settings.learning_rate * step / warm
    progress = (step - warm) / max(1, steps - warm)
    return settings.learning_rate * 0.5 * (1 + cos(pi * min(1.0, progress)))


@torch.no_grad()
def update_average(average: dict[str, Tensor], module: nn.Module, step: int, decay: float) -> None:
    """Move the averaged weights towards the module's; early steps use the shorter memory (1 + step) / (10 + step)."""
    weight = 1 - min(decay, (1 + step) / (10 + step))
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, weight)
        else:
            average[name].copy_(value)


def check_extents(name: str, extents: Shape, divisors: tuple[int, ...]) -> None:
    """Refuse boxes that the network cannot take, before any work is done.

    Args:
        name: the setting that gives the extents, for the message.
        extents: of the box (I, J, K).
        divisors: of the network; two for a 2D one, whose boxes are one voxel thick.

    Raises:
        ConfigError: an extent is no multiple of its divisor; the message gives the ones to use.
    """
    every = (*divisors, *((1,) * (3 - len(divisors))))
    fitting = [-(-extent // divisor) * divisor for extent, divisor in zip(extents, every, strict=True)]
    if len(divisors) == 2:
        fitting[2] = 1
    if list(extents) != fitting:
        raise ConfigError(f"{name} {list(extents)} does not fit the network; use {fitting}.")


def check_precision(
    precision: Literal["fp32", "bf16"], device: torch.device, patch_voxels: Shape, divisors: tuple[int, ...]
) -> None:
    """Refuse bf16 on CPU where torch computes wrong convolution gradients without saying so.

    With padding 1 the weight gradient of a 3-D convolution is garbage where the first axis is 2 voxels long (torch
    2.13, bf16 autocast on CPU; correct in fp32 and on CUDA).

    Raises:
        ConfigError: a level of the network would be 2 voxels long on the first axis.
    """
    if precision == "fp32" or device.type != "cpu":
        return
    extents = {patch_voxels[0] // (divisors[0] // factor) for factor in range(1, divisors[0] + 1)
               if divisors[0] % factor == 0}  # fmt: skip
    if 2 in extents:
        raise ConfigError(
            f"bf16 training on CPU gives wrong gradients when a level is 2 voxels long on the first axis, as with "
            f"patch_voxels {patch_voxels} here; use precision=fp32 or a larger patch."
        )
