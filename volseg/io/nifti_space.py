"""From the two affines and the units of a NIfTI header to one Grid, and back."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import HeaderDataError

from volseg.errors import GeometryError
from volseg.geometry import FloatArray, Grid, Shape
from volseg.origin import NiftiSpace

SFORM_QFORM_TOLERANCE_MM = 0.1
"""sform and qform agree up to this; a float32 quaternion near a half turn alone may lose some hundredths of a mm."""

STORED_GRID_TOLERANCE_MM = 1e-2
"""A stored affine stands for a grid up to this (float32 far from the world's origin)."""

MM, METRE, MICRON = 2, 1, 3
_SPATIAL_UNIT_BITS = 7
_SCANNER = 1

logger = logging.getLogger(__name__)


def read_space(path: Path, header: Nifti1Header, shape: Shape) -> tuple[Grid, NiftiSpace]:
    """The grid of a header, and what else it says about space.

    The sform comes first, then the qform (NIfTI-1, methods 3 and 2). With neither, the grid is nibabel's: pixdim
    spacing, first axis to the left, centred; then where the patient was is a guess, and a warning says so.

    Raises:
        GeometryError: the chosen affine is not finite or singular.
    """
    if float(header["pixdim"][0]) not in (-1.0, 1.0):
        header["pixdim"][0] = 1  # the standard: 0 (and anything else) stands for 1
    sform_code, qform_code, units = (int(header[key]) for key in ("sform_code", "qform_code", "xyzt_units"))
    scale = mm_per_unit(units)
    if scale != 1:
        logger.warning("%s: its header gives lengths in units of %g mm; converted to mm.", path, scale)
    qform = _qform_mm(path, header, scale=scale, is_needed=sform_code <= 0) if qform_code > 0 else None
    if sform_code > 0:
        grid = _grid(path, shape, _in_mm(header.get_sform(), scale))
        _compare_forms(path, grid, qform)
    elif qform is not None:
        grid = _grid(path, shape, qform)
    else:
        logger.warning(
            "%s: its header does not say where the patient is (sform and qform codes are 0); "
            "the first axis is taken to point left, as nibabel does.",
            path,
        )
        grid = _grid(path, shape, _in_mm(header.get_base_affine(), scale))
    return grid, NiftiSpace(sform_code, qform_code, units, qform)


def write_space(header: Nifti1Header, grid: Grid, space: NiftiSpace | None) -> None:
    """Fill the affines, codes, spacing and units of a header whose shape is set already.

    Codes and units are the source's. Its qform is kept where it stands for the same grid, else its code becomes 0. A
    header without any affine stays so only if it still means this grid. Without a source both codes are 1 (scanner),
    the qform's only if the grid is a rotation: a sheared grid has no quaternion.
    """
    if space is None:
        space = NiftiSpace(_SCANNER, _SCANNER, MM, grid.affine)
    scale = mm_per_unit(space.xyzt_units)
    affine = _in_mm(grid.affine, 1 / scale)
    header["xyzt_units"] = space.xyzt_units
    if space.qform_code > 0 and space.qform is not None and _is_near(grid, space.qform):
        header.set_qform(_in_mm(space.qform, 1 / scale), space.qform_code, strip_shears=True)
        if not _is_near(grid, _in_mm(header.get_qform(), scale)):
            _clear_qform(header)
    header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    if space.sform_code > 0:
        header.set_sform(affine, space.sform_code)
    elif (
        grid.distance_mm(Grid(grid.shape, _in_mm(header.get_best_affine(), scale))) > STORED_GRID_TOLERANCE_MM
    ):
        header.set_sform(affine, space.qform_code if space.qform_code > 0 else _SCANNER)


def mm_per_unit(xyzt_units: int) -> float:
    """Millimetres per spatial unit of a header; an unknown unit is taken as mm, as everyone does."""
    return {METRE: 1000.0, MICRON: 0.001}.get(xyzt_units & _SPATIAL_UNIT_BITS, 1.0)


def _in_mm(affine: Any, scale: float) -> FloatArray:
    scaled = np.array(affine, dtype=np.float64)
    scaled[:3] *= scale
    return scaled


def _grid(path: Path, shape: Shape, affine: FloatArray) -> Grid:
    try:
        return Grid(shape, affine)
    except GeometryError as error:
        raise GeometryError(
            f"{path}: {error} The header must be repaired before volseg can use the file."
        ) from None


def _qform_mm(path: Path, header: Nifti1Header, *, scale: float, is_needed: bool) -> FloatArray | None:
    """The quaternion affine, checked; a broken one matters only where the sform is missing."""
    try:
        affine = _in_mm(header.get_qform(), scale)
        Grid((1, 1, 1), affine)
    except (HeaderDataError, ValueError, GeometryError) as error:
        if is_needed:
            raise GeometryError(
                f"{path}: its qform, the only position it gives, is no rotation: {error}"
            ) from None
        logger.warning("%s: its qform is unusable (%s); using the sform.", path, error)
        return None
    return affine


def _compare_forms(path: Path, grid: Grid, qform: FloatArray | None) -> None:
    distance_mm = 0.0 if qform is None else grid.distance_mm(Grid(grid.shape, qform))
    if distance_mm > SFORM_QFORM_TOLERANCE_MM:
        logger.warning(
            "%s: sform and qform disagree, they place voxels up to %.2f mm apart; using the sform.",
            path,
            distance_mm,
        )


def _is_near(grid: Grid, affine: FloatArray) -> bool:
    return grid.distance_mm(Grid(grid.shape, affine)) <= SFORM_QFORM_TOLERANCE_MM


def _clear_qform(header: Nifti1Header) -> None:
    header["qform_code"] = 0
    header["pixdim"][0] = 1
    for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
        header[name] = 0
