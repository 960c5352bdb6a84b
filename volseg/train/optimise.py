"""One step of optimisation: optimizer, learning-rate schedule, averaged weights."""

from dataclasses import dataclass
from math import cos, pi

import torch
from torch import Tensor, nn

from volseg.errors import ConfigError
from volseg.geometry import Shape
from volseg.infer.sliding import check_tile
from volseg.models.extents import ExtentRule
from volseg.train.settings import OptimizerConfig, TrainConfig


def make_optimizer(module: nn.Module, settings: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW or SGD-Nesterov; biases and normalisation weights are not decayed."""
    groups = [
        {"params": [p for p in module.parameters() if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in module.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate)
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=True)


def learning_rate(step: int, steps: int, settings: OptimizerConfig, plateau_drops: int = 0) -> float:
    """Linear warm-up to the peak, then the schedule.

    `cosine`: half a cosine to zero (Loshchilov & Hutter: "SGDR", ICLR 2017, eq. 5, without restarts). `poly`:
    (1 - progress)^power to zero (Chen et al.: "DeepLab", TPAMI 2018, section 4.1). `plateau`: constant but for the drops.

    Args:
        step: counts from 1 to steps.
        steps: of the whole training.
        settings: peak, warm-up and schedule.
        plateau_drops: how often the validation has stalled so far; see Plateau.
    """
    warm = min(settings.warmup_steps, steps)
    if step <= warm:
        shape = step / warm
    elif settings.schedule == "plateau":
        shape = 1.0
    else:
        left = 1 - min(1.0, (step - warm) / max(1, steps - warm))
        shape = 0.5 * (1 - cos(pi * left)) if settings.schedule == "cosine" else left**settings.poly_power
    drop = settings.plateau_factor**plateau_drops if settings.schedule == "plateau" else 1.0
    return settings.learning_rate * shape * drop


@dataclass
class Plateau:
    """Counts validations without a better Dice; `vars` gives the state for a checkpoint, as plain numbers."""

    best: float = -1.0
    stalled: int = 0
    """Validations since the best."""
    drops: int = 0
    """How often the learning rate has fallen."""

    def update(self, dice: float, patience: int) -> None:
        """Note a validation; the `patience`-th in a row that is no better than the best drops the rate."""
        if dice > self.best:
            self.best, self.stalled = dice, 0
            return
        self.stalled += 1
        if self.stalled >= patience:
            self.stalled = 0
            self.drops += 1


@torch.no_grad()
def update_average(average: dict[str, Tensor], module: nn.Module, step: int, decay: float) -> None:
    """Move the averaged weights towards the module's; early steps use the shorter memory (1 + step) / (10 + step)."""
    weight = 1 - min(decay, (1 + step) / (10 + step))
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, weight)
        else:
            average[name].copy_(value)


def check_boxes(config: TrainConfig, rule: ExtentRule) -> None:
    """Refuse patches and tiles that the network cannot take, before any work is done.

    Raises:
        ConfigError: an extent does not suit the network, or its tiles could not cover a volume; the message gives the
            extents to use.
    """
    check_extents("patch_voxels", config.patch_voxels, rule)
    check_extents("tile.tile_voxels", config.tile.tile_voxels, rule)
    check_tile(config.tile, rule)


def check_extents(name: str, extents: Shape, rule: ExtentRule) -> None:
    """Refuse boxes that the network cannot take.

    Args:
        name: the setting that gives the extents, for the message.
        extents: of the box (I, J, K).
        rule: of the network; boxes of a 2D one are one voxel thick.

    Raises:
        ConfigError: an extent does not suit the network; the message gives the ones to use.
    """
    dimensions = len(rule.divisors)
    fitting = (*rule.fitting(extents[:dimensions]), 1)[:3]
    if extents != fitting:
        gives = ""
        if any(rule.margins):
            logits = (*rule.output(fitting[:dimensions]), 1)[:3]
            gives = f", for which it gives logits of {list(logits)}"
        raise ConfigError(f"{name} {list(extents)} does not suit the network; use {list(fitting)}{gives}.")
