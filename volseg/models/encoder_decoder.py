"""What the U-Net family shares: the parameters of an encoder, a decoder of nodes with skips, and heads."""

from typing import Annotated, Literal, cast

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    model_validator,
)

from volseg.errors import ConfigError
from volseg.models import Architecture
from volseg.models.alignment import Alignment
from volseg.models.attention.recalibration import Recalibration
from volseg.models.blocks import GROUPS, BlockStyle, NormName
from volseg.models.encoders import ENCODERS, EncoderStep, LevelPlan
from volseg.models.encoders.plain import PlainEncoder
from volseg.models.upsampling import UpsampleName

_WIDTH_STEP = 8


def _encoder(fields: object) -> EncoderStep:
    try:
        return ENCODERS.build(fields)
    except ConfigError as error:
        raise ValueError(str(error)) from None


class EncoderDecoder(Architecture):
    """The parameters that every network of the family has."""

    model_config = ConfigDict(allow_inf_nan=False)

    dimensions: Literal[2, 3] = 3
    widths: tuple[PositiveInt, ...] = Field(default=(32, 64, 128, 256, 512), min_length=2)
    """Feature maps of the nodes at each level; their number minus one is the depth."""
    width_multiplier: PositiveFloat = 1.0
    """All widths times this, rounded to multiples of 8 (Howard et al. 2017, section 3.3)."""
    depth_multiplier: PositiveFloat = 1.0
    """The two convolutions of a block times this, rounded, at least one (Tan & Le 2019, eq. 3)."""
    kernel_sizes: tuple[tuple[int, ...], ...] | None = None
    """Odd convolution kernel per level and axis; 3 everywhere if left out. Use 1 along a thick-slice axis."""
    strides: tuple[tuple[int, ...], ...] | None = None
    """Down-sampling factor per transition (level i to i+1) and axis, of the plain encoder; 2 everywhere if left out."""
    norm: NormName = "instance"
    block: Literal["plain", "residual"] = "plain"
    """`residual` adds the (1x1-projected) input of a block to its last convolution (He et al. 2016)."""
    negative_slope: float = Field(default=0.01, ge=0, lt=1)
    """Slope of the leaky ReLU for negative input; 0 is the papers' ReLU."""
    separable: bool = False
    """Depthwise-separable convolutions in the blocks (Chollet 2017)."""
    padding: Literal["same", "valid"] = "same"
    """`valid`: convolutions without padding, as in Ronneberger et al. 2015: the logits are smaller than the input. With norm:
    none or batch, and no attention but gates, they do not depend on where the input is cut."""
    encoder: Annotated[SerializeAsAny[EncoderStep], BeforeValidator(_encoder)] = PlainEncoder()
    upsample: UpsampleName = "transposed"
    align: Alignment = "exact"
    """What is done where the extents of an input do not divide: `exact` refuses it, `pad` repeats the last voxels of the
    up-sampled maps, `crop` cuts the ends of the skips and repeats the last logits. `valid` convolutions always crop, at the
    centre."""
    project_skips: bool = False
    """A 1x1 convolution brings the encoder's features to the width of their level before they are skipped."""
    attention: Recalibration = "none"
    """In every block: on channels (se), on channels and voxels (scse), or on voxels (spatial)."""
    attention_gates: bool = False
    """The map from below decides which voxels of the skips count (Oktay et al. 2018)."""
    self_attention_levels: tuple[int, ...] = ()
    """Levels whose encoder features pass through a transformer block; the depth is the bottleneck."""
    self_attention_gib: PositiveFloat = 2.0
    """An input whose attention matrix would take more memory than this is refused."""
    deep_supervision: bool = True
    """A head after every column; otherwise only after the last."""
    output: Literal["last", "average", "fuse"] = "last"
    """What counts at inference: the last head, the mean of the logits of all, or a 1x1 convolution across them."""

    @property
    def depth(self) -> int:
        """Number of down-sampling steps, and of the last head."""
        return len(self.widths) - 1

    @property
    def level_widths(self) -> tuple[int, ...]:
        """Feature maps of the nodes at each level after the multiplier."""
        if self.width_multiplier == 1:
            return self.widths
        scaled = (round(width * self.width_multiplier / _WIDTH_STEP) * _WIDTH_STEP for width in self.widths)
        return tuple(max(_WIDTH_STEP, width) for width in scaled)

    @property
    def style(self) -> BlockStyle:
        """Of all blocks."""
        return BlockStyle(
            dimensions=self.dimensions,
            norm=self.norm,
            negative_slope=self.negative_slope,
            residual=self.block == "residual",
            separable=self.separable,
            convolutions=max(1, round(2 * self.depth_multiplier)),
            padded=self.padding == "same",
            attention=self.attention,
        )

    @property
    def memory_per_voxel(self) -> bool:
        """Not where borders are lost or padded to whole windows, nor of self-attention, which grows with their square."""
        return self.padding == "same" and self.encoder.memory_per_voxel and not self.self_attention_levels

    @model_validator(mode="after")
    def _check_shapes(self) -> "EncoderDecoder":
        for name, count, odd in (("kernel_sizes", self.depth + 1, True), ("strides", self.depth, False)):
            rows = getattr(self, name)
            if rows is None:
                continue
            if len(rows) != count or any(len(row) != self.dimensions for row in rows):
                raise ValueError(f"{name} needs {count} rows of {self.dimensions} numbers, found {rows}")
            if any(size < 1 or (odd and size % 2 == 0) for row in rows for size in row):
                raise ValueError(f"{name} must be positive{' and odd' if odd else ''}, found {rows}")
        if self.norm == "group" and any(width % GROUPS for width in self.level_widths):
            raise ValueError(
                f"group norm needs widths that are multiples of {GROUPS}, found {self.level_widths}"
            )
        return self

    @model_validator(mode="after")
    def _check_together(self) -> "EncoderDecoder":
        if self.depth + 1 > self.encoder.most_levels:
            raise ValueError(
                f"the encoder '{getattr(self.encoder, 'name', '?')}' has at most {self.encoder.most_levels} levels, found "
                f"{self.depth + 1} widths"
            )
        if not isinstance(self.encoder, PlainEncoder) and self.strides is not None:
            raise ValueError(
                "strides are those of the encoder; leave them out (strides: null), or use the plain encoder"
            )
        if any(not 0 <= level <= self.depth for level in self.self_attention_levels):
            raise ValueError(
                f"self_attention_levels must be 0 to {self.depth}, found {self.self_attention_levels}"
            )
        if self.output != "last" and not self.deep_supervision:
            raise ValueError(f"output: {self.output} needs the heads of deep_supervision: true")
        return self

    @model_validator(mode="after")
    def _check_valid(self) -> "EncoderDecoder":
        if self.padding == "same":
            return self
        possible = {
            "encoder": isinstance(self.encoder, PlainEncoder) and self.encoder.downsample == "max",
            "block": self.block == "plain",
            "upsample": self.upsample in ("transposed", "pixelshuffle", "nearest"),
            "attention": self.attention != "spatial",
            "self_attention_levels": not self.self_attention_levels,
            "align": self.align != "pad",
        }
        wrong = [name for name, is_possible in possible.items() if not is_possible]
        if wrong:
            raise ValueError(
                f"padding: valid is for networks none of whose parts pads; change {' and '.join(wrong)}, or use padding: "
                "same"
            )
        return self

    def levels(self, head: int) -> LevelPlan:
        """What the encoder of a network with this head is built to."""
        ones = (1,) * self.dimensions
        return LevelPlan(
            dimensions=self.dimensions,
            levels=head + 1,
            widths=self.level_widths,
            kernel_sizes=self.kernel_sizes or (tuple(3 * one for one in ones),) * (self.depth + 1),
            strides=self.strides or (tuple(2 * one for one in ones),) * self.depth,
            style=self.style,
        )


def chosen_head(parameters: EncoderDecoder, head: int | None) -> int:
    """The head to build.

    Raises:
        ConfigError: no such head.
    """
    depth = parameters.depth
    chosen = depth if head is None else head
    if not 1 <= chosen <= depth or (chosen < depth and not parameters.deep_supervision):
        found = f"heads 1 to {depth}" if parameters.deep_supervision else f"head {depth} only"
        raise ConfigError(
            f"this {cast(str, getattr(parameters, 'name', 'network'))} has no head {chosen}; it has {found}."
        )
    return chosen
