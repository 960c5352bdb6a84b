"""The network of a pre-training: the encoder of a segmentation network, a light decoder without skips, a projection."""

from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from volseg.errors import ConfigError
from volseg.models import Architecture
from volseg.models.alignment import resized
from volseg.models.blocks import BlockStyle, ConvBlock
from volseg.models.encoder_decoder import EncoderDecoder
from volseg.models.encoders import Encoder
from volseg.models.layers import CONV
from volseg.models.upsampling import upsampling


class Said(NamedTuple):
    """What the network says of patches; None for a task it does not have."""

    reconstruction: Tensor | None
    """[B, C, ...]"""
    descriptions: Tensor | None
    """[B, D]"""


class PretrainNet(nn.Module):
    """An encoder with what its tasks need; only `encoder` is kept.

    Args:
        encoder: of the later training.
        decoder: None without reconstruction.
        projection: None without contrast.
    """

    def __init__(self, encoder: Encoder, decoder: "Decoder | None", projection: "Projection | None") -> None:
        super().__init__()
        self.encoder, self.decoder, self.projection = encoder, decoder, projection

    def forward(self, images: Tensor) -> Said:
        """Of [B, C, ...]."""
        state, features = images, [images]
        for level, stage in enumerate(self.encoder.stages):
            state = stage(state)
            features.append(self.encoder.feature(level, state))
        *finer, deepest = features
        extents = [tuple(feature.shape[2:]) for feature in finer]
        reconstruction = None if self.decoder is None else self.decoder(deepest, extents)
        return Said(reconstruction, None if self.projection is None else self.projection(deepest))


class Decoder(nn.Module):
    """From the deepest level back to intensities: linear interpolation and one convolution per level, no skips.

    So all that is reconstructed has passed through the deepest level (as in Xie et al. 2022, whose head is one layer; a
    convolutional encoder's deepest level is too narrow for that).

    Args:
        style: of the encoder's blocks.
        encoder: its widths and strides are undone.
        widths: feature maps at each level.
        channels: of the image.
    """

    def __init__(self, style: BlockStyle, encoder: Encoder, widths: tuple[int, ...], channels: int) -> None:
        super().__init__()
        dims = style.dimensions
        style = BlockStyle(dims, norm=style.norm, negative_slope=style.negative_slope, convolutions=1)
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        below = encoder.widths[-1]
        for level in reversed(range(len(encoder.stages))):
            if level == 0 and max(encoder.strides[0]) == 1:
                break
            width = widths[max(0, level - 1)]
            self.ups.append(upsampling("linear", style, below, width, encoder.strides[level]))
            self.blocks.append(ConvBlock(style, width, width, (3,) * dims))
            below = width
        self.last = CONV[dims](below, channels, 1)

    def forward(self, deepest: Tensor, extents: list[tuple[int, ...]]) -> Tensor:
        """Intensities [B, C, ...] from features; `extents` are those of what each stage was given, the image first."""
        x = deepest
        for up, block, wanted in zip(self.ups, self.blocks, reversed(extents), strict=False):
            x = block(resized(up(x), wanted))
        return self.last(x)


class Projection(nn.Module):
    """g of Chen et al. 2020 (figure 2): two linear layers on pooled features.

    Mean and greatest value are pooled: after instance norm the mean of a channel is almost the same for every patch.
    """

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * width_in, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, features: Tensor) -> Tensor:
        """[B, D] of [B, width_in, ...]."""
        axes = tuple(range(2, features.ndim))
        return self.layers(torch.cat([features.mean(axes), features.amax(axes)], dim=1))


def build_network(
    architecture: Architecture, in_channels: int, *, masked: bool, contrastive_width: int | None
) -> PretrainNet:
    """The network for the encoder of an architecture.

    Convolutions are padded also where those of the architecture are not: their weights are the same.

    Args:
        architecture: of the later training.
        in_channels: C.
        masked: with the decoder of the reconstruction.
        contrastive_width: of the projection; None without.

    Raises:
        ConfigError: the architecture has no encoder, or it does not exist in this form.
    """
    form = padded(architecture)
    plan = form.levels(form.depth)
    encoder = form.encoder.build(in_channels, plan)
    decoder = Decoder(plan.style, encoder, plan.widths, in_channels) if masked else None
    projection = Projection(encoder.widths[-1], contrastive_width) if contrastive_width else None
    return PretrainNet(encoder, decoder, projection)


def padded(architecture: Architecture) -> EncoderDecoder:
    """The architecture with convolutions that keep extents.

    Raises:
        ConfigError: it has no encoder of its own.
    """
    if not isinstance(architecture, EncoderDecoder):
        name = getattr(architecture, "name", type(architecture).__name__)
        raise ConfigError(
            f"architecture {name} has no encoder that could be pre-trained; use unetpp or unet."
        )
    return architecture.model_copy(update={"padding": "same"})


def total_stride(encoder: Encoder) -> tuple[int, ...]:
    """What one voxel of the deepest level stands for, in voxels of the image."""
    return tuple(prod(along) for along in zip(*encoder.strides, strict=True))
