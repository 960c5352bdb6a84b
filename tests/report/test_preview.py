"""The preview picture: the same for every array orientation, to scale in mm, and the right way round."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from volseg.errors import GeometryError, OutputError
from volseg.geometry import Grid
from volseg.labels import LabelTable
from volseg.origin import Origin
from volseg.report.preview import draw_preview
from volseg.volume import LabelMap, Volume

SHAPE = (12, 14, 10)
SPACING_MM = (0.7, 0.9, 2.5)
RED = np.array([230, 75, 53]) / 255


def phantom(shape: tuple[int, int, int] = SHAPE) -> tuple[Volume, LabelMap]:
    """Bright noise, and a label in the corner at the patient's right, front and top."""
    grid = Grid.from_spacing(shape, SPACING_MM)
    scan = np.random.default_rng(0).uniform(100, 200, shape).astype(np.float32)
    labels = np.zeros(shape, np.uint8)
    labels[-4:-1, -5:-1, -3:] = 1
    return Volume(scan, grid, Origin(path=Path("scan.nii"))), LabelMap(
        labels, grid, LabelTable.from_names(["corner"])
    )


def reoriented(volume: Volume, label_map: LabelMap, codes: str) -> tuple[Volume, LabelMap]:
    order, flips = volume.grid.axes_towards(codes)
    axes = tuple(axis for axis in range(3) if flips[axis])
    scan, labels = (np.flip(array.transpose(order), axes) for array in (volume.array[0], label_map.array))
    grid = volume.grid.reoriented(codes)
    return volume.with_array(scan, grid), label_map.with_array(labels, grid)


def panel(picture: np.ndarray, column: int) -> np.ndarray:
    """One of the three upper panels, without titles and legend."""
    height, width = picture.shape[:2]
    return picture[
        int(0.085 * height) : int(0.58 * height), width * column // 3 : width * (column + 1) // 3, :3
    ]


def scan_box(part: np.ndarray) -> tuple[int, int, int, int]:
    """First and last row and column that are not black."""
    bright = part.max(axis=2) > 0.05
    rows, columns = np.flatnonzero(bright.mean(axis=1) > 0.2), np.flatnonzero(bright.mean(axis=0) > 0.2)
    return rows[0], rows[-1], columns[0], columns[-1]


def label_centre(part: np.ndarray) -> tuple[float, float]:
    """Where the label's outline lies in the scan, as fractions from the top and from the left."""
    top, bottom, left, right = scan_box(part)
    rows, columns = np.nonzero(np.abs(part - RED).max(axis=2) < 0.02)
    return (rows.mean() - top) / (bottom - top), (columns.mean() - left) / (right - left)


@pytest.mark.parametrize("codes", ["LPS", "PIR", "SAL"])
def test_picture_does_not_depend_on_the_order_of_the_axes(tmp_path: Path, codes: str):
    volume, label_map = phantom()
    draw_preview(volume, label_map, tmp_path / "ras.png")
    draw_preview(*reoriented(volume, label_map, codes), tmp_path / "turned.png")
    assert (tmp_path / "ras.png").read_bytes() == (tmp_path / "turned.png").read_bytes()


def test_picture_is_radiological_and_to_scale(tmp_path: Path):
    volume, label_map = phantom()
    draw_preview(volume, label_map, tmp_path / "a.png")
    picture = imread(tmp_path / "a.png")
    size_mm = np.array(SHAPE) * SPACING_MM
    for column, (across, up) in enumerate([(0, 1), (0, 2), (1, 2)]):
        part = panel(picture, column)
        top, bottom, left, right = scan_box(part)
        assert (right - left) / (bottom - top) == pytest.approx(size_mm[across] / size_mm[up], rel=0.03)
        from_top, from_left = label_centre(part)
        assert from_top < 0.4, "front, or head, is at the top"
        assert from_left < 0.4, "the patient's right, or front, is on the left"


def test_oblique_left_handed_and_sheared_grids_are_drawn(tmp_path: Path):
    volume, label_map = phantom()
    affine = np.array([[-0.6, 0.2, 0.3, 80], [0.1, 0.9, -0.8, -40], [0.2, 0.1, 2.4, 11], [0, 0, 0, 1.0]])
    grid = Grid(SHAPE, affine)
    draw_preview(
        volume.with_array(volume.array, grid), label_map.with_array(label_map.array, grid), tmp_path / "a.png"
    )
    assert imread(tmp_path / "a.png").std() > 0.05


