"""Named boxes of a template, found in a scan by registration."""

from dataclasses import asdict
from typing import Literal

from pydantic import Field

from volseg.errors import PackageError
from volseg.geometry import Grid
from volseg.locate import LOCATE, LocateStep, Location
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
    limits: Limits = Limits()

    def __call__(self, volume: Volume, template: Template | None) -> Location:
        """The boxes in the scan; none where the scan is a crop already.

        Raises:
            PackageError: there is no template.
            IntensityError: NaN or infinity in the volume.
        """
        if template is None:
            raise PackageError("the step 'atlas' needs a template, and the package holds none; get it again.")
        if self._is_crop(volume.grid):
            return Location()
        found = register(template, volume)
        measures = measure(template, found)
        regions = tuple(region_of(box, found.affine, self.spacing_mm) for box in self.boxes)
        doubts = doubts_about_grid(volume.grid, self.limits) + doubts_about(measures, self.limits)
        for region in regions:
            covered = covered_fraction(region, volume.grid)
            if covered < _LEAST_COVERED:
                doubts.append(
                    f"only {covered:.0%} of the box '{region.name}' lies in the scan (at least {_LEAST_COVERED:.0%})"
                )
        return Location(regions, tuple(doubts), asdict(measures))

    def _is_crop(self, grid: Grid) -> bool:
        upright = grid.reoriented("RAS")
        return all(
            extent * step <= most
            for extent, step, most in zip(upright.shape, upright.spacing_mm, self.crop_mm, strict=True)
        )
