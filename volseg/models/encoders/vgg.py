"""VGG16 as an encoder (Simonyan & Zisserman 2015, arXiv:1409.1556, table 1, column D), in 2D and 3D."""

from collections import OrderedDict
from collections.abc import Mapping
from itertools import count
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from volseg.errors import ConfigError
from volseg.models.blocks import initialise, normalisation
from volseg.models.encoders import ENCODERS, Encoder, EncoderStep, LevelPlan
from volseg.models.layers import CONV, MAX_POOL

VggNorm = Literal["none", "batch", "instance", "group"]

_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512), ())
"""Of the convolutions at each level; the last is what the last max pooling leaves."""
_FEATURES = (64, 128, 256, 512, 512, 512)


@ENCODERS.add
class Vgg16(EncoderStep):
    """The convolutions of VGG16: level 0 has the image's extents and 64 maps, each further one half the extents.

    Levels have 64, 128, 256, 512, 512 maps; a sixth, of 512, is the fifth after the last max pooling. Kernels and strides are
    those of the paper on every axis, whatever the architecture says.
    """

    name: Literal["vgg16"] = "vgg16"
    norm: VggNorm = "none"
    """After each convolution. The paper has none; torchvision calls the network with batch norm vgg16_bn."""
    first_level: int = Field(default=0, ge=0, le=4)
    """The level of VGG16 that is the finest of the decoder. 1 joins the first two, so that no node is computed at the image's
    extents, where the dense nodes cost most."""

    @property
    def most_levels(self) -> int:
        """Six, or fewer if the first ones are joined."""
        return len(_FEATURES) - self.first_level

    def build(self, in_channels: int, plan: LevelPlan) -> "VggEncoder":
        """The encoder; batch norm has torch's epsilon and momentum, as in torchvision."""
        return VggEncoder(
            in_channels, self.norm, dims=plan.dimensions, first_level=self.first_level, levels=plan.levels
        )


class VggEncoder(Encoder):
    """`stages.i.N` is layer `features.N` of torchvision's vgg16, or of its vgg16_bn if there is a norm."""

    def __init__(
        self,
        in_channels: int,
        norm: VggNorm,
        *,
        dims: int,
        first_level: int,
        levels: int,
    ) -> None:
        layers = _layers(in_channels, norm, dims, levels=first_level + levels)
        joined = [[*range(first_level + 1)], *([level] for level in range(first_level + 1, len(layers)))]
        stages = nn.ModuleList(
            nn.Sequential(OrderedDict(pair for level in group for pair in layers[level].items()))
            for group in joined
        )
        strides = ((2**first_level,) * dims, *((2,) * dims for _ in range(1, levels)))
        super().__init__(stages, _FEATURES[first_level : first_level + levels], strides)
        self._stage_of = {
            number: max(0, level - first_level)
            for level, group in enumerate(_numbers(norm))
            for number in group
        }
        initialise(self, negative_slope=0)

    def convert_torchvision(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state dict of vgg16 (norm: none) or vgg16_bn (with a norm); the classifier is left out."""
        own: dict[str, Tensor] = {}
        for name, tensor in weights.items():
            group, _, place = name.partition(".")
            number = place.partition(".")[0]
            if group == "features" and number in self._stage_of:
                own[f"stages.{self._stage_of[number]}.{place}"] = tensor
            elif group != "classifier":
                raise ConfigError(f"the tensor {name} is none of torchvision's vgg16 or vgg16_bn.")
        return own


def _numbers(norm: VggNorm) -> list[list[str]]:
    """Torchvision's numbers of the layers of each level, the max pooling that leads to it first."""
    counter, each = count(), 2 if norm == "none" else 3
    sizes = [bool(level) + each * len(widths) for level, widths in enumerate(_WIDTHS)]
    return [[str(next(counter)) for _ in range(size)] for size in sizes]


def _layers(in_channels: int, norm: VggNorm, dims: int, *, levels: int) -> list[dict[str, nn.Module]]:
    """The layers of the first levels under their numbers."""
    made: list[dict[str, nn.Module]] = []
    channels = in_channels
    for level, (numbers, widths) in enumerate(zip(_numbers(norm)[:levels], _WIDTHS, strict=False)):
        layers: list[nn.Module] = [MAX_POOL[dims](2, 2)] if level else []
        for width in widths:
            layers.append(CONV[dims](channels, width, 3, padding=1))
            if norm != "none":
                layers.append(normalisation(norm, dims, width))
            layers.append(nn.ReLU(inplace=True))
            channels = width
        made.append(dict(zip(numbers, layers, strict=True)))
    return made
