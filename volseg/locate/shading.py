"""Remove the slow change of brightness across an MR scan, measured where a template says which tissue is there."""

import numpy as np
import numpy.typing as npt

from volseg.geometry import FloatArray
from volseg.locate.pyramid import Small, sample

_LARGEST = 2.5
"""The field stays between 1 / this and this; beyond the brain it is only a guess."""
_ROUNDS = 3
_RIDGE = 1e-3
"""Per point: keeps coefficients small that the points do not determine."""


def without_shading(scan: Small, bins: npt.NDArray[np.intp], mapped_mm: FloatArray) -> Small:
    """The scan divided by a smooth field: the exponential of a polynomial of degree 2 in the world's coordinates.

    Points of one template bin should be equally bright; the logarithms of their deviations are what is fitted, those
    that deviate most (another tissue than the template says) weighing least.

    Args:
        scan: the image.
        bins: the template's intensity bin at points [N].
        mapped_mm: where the points lie in the scan's world [N, 3].
    """
    values, inside = sample(scan, mapped_mm)
    floor = 0.1 * float(np.percentile(values[inside], 75)) if inside.any() else 0.0
    used = inside & (values > max(floor, 0.0)) & (bins > 0)
    if floor <= 0 or used.sum() < 500:
        return scan
    centre, reach = mapped_mm[used].mean(axis=0), 80.0
    terms, logs, groups = _terms((mapped_mm[used] - centre) / reach), np.log(values[used]), bins[used]
    counts = np.maximum(np.bincount(groups), 1)
    field = np.zeros(len(logs))
    coefficients = np.zeros(terms.shape[1])
    for _ in range(_ROUNDS):
        expected = (np.bincount(groups, logs - field) / counts)[groups]
        deviation = logs - expected
        spread = float(np.median(np.abs(deviation - field))) + 1e-6
        weight = 1 / (1 + ((deviation - field) / (2 * spread)) ** 2)
        normal = (terms * weight[:, None]).T @ terms + _RIDGE * len(logs) * np.eye(terms.shape[1])
        coefficients = np.linalg.solve(normal, (terms * weight[:, None]).T @ deviation)
        field = terms @ coefficients
    everywhere = scan.grid.index_to_world(np.moveaxis(np.indices(scan.grid.shape), 0, -1))
    logs_everywhere = _terms((everywhere - centre) / reach) @ coefficients
    limit = np.log(_LARGEST)
    return Small((scan.array / np.exp(np.clip(logs_everywhere, -limit, limit))).astype(np.float32), scan.grid)


def _terms(places: FloatArray) -> FloatArray:
    """The nine terms of degree 1 and 2 in three coordinates [..., 3] -> [..., 9]."""
    x, y, z = np.moveaxis(places, -1, 0)
    return np.stack([x, y, z, x * x, y * y, z * z, x * y, x * z, y * z], axis=-1)