@pytest.mark.parametrize("shape", [(1, 14, 10), (12, 1, 10), (12, 14, 1), (1, 1, 1)])
def test_thin_volumes(tmp_path: Path, shape: tuple[int, int, int]):
    grid = Grid.from_spacing(shape, SPACING_MM)
    scan = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    labels = (scan > scan.max() // 2).astype(np.uint8)
    draw_preview(Volume(scan, grid), LabelMap(labels, grid), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_no_label_and_a_label_that_fills_everything(tmp_path: Path):
    volume, label_map = phantom()
    for value in (0, 1):
        flat = label_map.with_array(np.full(SHAPE, value, np.uint8))
        draw_preview(volume, flat, tmp_path / f"{value}.png")
        assert (tmp_path / f"{value}.png").exists()


def test_a_value_the_table_does_not_know_is_drawn_too(tmp_path: Path):
    volume, label_map = phantom()
    draw_preview(volume, label_map, tmp_path / "one.png")
    draw_preview(volume, label_map.with_array(label_map.array * 7), tmp_path / "seven.png")
    assert not np.array_equal(imread(tmp_path / "one.png"), imread(tmp_path / "seven.png"))
    assert np.abs(imread(tmp_path / "seven.png") - imread(tmp_path / "one.png")).max() > 0.2


def test_different_grids_are_refused(tmp_path: Path):
    volume, label_map = phantom()
    shifted = Grid(SHAPE, volume.grid.affine + np.array([[0, 0, 0, 5], [0] * 4, [0] * 4, [0] * 4]))
    with pytest.raises(GeometryError, match=r"not on the same grid.*5 mm"):
        draw_preview(volume, label_map.with_array(label_map.array, shifted), tmp_path / "a.png")


def test_bad_names_and_folders_leave_nothing(tmp_path: Path):
    volume, label_map = phantom()
    with pytest.raises(OutputError, match=r"\.png"):
        draw_preview(volume, label_map, tmp_path / "a.jpg")
    with pytest.raises(OutputError, match="missing"):
        draw_preview(volume, label_map, tmp_path / "missing" / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_is_replaced_whole(tmp_path: Path):
    volume, label_map = phantom()
    (tmp_path / "a.png").write_bytes(b"old")
    draw_preview(volume, label_map, tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def sided(columns: slice, *names: str) -> tuple[Volume, LabelMap]:
    """Labels 1 and 2 at the right and the left of the body, each in a sagittal plane of its own."""
    volume = phantom()[0]
    labels = np.zeros(SHAPE, np.uint8)
    labels[9:11, 2:12, 2:8] = 1
    labels[2:4, columns, 2:8] = 2
    return volume, LabelMap(labels, volume.grid, LabelTable.from_names(names))


def test_labels_with_sides_have_a_sagittal_view_for_each(tmp_path: Path):
    whole, part = (
        slice(2, 12),
        slice(2, 6),
    )  # the right plane holds more labels, so it alone is shown without sides
    for name, columns in (("whole", whole), ("part", part)):
        draw_preview(*sided(columns, "Right body", "Left body"), tmp_path / f"{name}.png")
    pictures = [imread(tmp_path / f"{name}.png") for name in ("whole", "part")]
    width = pictures[0].shape[1]
    changed = np.abs(pictures[0] - pictures[1]).max(axis=2)[70:450] > 0.2
    assert changed[:, 3 * width // 4 :].any(), "the last view shows the left side"
    assert not changed[:, width // 2 : 3 * width // 4].any(), "the third shows the right side"


def test_a_legend_of_long_names_fits_the_page(tmp_path: Path):
    names = ["Right anterior hippocampus", "Right posterior hippocampus", "Left anterior hippocampus"]
    volume, label_map = phantom()
    table = LabelTable.from_names([*names, "Left posterior hippocampus"])
    draw_preview(volume, LabelMap(label_map.array, label_map.grid, table), tmp_path / "a.png")
    picture = imread(tmp_path / "a.png")[:, :, :3]
    assert picture[680:, :3].max() == 0, "nothing is cut off at the left edge"
    assert picture[680:, -3:].max() == 0, "or at the right one"
