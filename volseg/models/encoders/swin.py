"""The stages of a Swin transformer as an encoder, in 2D and 3D.

Liu et al.: "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows" (ICCV 2021); in 3D as in Hatamizadeh et
al.: "Swin UNETR: Swin Transformers for Semantic Segmentation of Brain Tumors in MRI Images" (BrainLes 2021).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional

from volseg.errors import ConfigError
from volseg.models.encoders import ENCODERS, Axes, Encoder, EncoderStep, LevelPlan
from volseg.models.encoders.published import renamed

_INIT_STD = 0.02
_MLP_RATIO = 4
_MASKED = -100.0


@ENCODERS.add
class Swin(EncoderStep):
    """Attention inside windows that shift by half from block to block; features at 1/patch, and half of that at each merging.

    Level 0 is the embedding of patches and the first stage's blocks; every further level merges 2x2(x2) voxels, which
    doubles the width, and holds the next stage's blocks. There are as many levels as depths, all of them with blocks. A
    feature is the state after the blocks, normalised per voxel; what goes on is the state itself (as where Liu et al. use
    it for dense prediction). What differs from Swin UNETR: there a feature is taken after the merging, before the blocks of
    its level, so that its coarsest level has no blocks.

    Windows are always of the full size: a map is padded with zeros after its first normalisation to multiples of the
    window, as in torchvision, whose published swin_t, _s and _b fit in 2D with patch 4 and window 7 (an image whose extents
    are no multiples of the patch is padded here and cut there). MONAI's own blocks take smaller windows on smaller maps, with
    the position biases of other places. Axes that one window covers do not shift. Attention, perceptron, embedding and
    merging are MONAI's. No block is dropped in training.
    """

    name: Literal["swin"] = "swin"
    embed: PositiveInt = 96
    """Width of the first level; 48 in Swin UNETR."""
    depths: tuple[PositiveInt, ...] = Field(default=(2, 2, 6, 2), min_length=2)
    """Blocks per level; the second of each two shifts its windows."""
    heads: tuple[PositiveInt, ...] = (3, 6, 12, 24)
    """Of the attention, per level."""
    window: int = Field(default=7, ge=2)
    """Extent of a window along every axis, in voxels of its level."""
    patch: Literal[1, 2, 4] = 4
    """Voxels of the image per voxel of level 0, along every axis; 2 in Swin UNETR."""

    @model_validator(mode="after")
    def _check_heads(self) -> "Swin":
        if len(self.heads) != len(self.depths):
            raise ValueError(f"heads needs one number per depth, found {self.heads} for depths {self.depths}")
        for level, heads in enumerate(self.heads):
            if self.embed * 2**level % heads:
                raise ValueError(
                    f"the width of level {level}, {self.embed * 2**level}, is no multiple of its {heads} heads"
                )
        return self

    @property
    def most_levels(self) -> int:
        """One per depth."""
        return len(self.depths)

    @property
    def memory_per_voxel(self) -> bool:
        """No: maps are padded to whole windows."""
        return False

    def build(self, in_channels: int, plan: LevelPlan) -> "SwinEncoder":
        """The encoder; its widths and strides are its own."""
        dims = plan.dimensions
        widths = tuple(self.embed * 2**level for level in range(plan.levels))
        reductions = [_embedding(in_channels, widths[0], (self.patch,) * dims)]
        reductions += [_merging(width, dims) for width in widths[:-1]]
        stages = nn.ModuleList()
        for level, reduction in enumerate(reductions):
            blocks = [
                SwinBlock(widths[level], self.heads[level], self.window, dims)
                for _ in range(self.depths[level])
            ]
            # Published weights have a norm after the last stage only; the others have nothing to learn.
            norm = nn.LayerNorm(widths[level], elementwise_affine=level == self.most_levels - 1)
            stages.append(SwinStage(reduction, blocks, norm, window=self.window, embeds=level == 0))
        _initialise(stages)
        strides = ((self.patch,) * dims, *((2,) * dims,) * (plan.levels - 1))
        return SwinEncoder(stages, widths, strides)


class SwinEncoder(Encoder):
    """States are [B, I, J, K, C] (2D: [B, I, J, C]) between the stages; features have channels first."""

    def feature(self, level: int, state: Tensor) -> Tensor:
        """The state normalised at each voxel, channels first."""
        norm = cast(SwinStage, self.stages[level]).norm
        return cast(Tensor, norm(state)).movedim(-1, 1).contiguous()

    def convert_torchvision(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`features.N...` becomes `stages.L...`; see the base class.

        Raises:
            ConfigError: this encoder is 3D, or the file is not of a first-version Swin transformer of this form.
        """
        if len(self.strides[0]) != 2:
            raise ConfigError(
                "torchvision's Swin transformers are 2D, and their position biases mean nothing in a 3D window; "
                "use dimensions: 2, or weights of `volseg pretrain`."
            )
        own, file = (
            self.state_dict(),
            "swin_t, swin_s or swin_b (not swin_v2), and `embed`, `depths` and `heads` to match",
        )
        converted = renamed(own, weights, published_name, what="Swin transformer", file=file)
        for name, tensor in own.items():
            expected, found = tuple(tensor.shape), tuple(converted[name].shape)
            if len(found) == 4:
                expected, found = expected[2:], found[2:]
            if expected != found:
                raise ConfigError(
                    f"'{published_name(name)}' of these weights has shape {tuple(converted[name].shape)}, this Swin transformer's "
                    f"has {tuple(tensor.shape)}; set `embed`, `depths`, `heads`, `window` and `patch` as in the file "
                    "(torchvision's have window 7 and patch 4)."
                )
        return converted


