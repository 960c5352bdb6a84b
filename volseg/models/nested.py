"""The network of the U-Net family: an encoder, decoder nodes with dense or single skips, and heads."""

from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from volseg.errors import ConfigError
from volseg.models.alignment import Alignment, aligned, cropped, resized
from volseg.models.attention.gate import AttentionGate
from volseg.models.attention.transformer import SelfAttention
from volseg.models.blocks import ConvBlock
from volseg.models.encoder_decoder import EncoderDecoder
from volseg.models.encoders import Axes, Encoder
from volseg.models.extents import ExtentRule, extent_rule
from volseg.models.layers import CONV, LINEAR_MODE
from volseg.models.places import Place
from volseg.models.upsampling import upsampling


def nested_net(
    parameters: EncoderDecoder, in_channels: int, label_count: int, places: list[Place]
) -> "NestedNet":
    """The untrained network with these decoder nodes.

    Raises:
        ConfigError: the encoder does not exist in this form.
    """
    plan = parameters.levels(places[-1].column)
    encoder = parameters.encoder.build(in_channels, plan)
    lost = 0 if plan.style.padded else plan.style.convolutions
    losses = [tuple(lost * (size - 1) for size in row) for row in plan.kernel_sizes[: plan.levels]]
    exact = parameters.align == "exact" or not plan.style.padded
    extents = extent_rule(encoder.strides, losses, places, exact=exact)
    return NestedNet(parameters, encoder, label_count, places=places, extents=extents)


