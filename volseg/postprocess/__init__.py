"""What happens to a label map after the model: one class per step, found by its name.

Every step takes a LabelMap and gives a new one on the same grid, with the same type and no label that was not there.
Each label is treated on its own, in the box it occupies; sizes are in mm and mm³, whatever the spacing.
"""

from abc import ABC, abstractmethod

from volseg.registry import Registry, Step
from volseg.volume import LabelMap


class PostprocessStep(Step, ABC):
    """A step from LabelMap to LabelMap on the same grid."""

    @abstractmethod
    def __call__(self, label_map: LabelMap) -> LabelMap:
        """The label map after this step; the one given is unchanged."""


POSTPROCESS = Registry[PostprocessStep]("postprocess step", "volseg.postprocess")
