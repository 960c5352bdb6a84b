"""Training losses on logits."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from volseg.train.settings import LossConfig


def soft_dice(logits: Tensor, labels: Tensor, *, smooth: float = 1e-5) -> Tensor:
    """Soft Dice per label, summed over the batch (Milletari et al. 2016, eq. 4 without squares).

    Args:
        logits: [B, L, I, J, K].
        labels: [B, I, J, K], label indices.
        smooth: keeps a label that is absent from batch and prediction at 1.

    Returns:
        [L] in 0..1.
    """
    probabilities = logits.float().softmax(dim=1)
    one_hot = functional.one_hot(labels, logits.shape[1]).movedim(-1, 1)
    axes = (0, *range(2, logits.ndim))
    overlap = (probabilities * one_hot).sum(axes)
    total = probabilities.sum(axes) + one_hot.sum(axes)
    return (2 * overlap + smooth) / (total + smooth)


def dice_cross_entropy(logits: Tensor, labels: Tensor, loss: LossConfig) -> Tensor:
    """Weighted sum of 1 - mean foreground soft Dice and cross-entropy; a scalar."""
    dice_loss = 1 - soft_dice(logits, labels)[1:].mean()
    cross_entropy = functional.cross_entropy(logits.float(), labels)
    return loss.dice_weight * dice_loss + loss.cross_entropy_weight * cross_entropy


def deep_supervision(heads: Sequence[Tensor], labels: Tensor, loss: LossConfig) -> Tensor:
    """The loss summed over heads 1..L with weights head_decay**(L - l), normalised (Zhou et al. 2020, eq. 4)."""
    weights = torch.tensor([loss.head_decay ** (len(heads) - 1 - n) for n in range(len(heads))])
    weights = (weights / weights.sum()).tolist()
    losses = [
        weight * dice_cross_entropy(head, labels, loss) for weight, head in zip(weights, heads, strict=True)
    ]
    return torch.stack(losses).sum()
