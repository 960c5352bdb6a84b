"""What happens to a volume before the model sees it: one class per step, found by its name.

Every step takes a Volume and gives a new one; the volume it was given stays as it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from volseg.registry import Registry, Step
from volseg.volume import Volume


class PreprocessStep(Step, ABC):
    """A step from Volume to Volume."""

    @abstractmethod
    def __call__(self, volume: Volume) -> Volume:
        """The volume after this step; the one given is unchanged."""


PREPROCESS = Registry[PreprocessStep]("preprocess step", "volseg.preprocess")


def preprocess_volume(volume: Volume, steps: Sequence[PreprocessStep]) -> Volume:
    """The volume after all steps, as float32."""
    for step in steps:
        volume = step(volume)
    return volume.with_array(volume.array.astype(np.float32, copy=False))
