"""The blocks that all networks share: convolutions, normalisation, and the node H of the U-Net papers."""

from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn

from volseg.errors import InputError
from volseg.models.attention.recalibration import Recalibration, recalibration
from volseg.models.layers import BATCH_NORM, CONV, INSTANCE_NORM

NormName = Literal["instance", "batch", "group", "layer", "none"]
GROUPS = 8
"""Of group norm."""


@dataclass(frozen=True)
class BlockStyle:
    """What the blocks of one network have in common."""

    dimensions: int = 3
    norm: NormName = "instance"
    negative_slope: float = 0.01
    """Of the leaky ReLU; 0 is a ReLU."""
    residual: bool = False
    separable: bool = False
    convolutions: int = 2
    """Per block."""
    padded: bool = True
    attention: Recalibration = "none"


class ConvBlock(nn.Module):
    """H of the papers: some times (twice) convolution, normalisation, leaky ReLU.

    `residual` adds the 1x1-projected input to the last convolution (He et al. 2016); the last norm then starts at zero,
    so that the block starts as its projected input (Goyal et al. 2017, section 5.1). `attention` weights the channels or voxels
    of the last convolution before that sum, as in SE-ResNet (Hu et al. 2018, figure 3). The first convolution, and the
    projection beside it, have the stride.
    """

    def __init__(
        self,
        style: BlockStyle,
        in_channels: int,
        width: int,
        kernel: tuple[int, ...],
        stride: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        dims, count = style.dimensions, style.convolutions
        ones = (1,) * dims
        strides = [stride or ones, *(ones,) * (count - 1)]
        inputs = [in_channels, *(width,) * (count - 1)]
        self.convs = nn.ModuleList(
            _convolution(style, channels, width, kernel, steps)
            for channels, steps in zip(inputs, strides, strict=True)
        )
        self.norms = nn.ModuleList(normalisation(style.norm, dims, width) for _ in inputs)
        self.recalibrate = recalibration(style.attention, dims, width)
        self.project = CONV[dims](in_channels, width, 1, strides[0], bias=False) if style.residual else None
        self.activation = nn.LeakyReLU(style.negative_slope, inplace=True)
        initialise(self, style.negative_slope)
        if style.residual and style.norm != "none":
            nn.init.zeros_(cast(nn.BatchNorm3d, self.norms[-1]).weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, ...] to [B, width, ...]; extents divided by the stride, rounded up, where the convolutions are padded."""
        y = x
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True), start=1):
            y = norm(conv(y))
            if number < len(self.convs):
                y = self.activation(y)
        y = self.recalibrate(y)
        return cast(Tensor, self.activation(y if self.project is None else y + self.project(x)))


class SeparableConv(nn.Sequential):
    """A convolution of each channel by itself, then one of 1x1 across channels (Chollet 2017, without activation between)."""

    def __init__(
        self,
        dims: int,
        in_channels: int,
        width: int,
        *,
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        padding: tuple[int, ...],
    ) -> None:
        depthwise = CONV[dims](
            in_channels, in_channels, kernel, stride, padding, groups=in_channels, bias=False
        )
        super().__init__(depthwise, CONV[dims](in_channels, width, 1))


def normalisation(name: NormName, dims: int, width: int) -> nn.Module:
    """A norm with a weight and a bias per channel; "layer" is over channels and voxels of a sample (Ba et al. 2016)."""
    if name == "instance":
        norm = INSTANCE_NORM[dims](width, affine=True)
        norm.register_forward_pre_hook(_refuse_single_voxel)
        return norm
    if name == "batch":
        return BATCH_NORM[dims](width)
    if name == "none":
        return nn.Identity()
    return nn.GroupNorm(GROUPS if name == "group" else 1, width)


def _refuse_single_voxel(norm: nn.Module, inputs: tuple[Tensor]) -> None:
    del norm
    if inputs[0].shape[2:].numel() == 1:
        raise InputError(
            "the coarsest level of the network is a single voxel, over which an instance norm leaves nothing but its bias; "
            "use a larger patch or tile, fewer widths, or norm: batch, group or layer."
        )


def initialise(module: nn.Module, negative_slope: float) -> None:
    """Kaiming-normal weights for (leaky) ReLUs and zero biases in all convolutions of a module (He et al. 2015, eq. 15).

    The first half of a separable convolution, which no ReLU follows, keeps the variance instead of doubling it.
    """
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(part.weight, a=negative_slope)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    for part in module.modules():
        if isinstance(part, SeparableConv):
            nn.init.kaiming_normal_(cast(nn.Conv3d, part[0]).weight, nonlinearity="linear")


def _convolution(
    style: BlockStyle, in_channels: int, width: int, kernel: tuple[int, ...], stride: tuple[int, ...]
) -> nn.Module:
    padding = tuple(size // 2 if style.padded else 0 for size in kernel)
    if style.separable:
        return SeparableConv(
            style.dimensions, in_channels, width, kernel=kernel, stride=stride, padding=padding
        )
    return CONV[style.dimensions](in_channels, width, kernel, stride, padding)