class SwinStage(nn.Module):
    """Embedding (of the image, channels first) or merging, then the blocks of a level; `norm` is for its feature only."""

    def __init__(
        self,
        reduction: nn.Module,
        blocks: "list[SwinBlock]",
        norm: nn.LayerNorm,
        *,
        window: int,
        embeds: bool,
    ) -> None:
        super().__init__()
        self.reduction = reduction
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self._window, self._embeds = window, embeds

    def forward(self, x: Tensor) -> Tensor:
        """The image [B, C, I, J, K], or the state [B, I, J, K, C] of the level before, to the state of this one."""
        x = self.reduction(x)
        if self._embeds:
            x = x.movedim(1, -1)
        padded = [-(-extent // self._window) * self._window for extent in x.shape[1:-1]]
        shifts = [self._window // 2 if extent > self._window else 0 for extent in padded]
        straight, shifted = Windows(self._window, padded, None, None), None
        if any(shifts):
            mask = shifted_mask(padded, shifts, self._window, x.device)
            shifted = Windows(self._window, padded, shifts, mask)
        for number, block in enumerate(self.blocks):
            x = block(x, shifted if number % 2 and shifted else straight)
        return x


class SwinBlock(nn.Module):
    """x + attention(norm(x)) within windows, then x + perceptron(norm(x)) at each voxel (Liu et al. 2021, eq. 3)."""

    def __init__(self, width: int, heads: int, window: int, dims: int) -> None:
        from monai.networks.blocks.mlp import MLPBlock  # noqa: PLC0415 - takes seconds
        from monai.networks.nets.swin_unetr import WindowAttention  # noqa: PLC0415

        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, (window,) * dims, qkv_bias=True)
        index = cast(Tensor, self.attn.relative_position_index)
        self.attn.register_buffer("relative_position_index", index, persistent=False)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLPBlock(width, _MLP_RATIO * width, act="GELU", dropout_mode="swin")

    def forward(self, x: Tensor, windows: "Windows") -> Tensor:
        """[B, I, J, K, C] to the same shape."""
        attended = self.attn(windows.cut(self.norm1(x)), windows.mask)
        x = x + windows.joined(attended, tuple(x.shape))
        return x + self.mlp(self.norm2(x))


@dataclass(frozen=True)
class Windows:
    """How a map is cut into the windows of a block: cubes of one extent, padded with zeros where they reach beyond it."""

    extent: int
    """Of a window, along every axis."""
    padded: list[int]
    """Extents of the map, multiples of that of a window."""
    shifts: list[int] | None
    """By how much the map is rolled back along each axis before it is cut."""
    mask: Tensor | None
    """What is added to the attention [windows, voxels, voxels]."""

    @property
    def _axes(self) -> list[int]:
        return list(range(1, len(self.padded) + 1))

    def cut(self, x: Tensor) -> Tensor:
        """[B, I, J, K, C] to [B * windows, voxels, C]."""
        missing = [end - extent for end, extent in zip(self.padded, x.shape[1:-1], strict=True)]
        x = functional.pad(x, [0, 0, *(n for count in reversed(missing) for n in (0, count))])
        if self.shifts:
            x = torch.roll(x, [-shift for shift in self.shifts], self._axes)
        return partition(x, self.extent)

    def joined(self, windows: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The reverse of `cut`, to a map of this shape."""
        dims, batch = len(self.padded), shape[0]
        counts = [extent // self.extent for extent in self.padded]
        cubes = windows.reshape(batch, *counts, *(self.extent,) * dims, shape[-1])
        order = [axis for n in range(dims) for axis in (1 + n, 1 + dims + n)]
        x = cubes.permute(0, *order, 1 + 2 * dims).reshape(batch, *self.padded, shape[-1])
        if self.shifts:
            x = torch.roll(x, self.shifts, self._axes)
        for axis, extent in zip(self._axes, shape[1:-1], strict=True):
            x = x.narrow(axis, 0, extent)
        return x


def partition(x: Tensor, window: int) -> Tensor:
    """A map [B, I, J, K, C] of extents that are multiples of the window to [B * windows, voxels, C], both in C order."""
    batch, *padded, channels = x.shape
    dims = len(padded)
    cells = [n for extent in padded for n in (extent // window, window)]
    counts = [1 + 2 * n for n in range(dims)]
    order = [0, *counts, *(axis + 1 for axis in counts), 1 + 2 * dims]
    return x.reshape(batch, *cells, channels).permute(order).reshape(-1, window**dims, channels)


def shifted_mask(padded: list[int], shifts: list[int], window: int, device: torch.device) -> Tensor:
    """What keeps voxels of a shifted window apart that are no neighbours in the image (Liu et al. 2021, figure 4).

    Args:
        padded: extents, multiples of the window.
        shifts: along each axis; 0 where one window covers it.
        window: extent of a window.
        device: of the result.

    Returns:
        [windows, voxels of a window, the same], 0 where two voxels see each other and -100 where not.
    """
    dims = len(padded)
    regions = torch.zeros(padded, device=device)
    for axis, (extent, shift) in enumerate(zip(padded, shifts, strict=True)):
        places = torch.arange(extent, device=device)
        thirds = (places >= extent - window).float() + (places >= extent - shift).float()
        regions = 3 * regions + thirds.reshape([-1 if n == axis else 1 for n in range(dims)])
    windows = partition(regions[None, ..., None], window).squeeze(-1)
    return (windows.unsqueeze(1) != windows.unsqueeze(2)).float() * _MASKED


def _embedding(in_channels: int, width: int, patch: Axes) -> nn.Module:
    from monai.networks.blocks.patchembedding import PatchEmbed  # noqa: PLC0415 - takes seconds

    return PatchEmbed(patch, in_channels, width, spatial_dims=len(patch))


def _merging(width: int, dims: int) -> nn.Module:
    from monai.networks.nets.swin_unetr import PatchMergingV2  # noqa: PLC0415 - takes seconds

    return PatchMergingV2(width, spatial_dims=dims)


def _initialise(stages: nn.Module) -> None:
    """As in Liu et al.: weights of linear layers from a truncated normal distribution, no biases."""
    for part in stages.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=_INIT_STD)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def published_name(name: str) -> str:
    """Torchvision's name of a parameter: `features.0` embeds, 2 L + 1 are the blocks of level L, 2 L merges before it."""
    _, level, part, *rest = name.split(".")
    place, number = ".".join(rest), 2 * int(level)
    if part == "norm":
        return f"norm.{place}"
    if part == "blocks":
        place = place.replace("mlp.linear1", "mlp.0").replace("mlp.linear2", "mlp.3")
        return f"features.{number + 1}.{place}"
    if number == 0:
        place = place.replace("proj", "0").replace("norm", "2")
    return f"features.{number}.{place}"
