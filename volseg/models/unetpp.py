"""U-Net++ in 2D and 3D, written from the papers.

Zhou, Rahman Siddiquee, Tajbakhsh, Liang: "UNet++: A Nested U-Net Architecture for Medical Image Segmentation"
(DLMIA 2018) and "UNet++: Redesigning Skip Connections to Exploit Multiscale Features in Image Segmentation"
(IEEE TMI 39(6), 2020).

Node X[i,j] sits at resolution level i (0 is full resolution) and dense-skip column j (2020, eq. 1):

    X[i,0] = H(D(X[i-1,0]))                               the encoder; D is max pooling
    X[i,j] = H([X[i,0], ..., X[i,j-1], U(X[i+1,j-1])])    j > 0; U is up-sampling, [.] concatenation

H is two convolutions, each followed by normalisation and a (leaky) ReLU. Head L is a 1x1 convolution on X[0,L]. It needs
only the nodes with i + j <= L, so a network pruned at L never builds the others.
"""

from math import prod
from typing import Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from volseg.errors import ConfigError, InputError
from volseg.models import MODELS, Architecture

NormName = Literal["instance", "batch", "group", "none"]


@MODELS.add
class UNetPlusPlus(Architecture):
    """Parameters of a U-Net++.

    With `dimensions=2, widths=(32, 64, 128, 256, 512), norm="none"`, three input channels and one output, the network
    has the structure of the 2018 paper (9.04 M parameters in its table 2). What differs from it: normalisation is
    instance norm by default, the activation is a leaky ReLU, and heads give logits (no sigmoid inside).
    """

    name: Literal["unetpp"] = "unetpp"
    dimensions: Literal[2, 3] = 3
    widths: tuple[int, ...] = Field(default=(32, 64, 128, 256, 512), min_length=2)
    """Feature maps at each level; their number minus one is the depth."""
    kernel_sizes: tuple[tuple[int, ...], ...] | None = None
    """Odd convolution kernel per level and axis; 3 everywhere if left out. Use 1 along a thick-slice axis."""
    strides: tuple[tuple[int, ...], ...] | None = None
    """Down-sampling factor per transition (level i to i+1) and axis; 2 everywhere if left out."""
    norm: NormName = "instance"
    block: Literal["plain", "residual"] = "plain"
    """`residual` adds the (1x1-projected) input of a node to its second convolution (He et al. 2016)."""
    negative_slope: float = Field(default=0.01, ge=0, lt=1)
    """Slope of the leaky ReLU for negative input; 0 is the paper's ReLU."""
    deep_supervision: bool = True
    """Heads on every X[0,j], j >= 1; otherwise only on the last."""

    @property
    def depth(self) -> int:
        """Number of down-sampling steps, and of the last head."""
        return len(self.widths) - 1

    @model_validator(mode="after")
    def _check_shapes(self) -> "UNetPlusPlus":
        for name, count, odd in (("kernel_sizes", self.depth + 1, True), ("strides", self.depth, False)):
            rows = getattr(self, name)
            if rows is None:
                continue
            if len(rows) != count or any(len(row) != self.dimensions for row in rows):
                raise ValueError(f"{name} needs {count} rows of {self.dimensions} numbers, found {rows}")
            if any(size < 1 or (odd and size % 2 == 0) for row in rows for size in row):
                raise ValueError(f"{name} must be positive{' and odd' if odd else ''}, found {rows}")
        if self.norm == "group" and any(width % _GROUPS for width in self.widths):
            raise ValueError(f"group norm needs widths that are multiples of {_GROUPS}, found {self.widths}")
        return self

    def build(self, in_channels: int, label_count: int, *, head: int | None = None) -> "UNetPlusPlusNet":
        """The module, pruned to the nodes that head L = `head` needs (default: the last).

        Raises:
            ConfigError: no such head.
        """
        head = self.depth if head is None else head
        if not 1 <= head <= self.depth or (head < self.depth and not self.deep_supervision):
            raise ConfigError(
                f"this U-Net++ has no head {head}; it has "
                f"{f'heads 1 to {self.depth}' if self.deep_supervision else f'head {self.depth} only'}."
            )
        return UNetPlusPlusNet(self, in_channels, label_count, head)


