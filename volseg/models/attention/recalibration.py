"""Weights on the channels or the voxels of a feature map."""

from typing import Literal

import torch
from torch import Tensor, nn

from volseg.models.layers import CONV

Recalibration = Literal["none", "se", "scse", "spatial"]

REDUCTION = 16
"""Channels of a squeeze per channel inside its bottleneck (Hu et al. 2018, section 6.1), which has at least four."""

_KERNEL = 7


def recalibration(name: Recalibration, dims: int, width: int) -> nn.Module:
    """The module of a name: [B, width, ...] to the same shape."""
    if name == "se":
        return SqueezeExcitation(width)
    if name == "scse":
        return ConcurrentExcitation(dims, width)
    return SpatialAttention(dims) if name == "spatial" else nn.Identity()


class SqueezeExcitation(nn.Module):
    """Channels weighted by the means of all: x * sigmoid(W2 relu(W1 mean(x))).

    Hu, Shen, Sun: "Squeeze-and-Excitation Networks" (CVPR 2018), eq. 2 to 4.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(4, width // REDUCTION)
        self.weigh = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, ...] to the same shape."""
        weights = self.weigh(x.flatten(2).mean(dim=2))
        return x * weights.reshape(*weights.shape, *(1,) * (x.ndim - 2))


class ConcurrentExcitation(nn.Module):
    """Channels weighted as in SqueezeExcitation, and voxels weighted by a 1x1 convolution; the larger of both counts.

    Roy, Navab, Wachinger: "Recalibrating Fully Convolutional Networks with Spatial and Channel Squeeze & Excitation Blocks"
    (IEEE TMI 38(2), 2019), section III; of the paper's ways to combine both, the element-wise maximum.
    """

    def __init__(self, dims: int, width: int) -> None:
        super().__init__()
        self.channels = SqueezeExcitation(width)
        self.voxels = nn.Sequential(CONV[dims](width, 1, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, ...] to the same shape."""
        return torch.maximum(self.channels(x), x * self.voxels(x))


class SpatialAttention(nn.Module):
    """Voxels weighted by a 7-wide convolution of the mean and the maximum over channels.

    Woo et al.: "CBAM: Convolutional Block Attention Module" (ECCV 2018), eq. 3.
    """

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(CONV[dims](2, 1, _KERNEL, padding=_KERNEL // 2), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, ...] to the same shape."""
        pooled = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * self.weigh(pooled)
