"""A montage of a label map over its scan, to judge a result at a glance.

Drawn in the radiological convention (the patient's right is on the left of the picture), whatever the orientation of
the arrays: axes are permuted and flipped towards RAS, never resampled, and drawn to scale in mm. On oblique or sheared
grids the planes are those of the array, named after the nearest direction of the body.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from volseg.errors import GeometryError
from volseg.io.atomic import replacing
from volseg.labels import Label, default_colour
from volseg.outputs import check_preview_name
from volseg.report.volumes import sides_of
from volseg.volume import AnyArray, LabelMap, Volume

SLICES = 6
MARGIN_MM = 12.0
FILL_OPACITY = 0.35
_LEGEND_LETTERS = 120
"""About what fits into one row of the legend."""
_WINDOW_SAMPLES = 2_000_000
"""At most about this many voxels are looked at to choose the grey window."""


@dataclass(frozen=True)
class Plane:
    """How a plane of an RAS array [I, J, K] is laid on the page, in the radiological convention."""

    name: str
    normal: int
    across: int
    up: int
    mirrored: bool
    """Whether the across axis runs to the left of the page: right on the left, front on the left."""
    letters: tuple[str, str, str, str]
    """What lies at the left, right, bottom and top edge."""


PLANES = (
    Plane("axial", normal=2, across=0, up=1, mirrored=True, letters=("R", "L", "P", "A")),
    Plane("coronal", normal=1, across=0, up=2, mirrored=True, letters=("R", "L", "I", "S")),
    Plane("sagittal", normal=0, across=1, up=2, mirrored=True, letters=("A", "P", "I", "S")),
)


@dataclass(frozen=True)
class _Scene:
    """What is drawn, turned towards RAS: scan and labels [I, J, K] (views), grey window, spacing in mm, meanings."""

    scan: AnyArray
    labels: AnyArray
    window: tuple[float, float]
    spacing_mm: tuple[float, float, float]
    table: tuple[Label, ...]

    def box(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """First and last voxel of the labels; of the whole array where there is none."""
        if not self.labels.any():
            return np.zeros(3, np.int64), np.array(self.labels.shape) - 1
        spans = [np.flatnonzero(self.labels.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        return np.array([span[0] for span in spans]), np.array([span[-1] for span in spans])

    def zoomed(self) -> "_Scene":
        """The labels' box with a margin of MARGIN_MM."""
        first, last = self.box()
        margin = np.ceil(MARGIN_MM / np.array(self.spacing_mm)).astype(int)
        start, stop = np.maximum(first - margin, 0), np.minimum(last + margin + 1, self.labels.shape)
        slices = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
        return replace(self, scan=self.scan[slices], labels=self.labels[slices])

    def best_plane(self) -> Plane:
        """The plane across the longest direction, unless its pages are strips (a thin stack of slices)."""
        size_mm = np.array(self.labels.shape) * self.spacing_mm

        def rank(plane: Plane) -> tuple[bool, float]:
            sides_mm = size_mm[[plane.across, plane.up]]
            return bool(sides_mm.min() > sides_mm.max() / 3), float(size_mm[plane.normal])

        return max(PLANES, key=rank)


def draw_preview(volume: Volume, label_map: LabelMap, path: Path | str) -> None:
    """Draw labels over the first channel of their scan into a PNG.

    Above: three planes where the labels are largest, whole field of view; labels named "Right ..." and "Left ..." have a
    sagittal one each. Below: slices spread over the labels along
    their longest direction, zoomed. Any orientation and spacing; both on one grid.

    Raises:
        GeometryError: scan and label map are not on the same grid.
        OutputError: the picture cannot be written, or is not named .png.
    """
    path = Path(path)
    check_preview_name(path)
    if not volume.grid.is_same(label_map.grid):
        raise GeometryError(
            f"{volume.origin}: scan {volume.grid.shape} and label map {label_map.grid.shape} are not on the same grid "
            f"(corners differ by {volume.grid.distance_mm(label_map.grid):.3g} mm); resample one onto the other first."
        )
    figure = _draw(_scene(volume, label_map), _legend(label_map), _title(volume))
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", facecolor="black")


def _title(volume: Volume) -> str:
    """The file's name; of DICOM the modality only, as folders are often named after the patient."""
    origin = volume.origin
    if origin.dicom is not None:
        return f"{origin.modality or 'DICOM'} series"
    return str(origin) if origin.path is None else origin.path.name


def _scene(volume: Volume, label_map: LabelMap) -> _Scene:
    order, flips = volume.grid.axes_towards("RAS")
    flip_axes = tuple(axis for axis in range(3) if flips[axis])
    scan, labels = (
        np.flip(array.transpose(order), flip_axes) for array in (volume.array[0], label_map.array)
    )
    return _Scene(scan, labels, _window(scan), volume.grid.reoriented("RAS").spacing_mm, _meanings(label_map))


def _window(scan: AnyArray) -> tuple[float, float]:
    """Grey window from the 1st and 99.5th percentile of what is not the background value (the minimum)."""
    step = max(1, round((scan.size / _WINDOW_SAMPLES) ** (1 / 3)))
    sample = scan[::step, ::step, ::step].astype(np.float32).ravel()
    inside = sample[sample > sample.min()]
    low, high = np.percentile(inside if inside.size else sample, (1, 99.5))
    return float(low), float(max(high, low + 1e-6))


def _meanings(label_map: LabelMap) -> tuple[Label, ...]:
    """The labels of the table, and a plain name for values the table does not know."""
    known = set(label_map.labels.values)
    values = [int(value) for value in np.unique(label_map.array) if value > 0]
    unknown = [
        Label(value, f"label {value}", default_colour(value - 1)) for value in values if value not in known
    ]
    return (*label_map.labels, *unknown)