class UNetPlusPlusNet(nn.Module):
    """The network: nodes by the paper's names, `nodes["X0_1"]` for X[0,1]; heads by column, `heads["1"]`.

    Input [B, C, I, J, K] (or [B, C, I, J] in 2D). In training mode with deep supervision the result is the list of
    logits of heads 1..L, otherwise the logits [B, L, ...] of head L alone.
    """

    def __init__(self, parameters: UNetPlusPlus, in_channels: int, label_count: int, head: int) -> None:
        super().__init__()
        self.head = head
        self.deep_supervision = parameters.deep_supervision
        self._recompute = False
        dims, widths = parameters.dimensions, parameters.widths
        kernels = parameters.kernel_sizes or ((3,) * dims,) * len(widths)
        strides = (parameters.strides or ((2,) * dims,) * parameters.depth)[:head]
        self.divisors = tuple(prod(row[axis] for row in strides) for axis in range(dims))
        self.pools = nn.ModuleList(_MAX_POOL[dims](stride, stride) for stride in strides)
        self.ups = nn.ModuleDict()
        self.nodes = nn.ModuleDict()
        for i, j in node_order(head):
            if j > 0:
                self.ups[f"X{i}_{j}"] = _UP_CONV[dims](widths[i + 1], widths[i], strides[i], strides[i])
            channels = (j + 1) * widths[i] if j else (widths[i - 1] if i else in_channels)
            self.nodes[f"X{i}_{j}"] = Node(parameters, channels, widths[i], kernels[i])
        columns = range(1, head + 1) if parameters.deep_supervision else (head,)
        self.heads = nn.ModuleDict({str(j): _CONV[dims](widths[0], label_count, 1) for j in columns})

    def forward(self, batch: Tensor) -> Tensor | list[Tensor]:
        """Logits; see the class.

        Raises:
            InputError: an extent is not a multiple of its divisor; the message gives the size to use.
        """
        self._check_size(batch)
        features: dict[tuple[int, int], Tensor] = {}
        for i, j in node_order(self.head):
            if j:
                skips = [features[i, column] for column in range(j)]
                x = torch.cat([*skips, self.ups[f"X{i}_{j}"](features[i + 1, j - 1])], dim=1)
            else:
                x = self.pools[i - 1](features[i - 1, 0]) if i else batch
            features[i, j] = self._node(f"X{i}_{j}", x)
        if self.training and self.deep_supervision:
            return [self.heads[str(j)](features[0, j]) for j in range(1, self.head + 1)]
        return cast(Tensor, self.heads[str(self.head)](features[0, self.head]))

    def recompute(self, *, on: bool) -> None:
        """Gradient checkpointing: keep a node's input in training, not what is inside, and compute that again.

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

    def _node(self, name: str, x: Tensor) -> Tensor:
        if self._recompute and self.training:
            return cast(Tensor, checkpoint(self.nodes[name], x, use_reentrant=False))
        return cast(Tensor, self.nodes[name](x))

    def _check_size(self, batch: Tensor) -> None:
        extents = tuple(batch.shape[2:])
        if len(extents) != len(self.divisors):
            raise InputError(
                f"this network is {len(self.divisors)}D; found a batch of shape {tuple(batch.shape)}."
            )
        if any(extent % divisor for extent, divisor in zip(extents, self.divisors, strict=True)):
            fitting = tuple(-(-e // d) * d for e, d in zip(extents, self.divisors, strict=True))
            raise InputError(
                f"extents {extents} are no multiples of {self.divisors}; pad the input to {fitting}."
            )


class Node(nn.Module):
    """H of the paper: twice convolution, normalisation, leaky ReLU; optionally with a residual connection."""

    def __init__(
        self, parameters: UNetPlusPlus, in_channels: int, width: int, kernel: tuple[int, ...]
    ) -> None:
        super().__init__()
        dims, padding = parameters.dimensions, tuple(size // 2 for size in kernel)
        self.conv1 = _CONV[dims](in_channels, width, kernel, padding=padding)
        self.norm1 = _norm(parameters.norm, dims, width)
        self.conv2 = _CONV[dims](width, width, kernel, padding=padding)
        self.norm2 = _norm(parameters.norm, dims, width)
        residual = parameters.block == "residual"
        self.project = _CONV[dims](in_channels, width, 1, bias=False) if residual else None
        self.activation = nn.LeakyReLU(parameters.negative_slope, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, ...] to [B, width, ...], same extents."""
        y = self.norm2(self.conv2(self.activation(self.norm1(self.conv1(x)))))
        return self.activation(y if self.project is None else y + self.project(x))


def node_order(head: int) -> list[tuple[int, int]]:
    """The nodes (i, j) that head L needs, each after its inputs: by anti-diagonal i + j, encoder first."""
    return [(total - j, j) for total in range(head + 1) for j in range(total + 1)]


_GROUPS = 8
_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_UP_CONV = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_INSTANCE_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def _norm(name: NormName, dims: int, width: int) -> nn.Module:
    if name == "instance":
        return _INSTANCE_NORM[dims](width, affine=True)
    if name == "batch":
        return _BATCH_NORM[dims](width)
    return nn.GroupNorm(_GROUPS, width) if name == "group" else nn.Identity()
