"""Losses on single voxels."""

from typing import Literal

from torch import Tensor
from torch.nn import functional

from volseg.train.losses import LOSSES, Loss
from volseg.train.targets import Target


@LOSSES.add
class CrossEntropy(Loss):
    """Cross-entropy, of a softmax or of each channel's sigmoid; mean over voxels."""

    name: Literal["cross_entropy"] = "cross_entropy"

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """A scalar, at least 0."""
        if target.exclusive:
            return functional.cross_entropy(logits.float(), target.one_hot)
        return functional.binary_cross_entropy_with_logits(logits.float(), target.one_hot)