class NestedNet(nn.Module):
    """The network: `encoder`, `nodes["X0_1"]` for X[0,1], `heads["1"]` for the head of column 1.

    Input [B, C, I, J, K] (or [B, C, I, J] in 2D), of extents that suit `extents`. In training mode with deep supervision
    the result is the list of logits of all heads, of the extents of the last, which counts; otherwise the logits
    [B, L, ...] alone. A head sits on the finest node of its column; on a coarse node its logits are interpolated linearly, or
    repeated where convolutions do not pad: interpolation looks beyond the border.

    Where the finest level of the encoder is coarser than the image, the deepest head sits on one more block, at the extents
    of the image and without a skip. A network pruned to a shallower head has neither that block nor the convolution of
    `output: fuse`: its last head counts.

    Args:
        parameters: of the architecture.
        encoder: built to the levels that the places need.
        label_count: L.
        places: the decoder nodes in the order of their computation, the last with the head that counts.
        extents: what the network takes.
    """

    def __init__(
        self,
        parameters: EncoderDecoder,
        encoder: Encoder,
        label_count: int,
        *,
        places: list[Place],
        extents: ExtentRule,
    ) -> None:
        super().__init__()
        self.encoder, self.extents, self.places = encoder, extents, places
        self.head = places[-1].column
        is_pruned = self.head < parameters.depth
        self.output = "last" if is_pruned and parameters.output == "fuse" else parameters.output
        self.deep_supervision = parameters.deep_supervision
        self._align: Alignment = "crop" if parameters.padding == "valid" else parameters.align
        self._padded, self._recompute = parameters.padding == "same", False
        self._scales = list(accumulate(encoder.strides, _times))
        self._add_skips(parameters)
        self._add_nodes(parameters)
        self._add_heads(parameters, label_count)

    def _add_skips(self, parameters: EncoderDecoder) -> None:
        dims, widths = parameters.dimensions, self.encoder.widths
        self.attentions = nn.ModuleDict()
        for level in parameters.self_attention_levels:
            if level < len(widths):
                budget = parameters.self_attention_gib
                self.attentions[str(level)] = SelfAttention(dims, widths[level], budget_gib=budget)
        self.projections = nn.ModuleDict()
        if parameters.project_skips:
            for level, width in enumerate(parameters.level_widths[: len(widths) - 1]):
                self.projections[str(level)] = CONV[dims](widths[level], width, 1)

    def _add_nodes(self, parameters: EncoderDecoder) -> None:
        dims, widths, encoded = parameters.dimensions, parameters.level_widths, self.encoder.widths
        style = parameters.style
        kernels = parameters.levels(self.head).kernel_sizes
        self.ups, self.gates, self.nodes = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for place in self.places:
            level, finest = place.level, encoded if not parameters.project_skips else widths
            below = encoded[level + 1] if place.column == 1 else widths[level + 1]
            up = upsampling(parameters.upsample, style, below, widths[level], self.encoder.strides[level + 1])
            skipped = sum(finest[level] if column == 0 else widths[level] for column in place.skips)
            gating = cast(int, up.out_channels)
            self.ups[place.name] = up
            if parameters.attention_gates:
                self.gates[place.name] = AttentionGate(dims, skipped, gating)
            self.nodes[place.name] = ConvBlock(style, skipped + gating, widths[level], kernels[level])

    def _add_heads(self, parameters: EncoderDecoder, label_count: int) -> None:
        dims, widths = parameters.dimensions, parameters.level_widths
        finest = {place.column: place for place in sorted(self.places, key=lambda place: -place.level)}
        self._supervised = [finest[column] for column in sorted(finest)]
        if not self.deep_supervision:
            self._supervised = self._supervised[-1:]
        self.heads = nn.ModuleDict(
            {str(place.column): CONV[dims](widths[place.level], label_count, 1) for place in self._supervised}
        )
        self.fusion = _averaging(dims, len(self.heads), label_count) if self.output == "fuse" else None
        self.full = None
        if self.head == parameters.depth and max(self._scales[0]) > 1:
            up = upsampling(parameters.upsample, parameters.style, widths[0], widths[0], self._scales[0])
            kernel = parameters.levels(self.head).kernel_sizes[0]
            self.full = nn.Sequential(up, ConvBlock(parameters.style, widths[0], widths[0], kernel))

    def forward(self, batch: Tensor) -> Tensor | list[Tensor]:
        """Logits; see the class.

        Raises:
            InputError: the extents do not suit the network; the message gives the size to use.
        """
        extents = tuple(batch.shape[2:])
        self.extents.check(extents)
        features: dict[tuple[int, int], Tensor] = {}
        skips: dict[tuple[int, int], Tensor] = {}
        state, reached = batch, 0
        for place in self.places:
            while reached <= place.level + 1:
                state = self._compute(self.encoder.stages[reached], state)
                features[reached, 0] = self._feature(reached, state)
                skips[reached, 0] = self._projected(reached, features[reached, 0])
                reached += 1
            below = features[place.level + 1, place.column - 1]
            node = self._node(place, [skips[place.level, column] for column in place.skips], below)
            features[place.level, place.column] = skips[place.level, place.column] = node
        counting = self._supervised[-1:] if self.output == "last" and not self.training else self._supervised
        logits = [self._logits(place, features[place.level, place.column], extents) for place in counting]
        return self._result(logits)

    def recompute(self, *, on: bool) -> None:
        """Gradient checkpointing: keep a block's input in training, not what is inside, and compute that again.

        Raises:
            ConfigError: with batch norm, whose running statistics would count every batch twice.
        """
        batch_norms = (nn.BatchNorm2d, nn.BatchNorm3d)
        if on and any(isinstance(module, batch_norms) for module in self.modules()):
            raise ConfigError(
                "gradient checkpointing would count every batch twice in the running statistics of batch norm; "
                "use norm: instance or group."
            )
        self._recompute = on

    def _compute(self, block: nn.Module, x: Tensor) -> Tensor:
        if self._recompute and self.training:
            return cast(Tensor, checkpoint(block, x, use_reentrant=False))
        return cast(Tensor, block(x))

    def _feature(self, level: int, state: Tensor) -> Tensor:
        feature, name = self.encoder.feature(level, state), str(level)
        return self._compute(self.attentions[name], feature) if name in self.attentions else feature

    def _projected(self, level: int, feature: Tensor) -> Tensor:
        name = str(level)
        return self.projections[name](feature) if name in self.projections else feature

    def _node(self, place: Place, skips: list[Tensor], below: Tensor) -> Tensor:
        up = self.ups[place.name](below)
        *skips, up = aligned(skips, up, self._align, centred=not self._padded)
        if place.name in self.gates:
            skips = [self.gates[place.name](torch.cat(skips, dim=1), up)]
        return self._compute(self.nodes[place.name], torch.cat([*skips, up], dim=1))

    def _logits(self, place: Place, feature: Tensor, extents: Axes) -> Tensor:
        scale = self._scales[place.level]
        if self.full is not None and place is self._supervised[-1]:
            feature, scale = self.full(feature), (1,) * len(scale)
        logits = self.heads[str(place.column)](feature)
        if max(scale) > 1:
            factors = [float(step) for step in scale]
            mode = LINEAR_MODE[len(scale)] if self._padded else "nearest"
            logits = functional.interpolate(logits, scale_factor=factors, mode=mode)
        if self._padded:
            return resized(logits, extents)
        return cropped(logits, self.extents.output(extents), centred=True)

    def _result(self, logits: list[Tensor]) -> Tensor | list[Tensor]:
        fused = [] if self.fusion is None else [self.fusion(torch.cat(logits, dim=1))]
        if self.training and self.deep_supervision:
            return [*logits, *fused]
        if self.output == "average":
            return torch.stack(logits).mean(dim=0)
        return [*logits, *fused][-1]


def _times(a: Axes, b: Axes) -> Axes:
    return tuple(x * y for x, y in zip(a, b, strict=True))


def _averaging(dims: int, count: int, labels: int) -> nn.Module:
    """A 1x1 convolution across the logits of some heads, which starts as their mean."""
    fusion = CONV[dims](count * labels, labels, 1)
    with torch.no_grad():
        mean = torch.eye(labels).repeat(1, count) / count
        fusion.weight.copy_(mean.reshape(fusion.weight.shape))
        cast(Tensor, fusion.bias).zero_()
    return fusion
