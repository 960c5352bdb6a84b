"""The surface of a mask by marching cubes: where its elements are and how large."""

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import numpy.typing as npt

from volseg.metrics.masks import FloatArray, Mask

_CORNERS = tuple(product((0, 1), repeat=3))
Edge = frozenset[int]


@dataclass(frozen=True, eq=False)
class Surface:
    """Surface elements of a mask."""

    points_mm: FloatArray
    """Centres of the surface elements [N, 3]."""
    area_mm2: FloatArray
    """Their areas [N]."""


def mask_surface(mask: Mask, linear: FloatArray) -> Surface:
    """The marching-cubes surface elements of a mask that has a margin of background."""
    codes = np.zeros([extent - 1 for extent in mask.shape], np.uint8)
    for number, (i, j, k) in enumerate(_CORNERS):
        corner = mask[i : mask.shape[0] - 1 + i, j : mask.shape[1] - 1 + j, k : mask.shape[2] - 1 + k]
        codes |= corner.view(np.uint8) << number
    # What is neither 0 (empty) nor 255 (full), in one comparison.
    elements = np.argwhere((codes - np.uint8(1)) < 254)
    areas = _element_areas_mm2(linear)[codes[tuple(elements.T)]]
    return Surface((elements + 0.5) @ linear.T, areas)


def _element_areas_mm2(linear: FloatArray) -> FloatArray:
    """Surface area in mm² [256] inside a box of 2 x 2 x 2 voxels, by the code of its filled corners."""
    codes, triangles = _marching_cubes()
    first, second, third = np.moveaxis(triangles @ linear.T, 1, 0)
    areas = np.linalg.norm(np.cross(second - first, third - first), axis=1) / 2
    return np.asarray(np.bincount(codes, areas, minlength=256), dtype=np.float64)


@cache
def _marching_cubes() -> tuple[npt.NDArray[np.intp], FloatArray]:
    """Codes [T] and triangles [T, 3, 3], in voxels, of the surface in a box of 2 x 2 x 2 voxels, for every code.

    Built, not tabled: the surface cuts an edge of the box at its middle where its ends differ, crosses each face in
    straight lines, and these lines close to polygons (Lorensen and Cline 1987, doi:10.1145/37401.37422). Each polygon
    is fanned from its centre of gravity.
    """
    codes: list[int] = []
    triangles: list[FloatArray] = []
    for code in range(1, 255):
        for polygon in _polygons(code):
            for start, stop in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
                codes.append(code)
                triangles.append(np.stack([polygon.mean(axis=0), start, stop]))
    return np.array(codes), np.stack(triangles)


def _polygons(code: int) -> list[FloatArray]:
    """The closed polygons [N, 3] of edge middles that part filled from empty corners."""
    neighbours: dict[Edge, list[Edge]] = {}
    for first, second in (line for face in _faces() for line in _face_lines(face, code)):
        neighbours.setdefault(first, []).append(second)
        neighbours.setdefault(second, []).append(first)
    polygons: list[FloatArray] = []
    while neighbours:
        edge, following = neighbours.popitem()
        loop = [edge]
        while following:
            edge = following[0]
            loop.append(edge)
            following = [candidate for candidate in neighbours.pop(edge) if candidate in neighbours]
        polygons.append(np.array([np.mean([_CORNERS[corner] for corner in edge], axis=0) for edge in loop]))
    return polygons


def _faces() -> list[list[int]]:
    """The four corners of each of the six faces, in order around the face."""
    faces: list[list[int]] = []
    for axis, side in product(range(3), (0, 1)):
        around = [0, 1, 3, 2]
        corners = [number for number, corner in enumerate(_CORNERS) if corner[axis] == side]
        faces.append([corners[position] for position in around])
    return faces


def _face_lines(face: list[int], code: int) -> list[tuple[Edge, Edge]]:
    """Where the surface crosses a face: each run of filled corners is cut off by one line."""
    filled = [bool(code >> corner & 1) for corner in face]
    edges = [frozenset((face[n], face[(n + 1) % 4])) for n in range(4)]
    enters = [n for n in range(4) if not filled[n] and filled[(n + 1) % 4]]
    lines: list[tuple[Edge, Edge]] = []
    for enter in enters:
        leave = next(n % 4 for n in range(enter + 1, enter + 5) if filled[n % 4] and not filled[(n + 1) % 4])
        lines.append((edges[enter], edges[leave]))
    return lines
