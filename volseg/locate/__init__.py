"""Where in a scan the model looks: one class per way of finding out, found by its name.

A located region is a grid of its own, oblique where the head is turned and left-handed where the region is mirrored. The
model sees the region upright; its labels come back to the scan by that grid alone.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from volseg.geometry import Grid
from volseg.locate.template import Template
from volseg.registry import Registry, Step
from volseg.volume import Volume


@dataclass(frozen=True)
class Region:
    """One located region of a scan."""

    name: str
    grid: Grid
    """Its voxels in the scan's world; array axes run right, front, up in the model's view."""
    values: tuple[int, ...]
    """The label value on the scan for each label of the model, by rising value of the model."""
    plausible_ml: tuple[float, float] | None = None
    """Volume of all its labels together that is usual; another one is worth a warning."""
    fences: float | None = None
    """Intensities are clipped this many interquartile ranges beyond the region's quartiles; None: not at all."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Location:
    """What a step found in a scan."""

    regions: tuple[Region, ...] = ()
    """Empty: the scan as a whole is the region, with the model's own labels."""
    doubts: tuple[str, ...] = ()
    """Why the scan must be refused, each naming what was measured and what is expected."""
    measures: dict[str, float] | None = None
    """What was measured, by name; None where nothing was."""
    plausible_ml: tuple[float, float] | None = None
    """Without regions: the volume of all labels together that is usual."""


class LocateStep(Step, ABC):
    """A step from a scan to its regions."""

    @abstractmethod
    def __call__(self, volume: Volume, template: Template | None) -> Location:
        """The regions of a scan; the template is the package's, where it has one."""


LOCATE = Registry[LocateStep]("locate step", "volseg.locate")
