"""A located region: cut out of the scan for the model, grown where a label touches its border, pasted back.

The model sees the region upright and unmirrored, as an ordinary volume at the origin; `in_scan` says where any grid of
that small world lies in the scan's world. That is all it takes to come back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from volseg.geometry import Grid, Shape
from volseg.infer.stitch import Logits
from volseg.locate import Region
from volseg.resample import resample_volume
from volseg.volume import AnyArray, Volume

_MARGIN_VOXELS = 3
_BLUR = 0.425
"""Standard deviation of a Gaussian over its full width at half maximum: a voxel is as wide as it is sharp."""

Sides = tuple[tuple[bool, bool], tuple[bool, bool], tuple[bool, bool]]
"""For each axis: the first and the last face."""


@dataclass(frozen=True, eq=False)
class FoundRegion:
    """What the network said of a region."""

    logits: Logits
    grid: Grid
    """Of the logits, in the scan's world."""
    touched: Sides
    """The faces of the region that a label touches."""


def cut_region(volume: Volume, region: Region) -> Volume | None:
    """The scan on a region's voxels [C, I, J, K] float32, in a world of its own; None where the region misses the scan.

    A scan that is finer than the region is smoothed first to the region's resolution. Outlying intensities are clipped at the
    region's fences, where it has them.
    """
    box = box_in(volume.grid, region.grid, _MARGIN_VOXELS)
    if box is None:
        return None
    start, stop = box
    part = volume.array[(slice(None), *(slice(a, b) for a, b in zip(start, stop, strict=True)))]
    wanted = float(np.mean(region.grid.spacing_mm))
    sigmas = [_BLUR * np.sqrt(max(0.0, (wanted / step) ** 2 - 1)) for step in volume.grid.spacing_mm]
    part = part.astype(np.float32)
    if max(sigmas) > 0:
        part = ndimage.gaussian_filter(part, [0, *sigmas], mode="nearest")
    cut = resample_volume(Volume(part, volume.grid.box(start, stop), volume.origin), region.grid)
    array = cut.array if region.fences is None else _fenced(cut.array, region.fences)
    return cut.with_array(array, Grid.from_spacing(region.grid.shape, region.grid.spacing_mm))


def _fenced(array: AnyArray, fences: float) -> AnyArray:
    """Each channel [C, I, J, K] clipped some interquartile ranges beyond its quartiles; as it is where these are one."""
    low, high = np.percentile(array, [25, 75], axis=(1, 2, 3), keepdims=True)
    reach = np.where(high > low, fences * (high - low), np.inf)
    return np.clip(array, low - reach, high + reach).astype(array.dtype)


def in_scan(grid: Grid, region: Region, upright: Grid) -> Grid:
    """Where a grid of the region's own world (that of `upright`) lies in the scan's world."""
    return Grid(grid.shape, region.grid.affine @ np.linalg.inv(upright.affine) @ grid.affine)


def box_in(scan: Grid, grid: Grid, margin_voxels: int = 0) -> tuple[Shape, Shape] | None:
    """Start and stop of the scan's voxels that hold a grid, cut at the scan's border; None where they do not meet."""
    corners = scan.world_to_index(grid.corners())
    start = np.maximum(np.floor(corners.min(axis=0)).astype(int) - margin_voxels, 0).tolist()
    stop = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 1 + margin_voxels, scan.shape).tolist()
    if any(a >= b for a, b in zip(start, stop, strict=True)):
        return None
    return (start[0], start[1], start[2]), (stop[0], stop[1], stop[2])


def touched_sides(labels: AnyArray) -> Sides:
    """The faces of a label map [I, J, K] with a label on them."""
    planes = [(labels.take(0, axis).any(), labels.take(-1, axis).any()) for axis in range(3)]
    first, second, third = ((bool(a), bool(b)) for a, b in planes)
    return first, second, third


def volume_doubts(where: str, plausible_ml: tuple[float, float] | None, found_ml: float) -> list[str]:
    """What a radiologist would not believe."""
    if plausible_ml is None or plausible_ml[0] <= found_ml <= plausible_ml[1]:
        return []
    low, high = plausible_ml
    return [
        f"the labels in {where} measure {found_ml:.1f} ml, usual are {low:g} to {high:g} ml: look at them"
    ]


def grown(region: Region, sides: Sides, by_mm: float) -> Region:
    """The region made larger by some millimetres on some of its sides."""
    voxels = [max(1, round(by_mm / step)) for step in region.grid.spacing_mm]
    start = [-count * before for count, (before, _) in zip(voxels, sides, strict=True)]
    stop = [
        extent + count * after
        for extent, count, (_, after) in zip(region.grid.shape, voxels, sides, strict=True)
    ]
    grid = region.grid.box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
    names = [
        word
        for words, pair in zip(
            (("inner", "outer"), ("back", "front"), ("lower", "upper")), sides, strict=True
        )
        for word, touched in zip(words, pair, strict=True)
        if touched
    ]
    note = f"grown by {by_mm:g} mm at its {', '.join(names)} side, which a label touched"
    return replace(region, grid=grid, notes=(*region.notes, note))


@dataclass(frozen=True, eq=False)
class Canvas:
    """The scan's label map while regions are pasted; where two overlap, the more certain one wins."""

    labels: AnyArray
    """[I, J, K] located labels."""
    certainty: npt.NDArray[np.float32]
    """[I, J, K] probability of any label in the region that won."""
    channels: Mapping[int, int]
    """Located label to channel of the probabilities."""
    probabilities: npt.NDArray[np.float32] | None
    """[1 + N, I, J, K] of the N located labels, background first, where they are wanted."""

    @classmethod
    def blank(cls, shape: Shape, values: Sequence[int], *, keep_probabilities: bool) -> "Canvas":
        """Background everywhere; `values` are the located labels, rising."""
        probabilities = None
        if keep_probabilities:
            probabilities = np.zeros((1 + len(values), *shape), dtype=np.float32)
            probabilities[0] = 1
        labels = np.zeros(shape, dtype=np.uint8 if max(values) < 256 else np.uint16)
        channels = {value: channel for channel, value in enumerate(values, start=1)}
        return cls(labels, np.zeros(shape, dtype=np.float32), channels, probabilities)

    def paste(
        self,
        start: Shape,
        labels: AnyArray,
        probabilities: npt.NDArray[np.float32],
        located: Mapping[int, int],
    ) -> None:
        """Add a region.

        Args:
            start: the scan's voxel where the region's box begins.
            labels: labels of the model [i, j, k] in the box.
            probabilities: [1 + n, i, j, k] of the model's n labels there, background first.
            located: the located label of each of the model's, by rising value.
        """
        box = tuple(slice(a, a + extent) for a, extent in zip(start, labels.shape, strict=True))
        any_label = 1 - probabilities[0]
        wins = any_label > self.certainty[box]
        self.certainty[box][wins] = any_label[wins]
        self.labels[box][wins] = 0
        for value, new in located.items():
            self.labels[box][wins & (labels == value)] = new
        if self.probabilities is None:
            return
        part = self.probabilities[(slice(None), *box)]
        part[:, wins] = 0
        part[0, wins] = probabilities[0][wins]
        for channel, new in enumerate(located.values(), start=1):
            part[self.channels[new], wins] += probabilities[channel][wins]
