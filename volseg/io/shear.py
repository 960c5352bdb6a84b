"""Formats that store an origin, a spacing and a rotation cannot hold a sheared grid; NIfTI can."""

from pathlib import Path

import numpy as np

from volseg.errors import OutputError
from volseg.geometry import Grid
from volseg.io.formats import suffix_of

SHEAR_TOLERANCE = 1e-3
"""Axes count as perpendicular while the cosine between any two is at most this (0.06 degrees)."""


def refuse_sheared(grid: Grid, path: Path) -> None:
    """Refuse to write a sheared grid (gantry tilt, an affine registration) where readers would straighten it.

    Raises:
        OutputError: two axes of the grid are not perpendicular.
    """
    if np.sin(np.radians(grid.shear_degrees)) > SHEAR_TOLERANCE:
        raise OutputError(
            f"{path}: the grid is sheared (two axes are {grid.shear_degrees:.2f} degrees from perpendicular) and "
            f"{suffix_of(path)} files hold only perpendicular axes. Write .nii.gz instead."
        )
