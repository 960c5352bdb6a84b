"""ResNet (He et al. 2016, doi:10.1109/CVPR.2016.90) and ResNeXt (Xie et al. 2017, doi:10.1109/CVPR.2017.634) as encoders.

The blocks are MONAI's. In 2D with batch norm the networks are torchvision's: the stride of a bottleneck is on its 3x3
convolution, not on the first 1x1 as in the paper, and a shortcut that changes extents or maps is a 1x1 convolution with norm
(He et al. 2016, option B). In 3D every kernel and stride is the same on all three axes.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, cast

from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from volseg.errors import ConfigError
from volseg.models.blocks import GROUPS, initialise, normalisation
from volseg.models.encoders import ENCODERS, Encoder, EncoderStep, LevelPlan
from volseg.models.encoders.published import EncoderNorm, monai_norm
from volseg.models.layers import CONV, MAX_POOL

if TYPE_CHECKING:
    from monai.networks.nets.resnet import ResNetBottleneck

BlockMaker = Callable[[int, int, int, nn.Module | None], nn.Module]
"""A residual block from its input maps, the planes (maps of its 3x3 convolutions without groups), stride and shortcut."""

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_PLANES = (64, 128, 256, 512)
_STEM = 64


@ENCODERS.add
class ResNet(EncoderStep):
    """Five levels: the 7x7 stem (64 maps at half the image's extents) and the four groups of residual blocks."""

    name: Literal["resnet"] = "resnet"
    layers: Literal[18, 34, 50, 101, 152] = 34
    """18 and 34 have blocks of two 3x3 convolutions, the others bottlenecks (He et al. 2016, table 1)."""
    norm: EncoderNorm = "batch"

    @property
    def most_levels(self) -> int:
        """The stem and four groups."""
        return 1 + len(_PLANES)

    def build(self, in_channels: int, plan: LevelPlan) -> "ResNetEncoder":
        """The encoder; its finest level has half the image's extents."""
        bottleneck = self.layers >= 50
        block = block_maker(self.norm, plan.dimensions, bottleneck=bottleneck)
        widths = tuple((4 if bottleneck else 1) * planes for planes in _PLANES)
        return ResNetEncoder(
            in_channels, self.norm, block, counts=_BLOCKS[self.layers], widths=widths, plan=plan
        )


@ENCODERS.add
class ResNeXt(EncoderStep):
    """A ResNet whose bottlenecks have grouped 3x3 convolutions (Xie et al. 2017, figure 3c).

    The published 50 (32x4d) and 101 (32x8d or 64x4d) are groups 32 or 64 and width_per_group 4 or 8.
    """

    name: Literal["resnext"] = "resnext"
    layers: Literal[50, 101] = 50
    groups: PositiveInt = 32
    """The cardinality C."""
    width_per_group: PositiveInt = 4
    """Maps of each group in the first group of blocks, d; twice as many in each further one."""
    norm: EncoderNorm = "batch"

    @property
    def most_levels(self) -> int:
        """The stem and four groups."""
        return 1 + len(_PLANES)

    @model_validator(mode="after")
    def _check_norm_groups(self) -> "ResNeXt":
        width = self.groups * self.width_per_group
        if self.norm == "group" and width % GROUPS:
            raise ValueError(
                f"group norm needs groups x width_per_group to be a multiple of {GROUPS}, found {width}"
            )
        return self

    def build(self, in_channels: int, plan: LevelPlan) -> "ResNetEncoder":
        """The encoder; its finest level has half the image's extents."""
        groups = (self.groups, self.width_per_group)
        block = block_maker(self.norm, plan.dimensions, bottleneck=True, groups=groups)
        widths = tuple(4 * planes for planes in _PLANES)
        return ResNetEncoder(
            in_channels, self.norm, block, counts=_BLOCKS[self.layers], widths=widths, plan=plan
        )


class ResNetEncoder(Encoder):
    """`stages.0.conv1` and `.bn1` are the stem, `stages.i.layer<i>` a group of blocks under torchvision's name.

    Args:
        in_channels: C of the image.
        norm: of all convolutions.
        block: makes the residual blocks.
        counts: blocks of each group.
        widths: maps of each group.
        plan: dimensions and levels to build.
    """

    def __init__(
        self,
        in_channels: int,
        norm: EncoderNorm,
        block: BlockMaker,
        *,
        counts: Sequence[int],
        widths: Sequence[int],
        plan: LevelPlan,
    ) -> None:
        dims, all_widths = plan.dimensions, (_STEM, *widths)
        stem = {
            "conv1": CONV[dims](in_channels, _STEM, 7, stride=2, padding=3, bias=False),
            "bn1": normalisation(norm, dims, _STEM),
            "relu": nn.ReLU(inplace=True),
        }
        stages: list[dict[str, nn.Module]] = [stem]
        for level in range(1, plan.levels):
            stride, inputs, width = 1 if level == 1 else 2, all_widths[level - 1], all_widths[level]
            changes = stride > 1 or inputs != width
            shortcut = _shortcut(dims, inputs, width, stride, norm) if changes else None
            planes = _PLANES[level - 1]
            blocks = [block(inputs, planes, stride, shortcut)]
            blocks += [block(width, planes, 1, None) for _ in range(1, counts[level - 1])]
            pool = {"maxpool": MAX_POOL[dims](3, stride=2, padding=1)} if level == 1 else {}
            stages.append({**pool, f"layer{level}": nn.Sequential(*blocks)})
        modules = nn.ModuleList(nn.Sequential(OrderedDict(stage)) for stage in stages)
        super().__init__(modules, all_widths[: plan.levels], ((2,) * dims,) * plan.levels)
        initialise(self, negative_slope=0)

    def convert_torchvision(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state dict of a resnet or resnext; the classifier is left out."""
        stages = {"conv1": 0, "bn1": 0, "layer1": 1, "layer2": 2, "layer3": 3, "layer4": 4}
        own: dict[str, Tensor] = {}
        for name, tensor in weights.items():
            group = name.split(".")[0]
            if group in stages:
                own[f"stages.{stages[group]}.{name}"] = tensor
            elif group != "fc":
                raise ConfigError(f"the tensor {name} is none of torchvision's resnets and resnexts.")
        return own


def block_maker(
    norm: EncoderNorm, dims: int, *, bottleneck: bool, groups: tuple[int, int] | None = None
) -> BlockMaker:
    """A maker of MONAI's residual blocks.

    The last norm of a block starts at zero, so that the block starts as its shortcut (Goyal et al. 2017, section 5.1).

    Args:
        norm: after every convolution.
        dims: 2 or 3.
        bottleneck: 1x1, 3x3 and 1x1 convolutions instead of two of 3x3.
        groups: of the 3x3 convolution of a bottleneck, and the maps of each in the first group of blocks.
    """
    from monai.networks.nets.resnet import ResNetBlock, ResNetBottleneck  # noqa: PLC0415 - takes seconds

    def make(inputs: int, planes: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
        kind = ResNetBottleneck if bottleneck else ResNetBlock
        block = kind(inputs, planes, dims, stride, shortcut, norm=monai_norm(norm))
        if isinstance(block, ResNetBottleneck) and groups is not None:
            width = planes // _PLANES[0] * groups[0] * groups[1]
            _widen(block, norm, dims, inputs=inputs, width=width, groups=groups[0])
        last = block.bn3 if isinstance(block, ResNetBottleneck) else block.bn2
        nn.init.zeros_(cast(Tensor, last.weight))
        return block

    return make


def _widen(
    block: "ResNetBottleneck", norm: EncoderNorm, dims: int, *, inputs: int, width: int, groups: int
) -> None:
    """Give the 3x3 convolution of a bottleneck another number of maps, in groups."""
    convolution, outputs = CONV[dims], block.conv3.out_channels
    block.conv1 = convolution(inputs, width, 1, bias=False)
    block.conv2 = convolution(width, width, 3, stride=block.stride, padding=1, groups=groups, bias=False)
    block.conv3 = convolution(width, outputs, 1, bias=False)
    block.bn1, block.bn2 = normalisation(norm, dims, width), normalisation(norm, dims, width)


def _shortcut(dims: int, inputs: int, width: int, stride: int, norm: EncoderNorm) -> nn.Sequential:
    convolution = CONV[dims](inputs, width, 1, stride=stride, bias=False)
    return nn.Sequential(convolution, normalisation(norm, dims, width))
