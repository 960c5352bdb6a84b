"""From the frames of a DICOM SEG to one array: each where its position says, on a given grid or on the one they span."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.errors import GeometryError, IntensityError
from volseg.geometry import FloatArray, Grid
from volseg.io.dicom.seg_file import SegFile
from volseg.labels import LabelTable

IntArray = npt.NDArray[np.int64]

ON_GRID_TOLERANCE_MM = 0.1
"""How far a frame's corners may lie from the voxels they are put on: what reading allows between plane and grid."""


def gather(file: SegFile, grid: Grid) -> npt.NDArray[Any]:
    """The segment number of each voxel [I, J, K] of a grid, its first axis fastest.

    Raises:
        GeometryError: a frame does not lie on the grid, or labels lie beside it.
        IntensityError: segments overlap.
    """
    dtype = np.uint8 if max(file.labels.values) <= np.iinfo(np.uint8).max else np.uint16
    flat = np.zeros(int(np.prod(grid.shape)), dtype)
    strides = np.array([1, grid.shape[0], grid.shape[0] * grid.shape[1]])
    for value, plane, mask in file.pieces():
        found = np.flatnonzero(mask.T)
        if not len(found):
            continue
        start, steps = _on_grid(file.path, plane, grid)
        rows, columns = np.divmod(found, mask.shape[0])
        _check_inside(file.path, (columns, rows), start, steps, grid)
        voxels = start @ strides + columns * (steps[:, 0] @ strides) + rows * (steps[:, 1] @ strides)
        before = flat[voxels]
        taken = before[(before != 0) & (before != value)]
        if len(taken):
            raise _overlapping(file.path, file.labels, value, int(taken[0]))
        flat[voxels] = value
    return flat.reshape(grid.shape, order="F")


def spanned_grid(file: SegFile) -> Grid:
    """The regular grid through the planes of all frames, with slices that no frame has between them.

    The step is SpacingBetweenSlices where that fits, else the smallest between two planes.

    Raises:
        GeometryError: no regular grid goes through all planes, or what it is cannot be told.
    """
    first = file.planes[0]
    points = np.stack([plane.affine[:3, 3] for plane in file.planes])
    normal = first.affine[:3, 2]
    for plane in file.planes:
        if (
            np.abs(plane.affine[:3, :2] - first.affine[:3, :2]).max() * max(first.shape)
            > ON_GRID_TOLERANCE_MM
        ):
            raise GeometryError(
                f"{file.path} has frames of several orientations or spacings, so no one grid."
            )
    distances = (points - points[0]) @ normal
    lowest = int(distances.argmin())
    distances = distances - distances[lowest]
    different = np.unique(distances.round(3))
    step, shift = _step(file, different), np.zeros(3)
    indices = np.rint(distances / step)
    if len(different) > 1:
        centred = indices - indices.mean()
        shift = centred @ (points - points.mean(0)) / (centred @ centred)
    else:
        shift = normal * step
    start = points.mean(0) - indices.mean() * shift
    off = float(np.linalg.norm(start + np.outer(indices, shift) - points, axis=1).max())
    if off > ON_GRID_TOLERANCE_MM:
        raise GeometryError(
            f"{file.path}: its {len(different)} planes lie up to {off:.3f} mm off any regular grid with steps of about "
            f"{step:.3f} mm. Give the grid of the volume it belongs to."
        )
    affine = first.affine.copy()
    affine[:3, 2], affine[:3, 3] = shift, start
    return Grid((first.shape[0], first.shape[1], int(indices.max()) + 1), affine)


def _step(file: SegFile, distances: FloatArray) -> float:
    """The distance of slices, from the different places [n] of planes along the normal."""
    hint = file.spacing_between_slices
    if len(distances) == 1:
        if hint is None:
            raise GeometryError(
                f"{file.path} has one plane and no SpacingBetweenSlices, so its grid is unknown. Give the grid of the "
                "volume it belongs to."
            )
        return hint
    steps = np.diff(distances)
    smallest = float(steps.min())
    if hint is None or hint <= ON_GRID_TOLERANCE_MM:
        return smallest
    counts = steps / hint
    if np.abs(counts - np.rint(counts)).max() * hint > ON_GRID_TOLERANCE_MM or counts.min() < 0.5:
        return smallest
    common = int(np.gcd.reduce(np.rint(counts).astype(int)))
    if common > 1 and len(distances) > 2:
        raise GeometryError(
            f"{file.path}: all its planes are multiples of {smallest:.3f} mm apart, but it says that slices are "
            f"{hint:.3f} mm apart, so it is unclear whether slices are left out. Give the grid of the volume it belongs to."
        )
    return hint


def _on_grid(path: Path, plane: Grid, grid: Grid) -> tuple[IntArray, IntArray]:
    """The voxel [3] of a frame's first pixel, and the steps [3, 2] that a column and a row further make on the grid."""
    to_index = np.linalg.inv(grid.affine) @ plane.affine
    start, steps = np.rint(to_index[:3, 3]).astype(int), np.rint(to_index[:3, :2]).astype(int)
    corners = np.array([(i, j, 0) for i in (0, plane.shape[0] - 1) for j in (0, plane.shape[1] - 1)])
    there = grid.index_to_world(start + corners[:, :2] @ steps.T)
    off = float(np.linalg.norm(there - plane.index_to_world(corners), axis=1).max())
    is_aligned = (np.abs(steps).sum(0) == 1).all() and (np.abs(steps).sum(1) <= 1).all()
    if not is_aligned or off > ON_GRID_TOLERANCE_MM:
        raise GeometryError(
            f"{path}: a frame lies {off:.3f} mm off the voxels of the grid it is to be put on; expected at most "
            f"{ON_GRID_TOLERANCE_MM} mm. Give the grid of the volume it was made on, or none."
        )
    return start, steps


def _check_inside(
    path: Path, pixels: tuple[IntArray, IntArray], start: IntArray, steps: IntArray, grid: Grid
) -> None:
    box = np.array(
        [(i, j) for i in (pixels[0].min(), pixels[0].max()) for j in (pixels[1].min(), pixels[1].max())]
    )
    voxels = start + box @ steps.T
    if voxels.min() < 0 or (voxels >= grid.shape).any():
        raise GeometryError(
            f"{path}: labels lie beside the grid, up to voxel {voxels.max(0).tolist()} of a shape {grid.shape} and down "
            f"to {voxels.min(0).tolist()}. Give the grid of the volume it was made on, or none."
        )


def _overlapping(path: Path, labels: LabelTable, first: int, second: int) -> IntensityError:
    names = [label.name for label in labels if label.value in (first, second)]
    return IntensityError(
        f"{path}: the segments {' and '.join(names)} overlap, which a label map cannot hold. Export them one by one."
    )
