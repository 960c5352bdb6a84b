"""The slice index of planes from their positions: a straight line through all of them, or what keeps it from one."""

from dataclasses import dataclass

import numpy as np

from volseg.errors import counted, few
from volseg.geometry import FloatArray
from volseg.io.dicom.frame import Reason, Refusal
from volseg.io.dicom.plane import Plane

SLICE_FIT_TOLERANCE_MM = 0.1
"""How far a plane may be from the fitted line: positions rounded to 0.1 mm are up to 0.09 mm off, jitter far less."""

SLICE_FIT_TOLERANCE_OF_SPACING = 0.2
"""The same as a fraction of the spacing; the smaller of the two holds, so a missing slice is always seen."""

STEP_TOLERANCE_OF_SPACING = 0.3
"""How far a single step may be from the fitted one; below a third, no two-fold step passes beside single ones."""

SAME_POSITION_MM = (0.04, 0.1)
"""Planes this close along the normal are at one position: twice a jitter of 20 µm at least, 0.1 mm at most."""

LARGEST_TILT = 1.0
"""Shift across the normal for each mm along it: 45 degrees; gantries tilt by 30."""

MOST_FILLING = 4
"""A grid that fills gaps has at most this many times the slices that were there."""

_LISTED = 5


def same_position_mm(distances: FloatArray, plane: Plane) -> float:
    """Below which step planes at sorted `distances` [n] along the normal are at one position, in mm.

    A fifth of the spacing, within SAME_POSITION_MM; and slices a tenth of a pixel apart are jitter, not slices. Where
    the pixels themselves are tiny (micro-CT), half a pixel is enough.
    """
    least, most = SAME_POSITION_MM
    extent = float(distances[-1] - distances[0])
    steps = int((np.diff(distances) > most).sum()) or max(1, len(distances) - 1)
    pixel = min(plane.row_spacing, plane.column_spacing)
    return float(np.clip(max(extent / steps / 5, pixel / 10), min(least, pixel / 2), most))


