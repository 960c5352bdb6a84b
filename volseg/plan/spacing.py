"""Which voxel size a network sees, and which way its arrays run."""

from math import prod

import numpy as np

from volseg.package.fingerprint import Fingerprint
from volseg.plan.intensities import is_cropped
from volseg.preprocess.spatial import Orient, Respace
from volseg.train.settings import TrainConfig

Triple = tuple[float, float, float]

ANISOTROPY = 3.0
"""An axis counts as thick when its spacing is more than this times, and its extent less than this part of, the others'."""

TURN = 1.2
"""The arrays are turned when some spacing is more than this times that from slice to slice (feet to head)."""

COARSER = 1.2
"""A target counts as clearly coarser than the data beyond this ratio: smoothing first keeps the noise from aliasing."""

LOW_SHARE = 0.25
"""The low resolution is for scans of whose median volume a patch at full resolution holds less than this."""

LEAST_EXTENT = 16
"""No axis is coarsened so far that the median case has fewer voxels along it."""

_COARSENING = 1.03
_CODES = {0: "ASR", 1: "RSA", 2: "RAS"}


def target_spacing(fingerprint: Fingerprint) -> Triple:
    """The spacing in mm along the RAS axes: the median of the cases, finer along a thick axis.

    An axis is thick when its median spacing is more than 3 times the next one's and its median extent less than a third of
    the others'. There the 10th percentile is taken (not below the next spacing): fewer cases lose slices, and slices that
    are made up cost less than slices that are lost (the rule of nnU-Net, Isensee et al. 2021).
    """
    spacing = [axis.median for axis in fingerprint.spacing_mm]
    extents = [axis.median for axis in fingerprint.shape]
    axis = int(np.argmax(spacing))
    next_spacing = max(value for n, value in enumerate(spacing) if n != axis)
    least_extent = min(value for n, value in enumerate(extents) if n != axis)
    if spacing[axis] > ANISOTROPY * next_spacing and extents[axis] * ANISOTROPY < least_extent:
        spacing[axis] = max(fingerprint.spacing_mm[axis].low, next_spacing)
    return _triple(spacing)


def slice_spacing(fingerprint: Fingerprint) -> Triple:
    """The spacing in mm along the RAS axes for networks that see slices: the median; no slice is made up on purpose."""
    return _triple([axis.median for axis in fingerprint.spacing_mm])


def orientation_codes(spacing_mm: Triple) -> str:
    """The axis codes that make the coarsest axis the last, K; "RAS" where none is clearly coarser than feet to head."""
    axis = int(np.argmax(spacing_mm))
    return _CODES[axis] if spacing_mm[axis] > TURN * spacing_mm[2] else "RAS"


def turned(values: Triple, codes: str) -> Triple:
    """Numbers along the RAS axes in the order of axes that point to the codes."""
    return _triple([values["RAS".index(letter)] for letter in codes])


def median_extents(fingerprint: Fingerprint, spacing_mm: Triple) -> tuple[int, int, int]:
    """The median size of the cases along the RAS axes in voxels of a spacing, at least 1.

    Where cases are cropped to what is not zero, that box counts.
    """
    sizes = fingerprint.nonzero_mm if is_cropped(fingerprint) else fingerprint.size_mm
    first, second, third = (
        max(1, round(axis.median / step)) for axis, step in zip(sizes, spacing_mm, strict=True)
    )
    return first, second, third


def needs_smoothing(fingerprint: Fingerprint, spacing_mm: Triple) -> bool:
    """Whether the target (mm along the RAS axes) is more than 1.2 times coarser than the median case along some axis."""
    data = [axis.median for axis in fingerprint.spacing_mm]
    return any(step > COARSER * own for step, own in zip(spacing_mm, data, strict=True))


def coarsened_once(spacing_mm: Triple) -> Triple:
    """One step towards the low resolution: 3 % coarser, first only along axes finer than half the coarsest."""
    coarsest = max(spacing_mm)
    fine = [step for step in spacing_mm if coarsest > 2 * step]
    return _triple([step * _COARSENING if not fine or coarsest > 2 * step else step for step in spacing_mm])


def coarsened(
    spacing_mm: Triple, factor: float, extents: tuple[int, int, int], *, fixed: int | None = None
) -> Triple:
    """A spacing with which a case has factor³ times fewer voxels (factor² where an axis is fixed).

    Axes are coarsened as by coarsened_once, but none is left with fewer than 16 voxels: a stack of few slices keeps them. So
    there may be less to gain than was asked for.

    Args:
        spacing_mm: along the RAS axes.
        factor: at least 1.
        extents: of the median case at that spacing.
        fixed: an axis that stays as it is, as across the slices of a 2D network.
    """
    wanted = prod(spacing_mm) * factor ** (3 if fixed is None else 2) * (1 - 1e-9)
    spacing = spacing_mm
    while prod(spacing) < wanted:
        steps = coarsened_once(spacing)
        tried = [
            old if n == fixed or extents[n] * spacing_mm[n] / new < LEAST_EXTENT else new
            for n, (old, new) in enumerate(zip(spacing, steps, strict=True))
        ]
        if tried == list(spacing):  # those that may be coarsened next are closed: all others, then
            tried = [
                old
                if n == fixed or extents[n] * spacing_mm[n] / (old * _COARSENING) < LEAST_EXTENT
                else old * _COARSENING
                for n, old in enumerate(spacing)
            ]
        if tried == list(spacing):
            break
        spacing = _triple(tried)
    return spacing


def median_share(config: TrainConfig, fingerprint: Fingerprint) -> float:
    """The part of the median case that a patch of a configuration holds; of a slice, for 2D networks."""
    respace = next(step for step in config.preprocess if isinstance(step, Respace))
    codes = next(step.codes for step in config.preprocess if isinstance(step, Orient))
    spacing = _triple([respace.spacing_mm[codes.index(letter)] for letter in "RAS"])
    extents = turned(_triple([float(n) for n in median_extents(fingerprint, spacing)]), codes)
    axes = config.architecture.dimensions
    return prod(config.patch_voxels[:axes]) / prod(extents[:axes])


def patch_share(patch_voxels: tuple[int, ...], extents: tuple[int, ...]) -> float:
    """The part of a case of these extents that lies in one patch, 0..1 and beyond."""
    return prod(patch_voxels) / prod(extents)


def _triple(values: list[float]) -> Triple:
    first, second, third = (float(f"{value:.5g}") for value in values)
    return first, second, third
