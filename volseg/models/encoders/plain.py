"""The encoder of the U-Net papers: blocks of convolutions with max pooling between them."""

from itertools import chain
from typing import Literal

from torch import Tensor, nn

from volseg.models.blocks import ConvBlock
from volseg.models.encoders import ENCODERS, Encoder, EncoderStep, LevelPlan
from volseg.models.layers import MAX_POOL


@ENCODERS.add
class PlainEncoder(EncoderStep):
    """X[0,0] = H(image), X[i,0] = H(D(X[i-1,0])), where D is max pooling (Zhou et al. 2020, eq. 1)."""

    name: Literal["plain"] = "plain"
    downsample: Literal["max", "strided"] = "max"
    """`strided`: the first convolution of a level has the stride in place of max pooling, as in nnU-Net (Isensee et al.
    2021) and MONAI's AttentionUnet."""

    @property
    def most_levels(self) -> int:
        """Sixteen: the architecture says how many, and no volume can be halved more often."""
        return 16

    def build(self, in_channels: int, plan: LevelPlan) -> Encoder:
        """The encoder; its widths are those of the architecture."""
        strided = self.downsample == "strided"
        widths = plan.widths[: plan.levels]
        strides = ((1,) * plan.dimensions, *plan.strides[: plan.levels - 1])
        ones = ((1,) * plan.dimensions,) * plan.levels
        inputs = chain([in_channels], widths)
        stages = [
            PlainStage(ConvBlock(plan.style, channels, width, kernel, stride if strided else None), pooled)
            for channels, width, kernel, stride, pooled in zip(
                inputs, widths, plan.kernel_sizes, strides, ones if strided else strides, strict=False
            )
        ]
        return Encoder(nn.ModuleList(stages), widths, strides)


class PlainStage(nn.Module):
    """Max pooling by the stride, unless the block has one of its own, then the block."""

    def __init__(self, block: ConvBlock, stride: tuple[int, ...]) -> None:
        super().__init__()
        self.pool = nn.Identity() if max(stride) == 1 else MAX_POOL[len(stride)](stride, stride)
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, ...] to [B, width, ...], extents divided by the stride; strided convolutions round up, pooling rounds down."""
        return self.block(self.pool(x))
