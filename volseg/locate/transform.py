"""Affine transforms from template space to the scan's world, as twelve numbers of one size."""

import numpy as np

from volseg.geometry import FloatArray

_UNITS = np.repeat([0.1, 10.0, 0.1, 0.1], 3)
"""One step of each parameter: 0.1 rad, 10 mm, a tenth of the size, a tenth of shear; all move a head by about 10 mm."""

RIGID, AFFINE = 6, 12
"""How many of the parameters are free: rotation vector and translation; also stretch and shear."""


def rotation_matrix(vector: FloatArray) -> FloatArray:
    """The rotation [3, 3] by |vector| radians about a vector [3] (Rodrigues' formula)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = np.asarray(vector) / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def size_parameters(size: float) -> FloatArray:
    """The parameters [12] of no change but one of size."""
    parameters = np.zeros(AFFINE)
    parameters[RIGID : RIGID + 3] = np.log(size) / _UNITS[RIGID]
    return parameters


def matrix_of(parameters: FloatArray, rotation: FloatArray) -> FloatArray:
    """The linear part [3, 3]: a small rotation after a given one, after stretch and shear along the template's axes."""
    values = np.asarray(parameters) * _UNITS
    stretch = np.diag(np.exp(values[6:9]))
    stretch[0, 1], stretch[0, 2], stretch[1, 2] = values[9:12]
    return rotation_matrix(values[:3]) @ rotation @ stretch


def shift_of(parameters: FloatArray, centre_mm: FloatArray) -> FloatArray:
    """Where the template's centre lands [3], mm, for a start that puts it at centre_mm."""
    return centre_mm + np.asarray(parameters)[3:6] * _UNITS[3:6]


def parameter_gradient(
    parameters: FloatArray, rotation: FloatArray, by_matrix: FloatArray, by_shift: FloatArray
) -> FloatArray:
    """The derivative [12] by the parameters, from those by the linear part [3, 3] and by the shift [3]."""
    gradient = np.zeros(12)
    step = 1e-5
    for index in (*range(3), *range(6, 12)):
        ahead, behind = np.array(parameters, dtype=np.float64), np.array(parameters, dtype=np.float64)
        ahead[index] += step
        behind[index] -= step
        slope = (matrix_of(ahead, rotation) - matrix_of(behind, rotation)) / (2 * step)
        gradient[index] = float((slope * by_matrix).sum())
    gradient[3:6] = by_shift * _UNITS[3:6]
    return gradient


def rigid_part(matrix: FloatArray) -> FloatArray:
    """The rotation [3, 3] nearest to a linear map (polar decomposition); the map must not mirror."""
    left, _, right = np.linalg.svd(matrix)
    return left @ np.diag([1, 1, np.sign(np.linalg.det(left @ right))]) @ right


def scale_factors(matrix: FloatArray) -> FloatArray:
    """The three principal stretches of a linear map, rising."""
    return np.sort(np.linalg.svd(matrix, compute_uv=False)).astype(np.float64)
