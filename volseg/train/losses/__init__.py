"""Training losses on logits, each one class found by its name; a training adds several up."""

from abc import abstractmethod
from typing import TYPE_CHECKING

from pydantic import NonNegativeFloat

from volseg.registry import Registry, Step

if TYPE_CHECKING:
    from torch import Tensor

    from volseg.train.targets import Target


class Loss(Step):
    """A term of the training loss."""

    weight: NonNegativeFloat = 1.0
    """Factor of this term in the sum."""

    @abstractmethod
    def __call__(self, logits: "Tensor", target: "Target") -> "Tensor":
        """The unweighted loss, a scalar in float32.

        Args:
            logits: [B, N, I, J, K] of any precision; 2D patches are one voxel thick along K.
            target: of the same extents.
        """


LOSSES = Registry[Loss]("loss", "volseg.train.losses")
