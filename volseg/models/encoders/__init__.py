"""Encoders: what a network sees at each resolution level; found by name."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from volseg.errors import ConfigError
from volseg.registry import Registry, Step

if TYPE_CHECKING:
    from volseg.models.blocks import BlockStyle

Axes = tuple[int, ...]


@dataclass(frozen=True)
class LevelPlan:
    """What an architecture asks of its encoder."""

    dimensions: int
    levels: int
    """How many levels to build, the finest counted."""
    widths: tuple[int, ...]
    """Feature maps of the architecture's nodes at each level; an encoder of a fixed form has its own."""
    kernel_sizes: tuple[Axes, ...]
    strides: tuple[Axes, ...]
    """Of the transitions from level i to i + 1."""
    style: "BlockStyle"


class Encoder(nn.Module):
    """Levels of features, each computed from the one before, so that a shallow head needs only the first of them.

    `stages[i]` maps the state of level i - 1 (the image [B, C, ...] for i = 0) to that of level i; `feature` gives what
    the decoder sees of a state: [B, widths[i], ...].
    """

    def __init__(self, stages: nn.ModuleList, widths: tuple[int, ...], strides: tuple[Axes, ...]) -> None:
        super().__init__()
        self.stages = stages
        self.widths = widths
        self.strides = strides
        """By how much stage i reduces the extents: strides[0] is (1, 1, 1) where the finest level has the image's."""

    def feature(self, level: int, state: Tensor) -> Tensor:
        """What the decoder sees of a level."""
        del level
        return state

    def convert_torchvision(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A torchvision state dict under this encoder's names; tensors that it does not use (the classifier) left out.

        Shapes stay as they are in the file: adapting them to other channel counts or to 3D is not done here.

        Raises:
            ConfigError: torchvision has no such network, or the file is of another one.
        """
        del weights
        raise ConfigError("torchvision has no weights for this encoder; use those of `volseg pretrain`.")


class EncoderStep(Step):
    """The parameters of an encoder; `build` makes the module."""

    @property
    @abstractmethod
    def most_levels(self) -> int:
        """How many levels there are at most."""

    @property
    def memory_per_voxel(self) -> bool:
        """As of Architecture."""
        return True

    @abstractmethod
    def build(self, in_channels: int, plan: LevelPlan) -> Encoder:
        """The untrained encoder with `plan.levels` levels.

        Args:
            in_channels: C of the image.
            plan: the levels.

        Raises:
            ConfigError: the encoder does not exist in this form (such as in 3D).
        """


ENCODERS: Registry[EncoderStep] = Registry("encoder", "volseg.models.encoders")
