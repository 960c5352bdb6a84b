"""EfficientNet as an encoder, in 2D and 3D.

Tan, Le: "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (ICML 2019), table 1.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, cast

from torch import Tensor, nn

from volseg.models.encoders import ENCODERS, Encoder, EncoderStep, LevelPlan
from volseg.models.encoders.published import EncoderNorm, monai_norm, renamed

if TYPE_CHECKING:
    from monai.networks.nets.efficientnet import EfficientNetBN, MBConvBlock

Version = Literal["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7"]

_STACKS = ((1,), (2,), (3,), (4, 5), (6, 7))
"""Of table 1's stacks of blocks, numbered from 1, those of each level."""
_FINE_EPSILON = ("b0", "b1", "b2", "b3", "b4")
_BATCH = {True: {"eps": 1e-5, "momentum": 0.1}, False: {"eps": 1e-3, "momentum": 0.01}}
"""Of torchvision's networks with the fine epsilon, and of the others."""


@ENCODERS.add
class EfficientNet(EncoderStep):
    """Inverted residual bottlenecks with squeeze-and-excitation; features at 1/2, 1/4, 1/8, 1/16 and 1/32.

    A feature is the last map of its extents before the next stride; the 1x1 convolution before the classifier is left
    out. The blocks are MONAI's. What differs from them: convolutions are padded by (k - 1) / 2 on both sides, not by an
    amount that follows from a declared image size, so that any extents are treated alike and torchvision's published
    weights fit in 2D; the epsilon of the batch norm is that of those weights (1e-5 up to b4, then 1e-3); no block is
    dropped in training (stochastic depth); the last norm of a block whose input is added starts at zero (Goyal et al. 2017,
    section 5.1). In 3D every kernel is a cube.
    """

    name: Literal["efficientnet"] = "efficientnet"
    version: Version = "b0"
    norm: EncoderNorm = "batch"

    @property
    def most_levels(self) -> int:
        """Five."""
        return len(_STACKS)

    def build(self, in_channels: int, plan: LevelPlan) -> Encoder:
        """The encoder; its widths and strides are its own."""
        from monai.networks.nets.efficientnet import EfficientNetBN  # noqa: PLC0415 - takes seconds

        network = EfficientNetBN(
            f"efficientnet-{self.version}",
            pretrained=False,
            spatial_dims=plan.dimensions,
            in_channels=in_channels,
            num_classes=1,
            norm=monai_norm(self.norm, **_BATCH[self.version in _FINE_EPSILON]),
        )
        levels = [_level(network, stacks) for stacks in _STACKS[: plan.levels]]
        widths = tuple(_last_block(level).out_channels for level in levels)
        _pad_evenly(network._conv_stem)
        levels[0] = OrderedDict(stem=nn.Sequential(network._conv_stem, network._bn0, nn.SiLU()), **levels[0])
        stages = nn.ModuleList(nn.Sequential(level) for level in levels)
        return EfficientNetEncoder(stages, widths, ((2,) * plan.dimensions,) * plan.levels)


class EfficientNetEncoder(Encoder):
    """Stage i holds `stem` (the first) and table 1's stacks of blocks `stack1` to `stack7`."""

    def convert_torchvision(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`features.N.b.block.m.x` becomes `stages.L.stackN.b.y`; see the base class."""
        file = "efficientnet_b0 to _b7, and `version` and `norm: batch` to match"
        return renamed(self.state_dict(), weights, self.published_name, what="EfficientNet", file=file)

    def published_name(self, name: str) -> str:
        """Torchvision's name of a tensor of this encoder."""
        _, level, part, number, *rest = name.split(".")
        if part == "stem":
            return ".".join(["features", "0", number, *rest])
        stack = part.removeprefix("stack")
        block = cast("MBConvBlock", self.stages.get_submodule(f"{level}.{part}.{number}"))
        layers = _LAYERS if block.expand_ratio != 1 else _LAYERS[1:]
        (layer,) = (m for m, names in enumerate(layers) if rest[0] in names)
        return ".".join(["features", stack, number, "block", str(layer), layers[layer][rest[0]], *rest[1:]])


_LAYERS = (
    {"_expand_conv": "0", "_bn0": "1"},
    {"_depthwise_conv": "0", "_bn1": "1"},
    {"_se_reduce": "fc1", "_se_expand": "fc2"},
    {"_project_conv": "0", "_bn2": "1"},
)
"""MONAI's names of a block's layers, and torchvision's places in the sequence of each."""


def _level(network: "EfficientNetBN", stacks: Iterable[int]) -> OrderedDict[str, nn.Module]:
    level: OrderedDict[str, nn.Module] = OrderedDict()
    for stack in stacks:
        blocks = list(cast(nn.Sequential, network._blocks[stack - 1]).children())
        for block in blocks:
            _plain(cast("MBConvBlock", block))
        level[f"stack{stack}"] = nn.Sequential(*blocks)
    return level


def _last_block(level: OrderedDict[str, nn.Module]) -> "MBConvBlock":
    return cast("MBConvBlock", list(cast(nn.Sequential, list(level.values())[-1]).children())[-1])


def _plain(block: "MBConvBlock") -> None:
    """Even padding, no dropped blocks, torch's own activation, which can be exported, and a start as the identity."""
    _pad_evenly(block._depthwise_conv)
    block._depthwise_conv_padding = nn.Identity()
    block.drop_connect_rate = None
    block._swish = nn.SiLU()
    if block.stride == 1 and block.in_channels == block.out_channels:
        nn.init.zeros_(cast(nn.BatchNorm3d, block._bn2).weight)


def _pad_evenly(conv: nn.Module) -> None:
    conv = cast(nn.Conv3d, conv)
    conv.padding = tuple((size - 1) // 2 for size in conv.kernel_size)
