"""Losses on overlap."""

from typing import Literal

from torch import Tensor

from volseg.train.losses import LOSSES, Loss
from volseg.train.targets import Target


@LOSSES.add
class SoftDice(Loss):
    """1 - mean foreground soft Dice (Milletari et al. 2016, eq. 4 without squares)."""

    name: Literal["dice"] = "dice"

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """A scalar in 0..1."""
        probabilities = target.probabilities(logits)
        axes = (0, *range(2, logits.ndim))
        overlap = (probabilities * target.one_hot).sum(axes)
        total = probabilities.sum(axes) + target.one_hot.sum(axes)
        return 1 - target.foreground((2 * overlap + 1e-5) / (total + 1e-5)).mean()