def _legend(label_map: LabelMap) -> list[Patch]:
    voxel_ml = label_map.grid.voxel_volume_mm3 / 1000
    patches = []
    for label in _meanings(label_map):
        volume_ml = np.count_nonzero(label_map.array == label.value) * voxel_ml
        patches.append(Patch(color=_rgb(label), label=f"{label.name}: {volume_ml:.2f} ml"))
    return patches


def _draw(scene: _Scene, legend: list[Patch], title: str) -> Figure:
    figure = Figure(figsize=(12, 7.2), dpi=110, facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    halves = figure.add_gridspec(2, 1, height_ratios=(1.55, 1))
    above, below = figure.add_subfigure(halves[0]), figure.add_subfigure(halves[1])
    views = _views(scene)
    for axes, (name, plane, index) in zip(above.subplots(1, len(views)), views, strict=True):
        _draw_slice(axes, scene, plane, index)
        axes.set_title(name, color="white", fontsize=10)
    zoomed = scene.zoomed()
    plane = zoomed.best_plane()
    indices = _spread(zoomed.labels, plane.normal)
    for axes, index in zip(np.atleast_1d(below.subplots(1, len(indices))), indices, strict=True):
        _draw_slice(axes, zoomed, plane, index)
    below.suptitle(
        f"{plane.name} slices through the labels" if scene.labels.any() else "no label was found",
        color="white",
        fontsize=10,
    )
    figure.suptitle(
        f"{title}\nradiological view: the patient's right is on the left", color="white", fontsize=10
    )
    if legend:
        columns = max(
            1, min(len(legend), _LEGEND_LETTERS // max(len(str(patch.get_label())) for patch in legend))
        )
        figure.legend(
            handles=legend, loc="outside lower center", ncols=columns, labelcolor="white", frameon=False
        )
    return figure


def _views(scene: _Scene) -> list[tuple[str, Plane, int]]:
    """Name, plane and slice of the views above: the three planes, the sagittal one for each side the labels have."""
    first, last = scene.box()
    middle = (first + last) // 2
    views = [
        (plane.name, plane, _densest(scene.labels, plane.normal, int(middle[plane.normal])))
        for plane in PLANES
    ]
    sagittal = PLANES[-1]
    sides = [np.isin(scene.labels, [label.value for label in side]) for side in sides_of(scene.table)]
    if not all(side.any() for side in sides):
        return views
    return views[:-1] + [
        (f"{sagittal.name}, {name}", sagittal, _densest(side, sagittal.normal, int(middle[sagittal.normal])))
        for name, side in zip(("right", "left"), sides, strict=True)
    ]


def _spread(labels: AnyArray, axis: int) -> list[int]:
    """Slices across an axis with equal shares of the labelled voxels between them; evenly spaced if there are none."""
    counts = np.count_nonzero(labels, axis=tuple({0, 1, 2} - {axis}))
    share = np.cumsum(counts if counts.any() else np.ones_like(counts), dtype=np.float64)
    wanted = (np.arange(SLICES) + 0.5) / SLICES * share[-1]
    return [int(index) for index in np.unique(np.searchsorted(share, wanted))]


def _densest(labels: AnyArray, axis: int, otherwise: int) -> int:
    """The slice across an axis with most labelled voxels, nearest to the middle of the labels' box."""
    counts = np.count_nonzero(labels, axis=tuple({0, 1, 2} - {axis}))
    if not counts.any():
        return otherwise
    best = np.flatnonzero(counts == counts.max())
    return int(best[np.argmin(np.abs(best - otherwise))])


def _draw_slice(axes: Axes, scene: _Scene, plane: Plane, index: int) -> None:
    scan, labels = (_page(array, plane, index) for array in (scene.scan, scene.labels))
    rows, columns = scan.shape
    width_mm, height_mm = columns * scene.spacing_mm[plane.across], rows * scene.spacing_mm[plane.up]
    extent = (0.0, width_mm, 0.0, height_mm)
    low, high = scene.window
    axes.imshow(
        scan, cmap="gray", vmin=low, vmax=high, origin="lower", extent=extent, interpolation="nearest"
    )
    overlay = np.zeros((rows, columns, 4), np.float32)
    for label in scene.table:
        overlay[labels == label.value] = (*_rgb(label), FILL_OPACITY)
    axes.imshow(overlay, origin="lower", extent=extent, interpolation="nearest")
    across_mm = (np.arange(columns) + 0.5) * scene.spacing_mm[plane.across]
    up_mm = (np.arange(rows) + 0.5) * scene.spacing_mm[plane.up]
    for label in scene.table:
        mask = labels == label.value
        if mask.any() and not mask.all() and min(rows, columns) >= 2:
            axes.contour(across_mm, up_mm, mask, levels=[0.5], colors=[_rgb(label)], linewidths=1.2)
    axes.set_axis_off()
    places = ((0.01, 0.5), (0.99, 0.5), (0.5, 0.01), (0.5, 0.99))
    sides = (("left", "center"), ("right", "center"), ("center", "bottom"), ("center", "top"))
    for letter, (x, y), (horizontal, vertical) in zip(plane.letters, places, sides, strict=True):
        axes.text(
            x, y, letter, transform=axes.transAxes, color="yellow", fontsize=8, ha=horizontal, va=vertical
        )


def _page(array: AnyArray, plane: Plane, index: int) -> AnyArray:
    """A slice [up, across] as it lies on the page, row 0 at the bottom."""
    page = np.take(array, index, axis=plane.normal)
    if plane.across < plane.up:
        page = page.T
    return page[:, ::-1] if plane.mirrored else page


def _rgb(label: Label) -> tuple[float, float, float]:
    red, green, blue = label.colour
    return red / 255, green / 255, blue / 255
