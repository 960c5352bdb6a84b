"""The training loss: the sum of its terms on every deep-supervision head."""

from collections.abc import Sequence

import torch
from torch import Tensor

from volseg.train.settings import HeadsConfig, LossConfig
from volseg.train.targets import Target


def head_weights(count: int, heads: HeadsConfig, progress: float) -> list[float]:
    """Weights of heads 1..L, which sum to one (Zhou et al. 2020, eq. 4)."""
    weights = [heads.decay ** (count - 1 - n) for n in range(count)]
    return [weight / sum(weights) for weight in weights]


def training_loss(heads: Sequence[Tensor], target: Target, loss: LossConfig, *, progress: float) -> Tensor:
    """A scalar."""
    weights = head_weights(len(heads), loss.heads, progress)
    return torch.stack(
        [w * term.weight * term(head, target) for w, head in zip(weights, heads, strict=True) for term in loss.terms]
    ).sum()
