"""Masks as outlines and back: polygons along pixel edges that enclose exactly the pixels of a mask.

Pixel (i, j) is the square of side 1 around its centre at the integers. An outline runs along pixel edges, so that the
even-odd rule at the pixel centres gives the mask again, half a pixel away from every doubt.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from volseg.geometry import FloatArray
from volseg.volume import AnyArray

_BRIDGE_OFFSET = 0.25
"""Bridges to holes run between pixel centres and pixel edges, where no reader can take them for either."""


def trace(mask: AnyArray) -> list[FloatArray]:
    """The outlines of a mask [I, J]: polygons [n, 2] of corners (i, j), the first not repeated at the end.

    Each polygon encloses one part of the mask (parts that touch only at a corner are two). A hole is joined to the
    outline around it by a bridge of no width, walked there and back (the "keyhole" of DICOM PS3.3 C.8.8.6.3), so that
    polygons never lie in each other's inside and readers that unite them agree with readers that apply even-odd.
    """
    columns, rows = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(columns):
        return []
    box = mask[columns[0] : columns[-1] + 1, rows[0] : rows[-1] + 1].astype(bool)
    corner = np.array([columns[0], rows[0]])
    return [polygon + corner for polygon in _trace_box(box)]


def _trace_box(mask: npt.NDArray[np.bool_]) -> list[FloatArray]:
    polygons: list[FloatArray] = []
    # Of each pixel edge along j, the polygon that it belongs to.
    upright = np.zeros((mask.shape[0] + 1, mask.shape[1]), dtype=np.int64)
    for loop, is_hole in _loops(np.pad(mask, 1)):
        number = len(polygons)
        if is_hole:
            bridge = _bridge(mask, loop)
            number = int(upright[int(bridge[0, 0] + 0.5), int(bridge[0, 1] + 0.5)])
            polygons[number] = _join(polygons[number], loop, bridge)
        else:
            polygons.append(loop)
        ends = np.sort(loop[:, 1].reshape(-1, 2) + 0.5, axis=1).astype(int)
        for line, (first, last) in zip((loop[::2, 0] + 0.5).astype(int).tolist(), ends.tolist(), strict=True):
            upright[line, first:last] = number
    return polygons


def fill(polygons: Sequence[FloatArray], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The pixels [I, J] whose centres lie inside the polygons [n, 2] by the even-odd rule over all of them."""
    if not polygons:
        return np.zeros(shape, dtype=bool)
    start = np.concatenate(polygons)
    stop = np.concatenate([np.roll(polygon, -1, axis=0) for polygon in polygons])
    first = np.clip(np.ceil(np.minimum(start[:, 1], stop[:, 1])), 0, shape[1]).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(start[:, 1], stop[:, 1])), 0, shape[1]).astype(np.int64)
    crossings = last - first
    edge = np.repeat(np.arange(len(start)), crossings)
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(crossings) - crossings, crossings) + first[edge]
    slope = (stop[edge, 0] - start[edge, 0]) / (stop[edge, 1] - start[edge, 1])
    crossed = start[edge, 0] + (rows - start[edge, 1]) * slope
    columns = np.clip(np.ceil(crossed), 0, shape[0]).astype(np.int64)
    toggled = np.bincount(columns * shape[1] + rows, minlength=(shape[0] + 1) * shape[1]) & 1
    parity = np.bitwise_xor.accumulate(toggled.astype(bool).reshape(-1, shape[1])[:-1], axis=0)
    return np.asarray(parity, dtype=bool)


def _loops(padded: npt.NDArray[np.bool_]) -> Iterator[tuple[FloatArray, bool]]:
    """Every closed walk along the edges of a mask with one empty pixel around it, and whether it is around a hole.

    A walk turns at corners. On a line of the pixel lattice its corners pair up, first with second, third with fourth;
    so each corner has one partner along i and one along j, and a walk goes to them in turn. Walks start at their
    corner of least (i, j) and go along j first.
    """
    corners, below_right, turns_up = _corners(padded)
    # Sorting keeps the order of two corners at one place, and the first of them is the one of lesser i.
    across = _partners(np.lexsort((corners[:, 0], corners[:, 1])))
    along = _partners(np.lexsort((~turns_up, corners[:, 1], corners[:, 0])))
    seen = bytearray(len(corners))
    points = corners.astype(np.float64) - 0.5
    for begin in range(len(corners)):
        if seen[begin]:
            continue
        walk, here = [], begin
        while not seen[here]:
            other = along[here]
            seen[here] = seen[other] = 1
            walk += [here, other]
            here = across[other]
        yield points[walk], not below_right[begin]


def _corners(
    padded: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Corners [n, 2] by rising (i, j), whether the pixel after each is set, whether the edge along j goes to lesser j.

    Where two pixels of a mask touch at a corner there are two corners, first that of the pixel of lesser i.
    """
    before, above = padded[:-1, :-1], padded[1:, :-1]
    below, after = padded[:-1, 1:], padded[1:, 1:]
    is_diagonal = (before == after) & (above == below) & (before != above)
    count = (before ^ above ^ below ^ after) + 2 * is_diagonal
    at = np.flatnonzero(count)
    corners = np.repeat(at, count.ravel()[at])
    turns_up = (before != above).ravel()[corners]
    first, second = np.zeros_like(turns_up), np.zeros_like(turns_up)
    first[:-1] = second[1:] = corners[1:] == corners[:-1]
    is_falling = before.ravel()[corners]  # the pixels that touch are (i-1, j-1) and (i, j)
    turns_up = np.where(first, is_falling, np.where(second, ~is_falling, turns_up))
    places = np.stack(np.unravel_index(corners, count.shape), axis=1)
    return places, after.ravel()[corners], turns_up


def _partners(order: npt.NDArray[np.int64]) -> list[int]:
    partners = np.empty_like(order)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    return partners.tolist()


def _bridge(mask: npt.NDArray[np.bool_], hole: FloatArray) -> FloatArray:
    """From a hole's leftmost edge to the nearest edge at lesser i: the points [2, 2], the far one first."""
    column, row = (hole[0] + 0.5).astype(int)
    gaps = np.flatnonzero(~mask[:column, row])
    far = gaps[-1] + 0.5 if len(gaps) else -0.5
    height = row + _BRIDGE_OFFSET
    return np.array([[far, height], [hole[0, 0], height]])


def _join(polygon: FloatArray, hole: FloatArray, bridge: FloatArray) -> FloatArray:
    """The polygon with a walk over the bridge, around the hole the other way round, and back."""
    following = np.roll(polygon, -1, axis=0)
    is_upright = (polygon[:, 0] == bridge[0, 0]) & (following[:, 0] == bridge[0, 0])
    is_through = (polygon[:, 1] - bridge[0, 1]) * (following[:, 1] - bridge[0, 1]) < 0
    place = int(np.flatnonzero(is_upright & is_through)[0]) + 1
    around = np.concatenate([bridge, hole[:1], hole[:0:-1], bridge[::-1]])
    return np.insert(polygon, place, around, axis=0)
