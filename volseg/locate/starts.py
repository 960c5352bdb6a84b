"""Where a registration may start: the template laid over the scan everywhere at once, in a set of rotations.

Normalised correlation under masks, every translation by one Fourier transform: D. Padfield, Masked object registration in
the Fourier domain, IEEE Trans. Image Processing 21 (2012), 2706-2718.
"""

from dataclasses import dataclass
from itertools import product
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy import fft

from volseg.geometry import FloatArray
from volseg.locate.pyramid import Image, Small, sample, world_box
from volseg.locate.transform import rotation_matrix

Spectrum = npt.NDArray[np.complex64]

SPACING_MM = 9.0
_ANGLES_DEGREES = (-25.0, 0.0, 25.0)
_LEAST_COVERED = 0.4
"""Fraction of the template that must lie inside the scan."""


@dataclass(frozen=True, eq=False)
class Start:
    """A rotation [3, 3] about the template's centre, where the centre lands in mm, and the correlation there (-1..1)."""

    rotation: FloatArray
    centre_mm: FloatArray
    score: float


def find_starts(template: Small, mask: Small, centre_mm: FloatArray, scan: Small) -> list[Start]:
    """The best translation for each rotation, best first.

    Args:
        template: the template, smoothed.
        mask: where the template is compared, 1 or 0, on the template's grid.
        centre_mm: the point of the template that rotations leave in place.
        scan: the scan, smoothed.
    """
    image, covered = world_box(scan, SPACING_MM)
    image = Small((image.array - image.array[covered > 0].mean()) * covered, image.grid)
    radius = int(np.ceil(_reach_mm(mask, centre_mm) / SPACING_MM))
    side = 2 * radius + 1
    size = tuple(_fast_length(extent + side - 1) for extent in image.grid.shape)
    spectra = [_spectrum(part, size) for part in (covered, image.array, image.array**2)]
    starts: list[Start] = []
    offsets = (np.moveaxis(np.indices((side, side, side)), 0, -1) - radius) * SPACING_MM
    for angles in product(_ANGLES_DEGREES, repeat=3):
        rotation = rotation_matrix(np.deg2rad(angles))
        points = offsets @ rotation + centre_mm
        weight, inside = sample(mask, points)
        weight = ((weight > 0.5) & inside).astype(np.float32)
        values, _ = sample(template, points)
        scores = _correlations(values * weight, weight, spectra, size)
        scores = scores[tuple(slice(0, extent + side - 1) for extent in image.grid.shape)]
        best = np.unravel_index(int(scores.argmax()), scores.shape)
        centre = image.grid.index_to_world(np.array(best) - radius)
        starts.append(Start(rotation, centre, float(scores[best])))
    return sorted(starts, key=lambda start: -start.score)


def _reach_mm(mask: Small, centre_mm: FloatArray) -> float:
    points = mask.grid.index_to_world(np.argwhere(mask.array > 0.5))
    return float(np.linalg.norm(points - centre_mm, axis=1).max())


def _fast_length(extent: int) -> int:
    return cast(int, fft.next_fast_len(extent, real=True))


def _spectrum(image: Image, size: tuple[int, ...]) -> Spectrum:
    return cast(Spectrum, fft.rfftn(image, size))


def _correlations(values: Image, weight: Image, spectra: list[Spectrum], size: tuple[int, ...]) -> Image:
    """Normalised correlation [*size] for every position of the template's corner; -1 where too little is covered.

    Position n on an axis stands for the template's first voxel at n - (side - 1) of the image.
    """
    covered, image, squares = spectra
    flipped = [_spectrum(part[::-1, ::-1, ::-1], size) for part in (weight, values, values**2)]

    def product_of(first: Spectrum, second: Spectrum) -> Image:
        return cast(Image, fft.irfftn(first * second, size))

    count = np.maximum(product_of(covered, flipped[0]), 1e-3)
    image_sum, template_sum = product_of(image, flipped[0]), product_of(covered, flipped[1])
    together = product_of(image, flipped[1]) - image_sum * template_sum / count
    spread = (product_of(squares, flipped[0]) - image_sum**2 / count) * (
        product_of(covered, flipped[2]) - template_sum**2 / count
    )
    enough = (count >= _LEAST_COVERED * weight.sum()) & (spread > 1e-6 * spread.max())
    scores = np.full(count.shape, -1.0, dtype=np.float32)
    scores[enough] = together[enough] / np.sqrt(spread[enough])
    return scores