@dataclass(frozen=True)
class Gaps:
    """Slices that are missing or irregular, and the regular slices that would hold them."""

    refusal: Refusal
    indices: FloatArray
    """Of the frames on the regular grid [n]: whole numbers where slices are missing, else fractions."""
    where: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many slices the regular grid has."""
        return round(float(self.indices[-1])) + 1

    def fill(self, frames: int) -> FloatArray | None:
        """The indices, unless the grid would be mostly made up."""
        return self.indices if self.count <= MOST_FILLING * frames else None

    def too_wide(self) -> Refusal:
        """The refusal where gaps were allowed and are too wide to be filled."""
        return Refusal(
            self.refusal.reason,
            f"the gaps are too wide to be filled: {len(self.indices)} slices would become {self.count}, and at most "
            f"{MOST_FILLING} times as many are made. They are: {few(self.where, _LISTED)}, measured along the normal.",
        )

    def note(self) -> str:
        """What was made up, and where."""
        near = np.abs(self.indices[:, None] - np.arange(self.count)).min(0) < 1e-6
        made = int((~near).sum())
        return (
            f"{made} of {self.count} slices were made up by linear interpolation ({self.refusal.reason}): "
            f"{few(self.where, _LISTED)}"
        )


def check_repeats(distances: FloatArray, plane: Plane) -> Refusal | None:
    """Refuse planes at rising `distances` [n] along the normal where two of them are at one position."""
    is_repeat = np.diff(distances) <= same_position_mm(distances, plane)
    if not is_repeat.any():
        return None
    at = [f"{distance:.2f}" for distance in distances[1:][is_repeat]]
    return Refusal(
        Reason.REPEATED_POSITIONS,
        f"more than one plane lies at {few(at, _LISTED)} mm along the normal, and nothing tells them apart.",
    )


def slice_indices(distances: FloatArray) -> FloatArray | Gaps:
    """The slice index of planes at rising `distances` [n] along the normal; 0, 1, 2 ... where all is well."""
    steps = np.diff(distances)
    base = _base_step(steps)
    indices = np.concatenate(([0.0], np.cumsum(np.maximum(1, np.rint(steps / base)))))
    start, step = fit_line(indices, distances[:, None])
    spacing = float(step[0])
    off = np.abs(distances - start[0] - indices * spacing).max()
    uneven = np.abs(steps - np.diff(indices) * spacing).max()
    if off > _tolerance(spacing) or uneven > STEP_TOLERANCE_OF_SPACING * spacing:
        return _irregular(distances, base)
    return indices if indices[-1] == len(steps) else _missing(distances, indices, spacing)


def _base_step(steps: FloatArray) -> float:
    """The step between neighbours, some of which may be missing: the mean of those steps that are about the smallest."""
    base = float(steps.min())
    for _ in range(5):
        base = float(steps[np.rint(steps / base) <= 1].mean())
    return base


def _tolerance(spacing: float) -> float:
    return min(SLICE_FIT_TOLERANCE_MM, SLICE_FIT_TOLERANCE_OF_SPACING * spacing)


def _missing(distances: FloatArray, indices: FloatArray, spacing: float) -> Gaps:
    jumps = np.diff(indices)
    gaps = tuple(
        f"{jump - 1:.0f} between {below:.2f} and {above:.2f} mm ({above - below:.2f} mm apart)"
        for jump, below, above in zip(jumps, distances[:-1], distances[1:], strict=True)
        if jump > 1
    )
    text = (
        f"missing: {counted(int(jumps.sum()) - len(jumps), 'slice')}, where the others are {spacing:.3f} mm apart: "
        f"{few(gaps, _LISTED)}, measured along the normal. Export the series again, or allow gaps (--allow-gaps) to fill "
        "them by interpolation."
    )
    return Gaps(Refusal(Reason.MISSING_SLICES, text), indices, gaps)


def _irregular(distances: FloatArray, base: float) -> Gaps:
    """Steps that are no multiples of one step; the regular grid runs from the first plane to the last."""
    runs: list[str] = []
    steps = np.diff(distances)
    first = 0
    for index in range(1, len(steps) + 1):
        if index == len(steps) or abs(steps[index] - steps[first]) > _tolerance(base):
            runs.append(f"{steps[first]:.2f} mm from {distances[first]:.2f} to {distances[index]:.2f} mm")
            first = index
    text = (
        f"the steps between the slices are irregular, {steps.min():.3f} to {steps.max():.3f} mm: {few(runs, _LISTED)}, "
        "measured along the normal. Export the series again, or allow gaps (--allow-gaps) to resample it "
        "to even steps."
    )
    extent = float(distances[-1] - distances[0])
    count = max(1, round(extent / base))
    return Gaps(
        Refusal(Reason.IRREGULAR_SPACING, text), (distances - distances[0]) / extent * count, tuple(runs)
    )


def check_tilt(points: FloatArray, plane: Plane) -> Refusal | None:
    """Refuse planes [n, 3] that shift sideways other than evenly, in the order of their distance along the normal."""
    distances = points @ plane.normal
    across = points - np.outer(distances, plane.normal)
    start, shift = fit_line(distances, across)
    spacing = float(np.diff(distances).min())
    off = np.linalg.norm(across - start - np.outer(distances, shift), axis=1)
    worst = int(off.argmax())
    if off[worst] > _tolerance(spacing):
        return Refusal(
            Reason.SHIFTED_SLICES,
            f"the slices are shifted sideways, not evenly as a gantry tilt does: the one at {distances[worst]:.2f} mm "
            f"along the normal is {off[worst]:.2f} mm off the line through all of them.",
        )
    if np.linalg.norm(shift) > LARGEST_TILT:
        return Refusal(
            Reason.SHIFTED_SLICES,
            f"the slices shift sideways by {np.linalg.norm(shift):.2f} mm for each mm along the normal; "
            f"expected at most {LARGEST_TILT:.0f} (a tilt of 45 degrees).",
        )
    return None


def fit_line(indices: FloatArray, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Start [d] and step [d] of the least-squares line start + index * step through points [n, d]."""
    centred = indices - indices.mean()
    middle = points.mean(0)
    step = centred @ (points - middle) / (centred @ centred)
    return middle - indices.mean() * step, step
