"""Where the planes of a stack are: order, spacing and tilt from ImagePositionPatient alone (DICOM PS3.3 C.7.6.2.1.1).

InstanceNumber, SliceThickness (but for a lone plane), SpacingBetweenSlices and file names are never asked. A line
P = P0 + index * step is fitted to all positions, so noise in a few of them is no new spacing, and a step that is not
along the normal (gantry tilt) stays in the affine as shear. What no single line explains is refused.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from volseg.geometry import FloatArray, Grid
from volseg.io.dicom.frame import Frame, Reason, Refusal, Stack
from volseg.io.dicom.plane import Plane, check_frames, check_rescale, identity, mean_plane, positions
from volseg.io.dicom.slice_fit import Gaps, check_repeats, check_tilt, fit_line, slice_indices


def place_frames(frames: Sequence[Frame], trait: str = "", *, allow_gaps: bool = False) -> Stack:
    """The frames of one volume, of one matrix, sorted along their normal, with their grid or why there is none.

    Args:
        frames: at least one, in any order.
        trait: what sets the stack apart from others of its series, for people.
        allow_gaps: missing slices and irregular steps give a regular grid all the same, with the smallest regular step;
            `slices` then says where the frames are on it, and a note what is made up between them.
    """
    ordered = tuple(sorted(frames, key=identity))
    refusal = check_frames(ordered) or check_rescale(ordered)
    if refusal is not None:
        return Stack(ordered, trait, refusal=refusal)
    plane = mean_plane(ordered)
    if isinstance(plane, Refusal):
        return Stack(ordered, trait, refusal=plane)
    order = np.argsort(positions(ordered) @ plane.normal, kind="stable")
    stack = Stack(tuple(ordered[index] for index in order), trait)
    if len(ordered) == 1:
        return _place_one(stack, plane)
    points = positions(stack.frames)
    distances = points @ plane.normal
    refusal = check_repeats(distances, plane) or check_tilt(points, plane)
    if refusal is not None:
        return replace(stack, refusal=refusal)
    indices = slice_indices(distances)
    if isinstance(indices, Gaps):
        filled = indices.fill(len(ordered)) if allow_gaps else None
        refused = replace(stack, refusal=indices.too_wide() if allow_gaps else indices.refusal)
        return refused if filled is None else _place(replace(stack, notes=(indices.note(),)), plane, filled)
    if len(ordered) == 2:
        stack = replace(stack, notes=("two slices: nothing but their own distance tells the spacing",))
    return _place(stack, plane, indices)


def _place(stack: Stack, plane: Plane, indices: FloatArray) -> Stack:
    start, step = fit_line(indices, positions(stack.frames))
    return _with_grid(stack, plane, (start, step), indices)


def _place_one(stack: Stack, plane: Plane) -> Stack:
    thickness = stack.frames[0].slice_thickness
    if thickness is None or not np.isfinite(thickness) or thickness <= 0:
        text = "there is one slice only and it does not say how thick it is, so its voxels have no size."
        return replace(stack, refusal=Refusal(Reason.NO_SPACING, text))
    note = f"one slice: its spacing of {thickness:g} mm is assumed from SliceThickness"
    line = (positions(stack.frames)[0], thickness * plane.normal)
    return _with_grid(replace(stack, notes=(note,)), plane, line, np.zeros(1))


def _with_grid(stack: Stack, plane: Plane, line: tuple[FloatArray, FloatArray], indices: FloatArray) -> Stack:
    start, step = line
    affine = np.eye(4)
    affine[:3] = np.stack(
        (plane.row * plane.column_spacing, plane.column * plane.row_spacing, step, start), axis=1
    )
    first = stack.frames[0]
    grid = Grid.from_lps((first.columns, first.rows, round(float(indices[-1])) + 1), affine)
    return replace(stack, grid=grid, slices=tuple(indices.tolist()))
