"""MobileNetV3 as an encoder, in 2D and 3D.

Howard et al.: "Searching for MobileNetV3" (ICCV 2019), tables 1 and 2.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn

from volseg.models.blocks import initialise, normalisation
from volseg.models.encoders import ENCODERS, Encoder, EncoderStep, LevelPlan
from volseg.models.encoders.published import EncoderNorm, renamed
from volseg.models.layers import CONV

_EPSILON, _MOMENTUM = 1e-3, 0.01
_SQUEEZE, _SQUEEZE_STEP = 4, 8


@dataclass(frozen=True)
class Bottleneck:
    """A row of the tables: kernel, expanded width, width, squeeze-and-excitation, hard-swish (or ReLU), stride."""

    kernel: int
    expanded: int
    width: int
    squeeze: bool
    swish: bool
    stride: int


_STEM = 16
_TABLES = {
    "large": (
        Bottleneck(3, 16, 16, False, False, 1),
        Bottleneck(3, 64, 24, False, False, 2),
        Bottleneck(3, 72, 24, False, False, 1),
        Bottleneck(5, 72, 40, True, False, 2),
        Bottleneck(5, 120, 40, True, False, 1),
        Bottleneck(5, 120, 40, True, False, 1),
        Bottleneck(3, 240, 80, False, True, 2),
        Bottleneck(3, 200, 80, False, True, 1),
        Bottleneck(3, 184, 80, False, True, 1),
        Bottleneck(3, 184, 80, False, True, 1),
        Bottleneck(3, 480, 112, True, True, 1),
        Bottleneck(3, 672, 112, True, True, 1),
        Bottleneck(5, 672, 160, True, True, 2),
        Bottleneck(5, 960, 160, True, True, 1),
        Bottleneck(5, 960, 160, True, True, 1),
    ),
    "small": (
        Bottleneck(3, 16, 16, True, False, 2),
        Bottleneck(3, 72, 24, False, False, 2),
        Bottleneck(3, 88, 24, False, False, 1),
        Bottleneck(5, 96, 40, True, True, 2),
        Bottleneck(5, 240, 40, True, True, 1),
        Bottleneck(5, 240, 40, True, True, 1),
        Bottleneck(5, 120, 48, True, True, 1),
        Bottleneck(5, 144, 48, True, True, 1),
        Bottleneck(5, 288, 96, True, True, 2),
        Bottleneck(5, 576, 96, True, True, 1),
        Bottleneck(5, 576, 96, True, True, 1),
    ),
}
_LEVELS = 5
_LAST_EXPANSION = 6


class _LayerMaker:
    """Makes convolution, norm and activation as the 0, 1 and 2 of a sequence."""

    def __init__(self, dims: int, norm: EncoderNorm) -> None:
        self.dims = dims
        self._norm: EncoderNorm = norm

    def __call__(
        self,
        in_channels: int,
        width: int,
        *,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        activation: type[nn.Module] | None,
    ) -> nn.Sequential:
        conv = CONV[self.dims](
            in_channels, width, kernel, stride, padding=(kernel - 1) // 2, groups=groups, bias=False
        )
        norm = normalisation(self._norm, self.dims, width)
        if isinstance(norm, (nn.BatchNorm2d, nn.BatchNorm3d)):
            norm.eps, norm.momentum = _EPSILON, _MOMENTUM
        return nn.Sequential(conv, norm, *([activation()] if activation else []))


@ENCODERS.add
class MobileNetV3(EncoderStep):
    """Inverted residual bottlenecks with depthwise convolutions; features at 1/2, 1/4, 1/8, 1/16 and 1/32.

    A feature is the last map of its extents before the next stride; the one at 1/32 is that of the 1x1 convolution
    after the last bottleneck, the last that has voxels (torchvision's `features`). Layers are those of torchvision's
    mobilenet_v3_small and _large, whose published weights fit in 2D: convolutions padded by (k - 1) / 2 on both sides,
    batch norm with epsilon 0.001 and momentum 0.01. In 3D every kernel is a cube.
    """

    name: Literal["mobilenetv3"] = "mobilenetv3"
    size: Literal["small", "large"] = "large"
    norm: EncoderNorm = "batch"

    @property
    def most_levels(self) -> int:
        """Five."""
        return _LEVELS

    def build(self, in_channels: int, plan: LevelPlan) -> Encoder:
        """The encoder; its widths and strides are its own."""
        layer = _LayerMaker(plan.dimensions, self.norm)
        stem = layer(in_channels, _STEM, kernel=3, stride=2, activation=nn.Hardswish)
        levels: list[OrderedDict[str, nn.Module]] = [OrderedDict({"0": stem})]
        widths, channels = [_STEM], _STEM
        for number, row in enumerate(_TABLES[self.size], start=1):
            if row.stride > 1:
                levels.append(OrderedDict())
                widths.append(row.width)
            levels[-1][str(number)] = InvertedResidual(layer, channels, row)
            widths[-1] = channels = row.width
        widths[-1] = _LAST_EXPANSION * channels
        number = str(len(_TABLES[self.size]) + 1)
        levels[-1][number] = layer(channels, widths[-1], kernel=1, activation=nn.Hardswish)
        stages = nn.ModuleList(nn.Sequential(level) for level in levels[: plan.levels])
        initialise(stages, negative_slope=0)
        strides = ((2,) * plan.dimensions,) * plan.levels
        return MobileNetV3Encoder(stages, tuple(widths[: plan.levels]), strides)


class MobileNetV3Encoder(Encoder):
    """Stage i holds some of torchvision's `features`, under their numbers there."""

    def convert_torchvision(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`features.N.x` becomes `stages.L.N.x`; see the base class."""
        file = "mobilenet_v3_small or mobilenet_v3_large, and `size` and `norm: batch` to match"
        return renamed(self.state_dict(), weights, _published_name, what="MobileNetV3", file=file)


def _published_name(name: str) -> str:
    return "features." + name.split(".", 2)[2]


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, squeeze-and-excitation, projection (Howard et al. 2019, figure 4).

    Where the input is added, the last norm starts at zero (Goyal et al. 2017, section 5.1).
    """

    def __init__(self, layer: "_LayerMaker", in_channels: int, row: Bottleneck) -> None:
        super().__init__()
        activation = nn.Hardswish if row.swish else nn.ReLU
        expanded = row.expanded
        parts: list[nn.Module] = []
        if expanded != in_channels:
            parts.append(layer(in_channels, expanded, kernel=1, activation=activation))
        parts.append(
            layer(
                expanded,
                expanded,
                kernel=row.kernel,
                stride=row.stride,
                groups=expanded,
                activation=activation,
            )
        )
        if row.squeeze:
            parts.append(HardExcitation(layer.dims, expanded))
        parts.append(layer(expanded, row.width, kernel=1, activation=None))
        self.block = nn.Sequential(*parts)
        self._adds = row.stride == 1 and in_channels == row.width
        if self._adds:
            last = cast(nn.Sequential, parts[-1])[1]
            nn.init.zeros_(cast(nn.BatchNorm3d, last).weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, ...] to [B, width, ...], extents divided by the stride and rounded up."""
        y = self.block(x)
        return x + y if self._adds else y


class HardExcitation(nn.Module):
    """Channels weighted by the means of all: x * hardsigmoid(W2 relu(W1 mean(x))) (Howard et al. 2019, section 5.3).

    The squeeze has a quarter of the channels, rounded to a multiple of 8.
    """

    def __init__(self, dims: int, width: int) -> None:
        super().__init__()
        inner = _divisible(width // _SQUEEZE)
        self.fc1 = CONV[dims](width, inner, 1)
        self.fc2 = CONV[dims](inner, width, 1)
        self.activation = nn.ReLU(inplace=True)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, ...] to the same shape."""
        means = x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)
        return x * self.gate(self.fc2(self.activation(self.fc1(means))))


def _divisible(width: int) -> int:
    """The nearest multiple of 8 that is not more than a tenth below."""
    rounded = max(_SQUEEZE_STEP, (width + _SQUEEZE_STEP // 2) // _SQUEEZE_STEP * _SQUEEZE_STEP)
    return rounded + _SQUEEZE_STEP if rounded < 0.9 * width else rounded
