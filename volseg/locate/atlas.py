"""Named boxes of a template, found in a scan by registration."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal

from pydantic import Field, PositiveFloat

from volseg.errors import PackageError
from volseg.geometry import Grid
from volseg.locate import LOCATE, LocateStep, Location, Region
from volseg.locate.boxes import Box, Millimetres, covered_fraction, region_of
from volseg.locate.guard import Limits, doubts_about, doubts_about_grid, measure
from volseg.locate.registration import register
from volseg.locate.template import Template
from volseg.volume import Volume

_LEAST_COVERED = 0.9
"""Fraction of a box that must lie inside the scan."""


@LOCATE.add
class Atlas(LocateStep):
    """Boxes around organs, carried from the template's space to the scan by an affine registration of T1 brains."""

    name: Literal["atlas"] = "atlas"
    boxes: tuple[Box, ...] = Field(min_length=1)
    spacing_mm: Millimetres = (1.0, 1.0, 1.0)
    """Voxels of the regions; the model's own."""
    crop_mm: Millimetres
    """A scan that is no larger (right-left, front-back, up-down) is a crop already: nothing is searched."""
    fences: PositiveFloat | None = 1.5
    """Clips what is far brighter or darker than the tissue of a region, see Region: without the skull a box holds empty
    space, after contrast agent bright vessels, and both would leave little contrast to the tissue. A crop of tissue alone,
    like those of the training, has nothing beyond 1.5 (J. Tukey, Exploratory Data Analysis, 1977)."""
    limits: Limits = Limits()

    def __call__(self, volume: Volume, template: Template | None) -> Location:
        """The boxes in the scan; none where the scan is a crop already.

        Raises:
            PackageError: there is no template.
            IntensityError: NaN or infinity in the volume.
        """
        if template is None:
            raise PackageError("the step 'atlas' needs a template, and the package holds none; get it again.")
        doubts = doubts_about_grid(volume.grid, self.limits)
        if self._is_crop(volume.grid):
            return Location(doubts=tuple(doubts), plausible_ml=self._plausible_ml())
        level = volume.array[0].flat[0]
        if (volume.array[0] == level).all():
            return Location(doubts=(f"every voxel of it has the value {level:g}",))
        found = register(template, volume)
        measures = measure(template, found)
        regions = tuple(
            region_of(box, found.affine, self.spacing_mm, fences=self.fences) for box in self.boxes
        )
        misfits = doubts_about(measures, self.limits)
        if not misfits:  # else the template is not at its place, and neither are the boxes
            misfits = _cut_off(regions, volume.grid)
        return Location(regions, tuple(doubts + misfits), asdict(measures))

    def _plausible_ml(self) -> tuple[float, float] | None:
        """What a crop around any of the boxes may hold."""
        ranges = [box.plausible_ml for box in self.boxes if box.plausible_ml is not None]
        return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None

    def _is_crop(self, grid: Grid) -> bool:
        return all(size <= most for size, most in zip(grid.body_size_mm, self.crop_mm, strict=True))


def _cut_off(regions: Sequence[Region], scan: Grid) -> list[str]:
    """The boxes that the scan does not hold."""
    covered = {region.name: covered_fraction(region, scan) for region in regions}
    return [
        f"only {fraction:.0%} of the box '{name}' lies in the scan (at least {_LEAST_COVERED:.0%})"
        for name, fraction in covered.items()
        if fraction < _LEAST_COVERED
    ]
