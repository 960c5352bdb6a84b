"""Network architectures: parameters in, torch module out; found by name."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Literal

from volseg.registry import Registry, Step

if TYPE_CHECKING:
    from torch.nn import Module


class Architecture(Step):
    """The parameters of a network; `build` makes the torch module."""

    dimensions: Literal[2, 3] = 3

    @property
    def memory_per_voxel(self) -> bool:
        """Whether a training step takes memory in proportion to the voxels of its batch, whatever the extents of a patch."""
        return True

    @abstractmethod
    def build(self, in_channels: int, label_count: int, *, head: int | None = None) -> "Module":
        """The untrained module.

        It takes [B, C, I, J, K] (2D: [B, C, I, J]) and gives logits [B, L, ...], in training mode
        possibly a list of them, the last being the one that counts. Its attribute `extents` (an ExtentRule) says which
        extents it takes and how many voxels at the border have no logits; its attribute `heads` holds the last layers by
        name, each with a bias per label.

        Args:
            in_channels: C.
            label_count: L, background counted.
            head: prune the network to this head, where it has several; None is the last.
        """


MODELS: Registry[Architecture] = Registry("architecture", "volseg.models")
