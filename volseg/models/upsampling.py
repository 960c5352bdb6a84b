"""U of the papers: from a coarser level to the extents of the next finer one."""

from math import prod
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from volseg.models.blocks import BlockStyle, normalisation
from volseg.models.layers import CONV, LINEAR_MODE, UP_CONV

UpsampleName = Literal["transposed", "deconvolution", "linear", "pixelshuffle", "nearest"]


def upsampling(
    name: UpsampleName, style: BlockStyle, in_channels: int, width: int, stride: tuple[int, ...]
) -> nn.Module:
    """A module from [B, in_channels, ...] to [B, `out_channels`, ...], extents multiplied by the stride.

    `transposed`: a transposed convolution whose kernel is the stride ("up-convolution", Ronneberger et al. 2015).
    `deconvolution`: one whose cells overlap, then norm and activation, as MONAI's AttentionUnet has it. `linear`: linear
    interpolation, then a 1x1 convolution to the width. `pixelshuffle`: a 1x1 convolution to prod(stride)
    times the width, whose channels become voxels (Shi et al. 2016, eq. 4), starting as `nearest` does (Aitken et al.
    2017). `nearest`: voxels repeated, channels as they are.
    """
    dims = style.dimensions
    if name == "transposed":
        return TransposedUp(dims, in_channels, width, stride)
    if name == "deconvolution":
        return DeconvolutionUp(style, in_channels, width, stride)
    if name == "pixelshuffle":
        return ShuffleUp(dims, in_channels, width, stride)
    return InterpolatedUp(dims, in_channels, width if name == "linear" else None, stride)


class TransposedUp(nn.Module):
    """A transposed convolution; its weights start with the variance that keeps that of the input."""

    def __init__(self, dims: int, in_channels: int, width: int, stride: tuple[int, ...]) -> None:
        super().__init__()
        self.out_channels = width
        self.conv = UP_CONV[dims](in_channels, width, stride, stride)
        nn.init.normal_(self.conv.weight, std=in_channels**-0.5)
        nn.init.zeros_(cast(Tensor, self.conv.bias))

    def forward(self, x: Tensor) -> Tensor:
        """See `upsampling`."""
        return self.conv(x)


class DeconvolutionUp(nn.Module):
    """A transposed convolution whose kernel is 2 stride - 1, then norm and leaky ReLU.

    Weights start as He et al. 2015 (eq. 15) have it, for the voxels that reach one of the output on average.
    """

    def __init__(self, style: BlockStyle, in_channels: int, width: int, stride: tuple[int, ...]) -> None:
        super().__init__()
        self.out_channels = width
        kernel = tuple(2 * step - 1 for step in stride)
        cut = tuple(step - 1 for step in stride)
        self.conv = UP_CONV[style.dimensions](in_channels, width, kernel, stride, cut, output_padding=cut)
        self.norm = normalisation(style.norm, style.dimensions, width)
        self.activation = nn.LeakyReLU(style.negative_slope, inplace=True)
        reach, slope = in_channels * prod(kernel) / prod(stride), style.negative_slope
        nn.init.normal_(self.conv.weight, std=(2 / (1 + slope**2) / reach) ** 0.5)
        nn.init.zeros_(cast(Tensor, self.conv.bias))

    def forward(self, x: Tensor) -> Tensor:
        """See `upsampling`."""
        return cast(Tensor, self.activation(self.norm(self.conv(x))))


class InterpolatedUp(nn.Module):
    """Linear interpolation and a 1x1 convolution (which commute; the convolution goes first, on fewer voxels), or repetition."""

    def __init__(self, dims: int, in_channels: int, width: int | None, stride: tuple[int, ...]) -> None:
        super().__init__()
        self.out_channels = width or in_channels
        self.conv = CONV[dims](in_channels, width, 1) if width else nn.Identity()
        if isinstance(self.conv, (nn.Conv2d, nn.Conv3d)):
            nn.init.normal_(self.conv.weight, std=in_channels**-0.5)
            nn.init.zeros_(cast(Tensor, self.conv.bias))
        self._factors = [float(step) for step in stride]
        self._mode = LINEAR_MODE[dims] if width else "nearest"

    def forward(self, x: Tensor) -> Tensor:
        """See `upsampling`."""
        return functional.interpolate(self.conv(x), scale_factor=self._factors, mode=self._mode)


class ShuffleUp(nn.Module):
    """Sub-pixel convolution in 2D and 3D, for any stride."""

    def __init__(self, dims: int, in_channels: int, width: int, stride: tuple[int, ...]) -> None:
        super().__init__()
        self.out_channels = width
        self._stride = stride
        self.conv = CONV[dims](in_channels, width * prod(stride), 1)
        with torch.no_grad():
            weight, bias = self.conv.weight, cast(Tensor, self.conv.bias)
            first = torch.empty_like(weight[:width]).normal_(std=in_channels**-0.5)
            weight.copy_(first.repeat_interleave(prod(stride), dim=0))
            bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """See `upsampling`; channel c * prod(stride) + n becomes channel c of the n-th voxel of a cell, in C order."""
        batch, _, *extents = x.shape
        dims = len(extents)
        cells = self.conv(x).reshape(batch, self.out_channels, *self._stride, *extents)
        order = [axis for n in range(dims) for axis in (2 + dims + n, 2 + n)]
        finer = [extent * step for extent, step in zip(extents, self._stride, strict=True)]
        return cells.permute(0, 1, *order).reshape(batch, self.out_channels, *finer)
