"""Losses on single voxels: cross-entropy and what it becomes when hard voxels count more."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn import functional

from volseg.errors import ConfigError
from volseg.train.losses import LOSSES, Loss
from volseg.train.targets import Target, widened


@LOSSES.add
class CrossEntropy(Loss):
    """Cross-entropy of a softmax or of each channel's sigmoid, weighted by class: sum(w·ce) / sum(w).

    Ronneberger, Fischer, Brox: "U-Net" (MICCAI 2015), eq. 1, divided by the sum of its weights w.
    """

    name: Literal["cross_entropy"] = "cross_entropy"
    class_weights: Literal["inverse_frequency"] | tuple[PositiveFloat, ...] | None = None
    """`inverse_frequency`: classes present in the batch share the weight equally, however many voxels each has. Or one
    number per channel: background and each label (softmax), or each region (sigmoid; the inverse frequency then balances
    inside and outside of each region)."""

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """A scalar, at least 0.

        Raises:
            ConfigError: there are not as many weights as channels.
        """
        losses = voxel_losses(logits, target)
        numbers = self.class_weights
        if numbers is None:
            return losses.mean()
        if numbers == "inverse_frequency":
            weights = target.derived("class balance", lambda: class_balance(target))
        else:
            weights = target.derived(repr(self), lambda: _given_weights(numbers, target))
        return (weights * losses).sum() / weights.sum()


@LOSSES.add
class Focal(Loss):
    """Mean of (1 - p)^gamma · -log p, where p is the probability given to the truth: sure voxels count little.

    Lin, Goyal, Girshick, He, Dollár: "Focal loss for dense object detection" (ICCV 2017), eq. 4, without the class weight
    alpha; for a softmax p is that of the true label. `gamma: 0` is cross-entropy.
    """

    name: Literal["focal"] = "focal"
    gamma: NonNegativeFloat = 2.0

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """A scalar, at least 0."""
        losses = voxel_losses(logits, target)
        doubt = -torch.expm1(-losses)  # 1 - p
        return (doubt.clamp_min(_SURE) ** self.gamma * losses).mean()


@LOSSES.add
class TopK(Loss):
    """Mean cross-entropy of the hardest voxels of the batch.

    Wu, Shen, van den Hengel: "High-performance semantic segmentation using very deep fully convolutional networks"
    (arXiv:1604.04339, 2016), section 2.2, online bootstrapping; Shrivastava, Gupta, Girshick: "Training region-based
    object detectors with online hard example mining" (CVPR 2016). For sigmoids each channel of a voxel counts by itself.
    """

    name: Literal["top_k"] = "top_k"
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Of the voxels; at least one is taken."""

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """A scalar, at least 0."""
        losses = voxel_losses(logits, target).flatten()
        count = max(1, round(self.fraction * len(losses)))
        return losses.topk(count, sorted=False).values.mean()


def voxel_losses(logits: Tensor, target: Target) -> Tensor:
    """Cross-entropy per voxel: [B, 1, I, J, K] of a softmax, [B, N, I, J, K] of sigmoids; natural logarithm."""
    if target.exclusive:
        return -(target.one_hot * widened(logits).log_softmax(dim=1)).sum(dim=1, keepdim=True)
    wide = widened(logits)
    return functional.binary_cross_entropy_with_logits(wide, target.one_hot.to(wide.dtype), reduction="none")


def class_balance(target: Target) -> Tensor:
    """Weights as voxel_losses is laid out, inverse to how often a class is in the batch; their mean is 1.

    The weight of a voxel is (voxels) / (classes present · voxels of its class). For sigmoids every channel has two
    classes, inside and outside.
    """
    truth = target.one_hot
    axes = (0, *range(2, truth.ndim))
    voxels = truth[:, 0].numel()
    if target.exclusive:
        counts = truth.sum(axes)
        weights = voxels / (counts.clamp_min(1) * (counts > 0).sum())
        return _by_channel(truth, weights).sum(dim=1, keepdim=True)
    inside = truth.sum(axes)
    outside = voxels - inside
    present = (inside > 0).float() + (outside > 0).float()
    inner = voxels / (inside.clamp_min(1) * present)
    outer = voxels / (outside.clamp_min(1) * present)
    return _by_channel(truth, inner) + _by_channel(1 - truth, outer)


def _given_weights(numbers: Sequence[float], target: Target) -> Tensor:
    truth = target.one_hot
    if len(numbers) != truth.shape[1]:
        raise ConfigError(
            f"loss cross_entropy: class_weights has {len(numbers)} numbers, but the network has {truth.shape[1]} channels "
            f"({'background and one per label' if target.exclusive else 'one per region'}); give one number for each."
        )
    weights = torch.tensor(numbers, device=truth.device)
    if target.exclusive:
        return _by_channel(truth, weights).sum(dim=1, keepdim=True)
    return _by_channel(torch.ones_like(truth), weights)


def _by_channel(channels: Tensor, factors: Tensor) -> Tensor:
    """Channels [B, N, ...] times factors [N]."""
    return channels * factors.view(-1, *(1,) * (channels.ndim - 2))


_SURE = 1e-7
"""Least doubt whose power is taken: with gamma below 1 its slope at 0 is infinite."""
