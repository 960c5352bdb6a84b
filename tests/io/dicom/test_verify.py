"""What was written is read back, and a writer that errs leaves no file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.io.dicom.labelled import LABELS, make_source
from volseg.errors import OutputError
from volseg.geometry import Grid
from volseg.io.dicom import rtstruct, seg
from volseg.io.dicom.seg_file import Piece
from volseg.io.dicom.source import load_source
from volseg.io.dicom.verify import check_written, plane_measures
from volseg.volume import LabelMap, Volume

SQUARE = (6, 6, 6)
Write = Callable[..., None]


@pytest.fixture
def source(folder: Path) -> Volume:
    """A series as many voxels wide as high and deep, so that swapped axes go unnoticed unless they are looked for."""
    return make_source(folder / "series", shape=SQUARE, tilt_degrees=10)


@pytest.fixture
def label_map(source: Volume) -> LabelMap:
    """Labels that no flip or exchange of axes leaves as they are."""
    array = np.zeros(SQUARE, np.uint8)
    array[1, 2, 3] = array[2, 2, 3] = array[2, 3, 3] = 1
    array[4, 1, 2:5] = 4
    return LabelMap(array, source.grid, LABELS)


def shifted_plane(grid: Grid, step: tuple[float, float, float]) -> Grid:
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ step
    return Grid(grid.shape, affine)


PIXEL_MISTAKES = {
    "one column on": lambda stack: np.roll(stack, 1, axis=2),
    "one row on": lambda stack: np.roll(stack, 1, axis=1),
    "one slice on": lambda stack: np.roll(stack, 1, axis=0),
    "rows for columns": lambda stack: stack.transpose(0, 2, 1),
    "slices for rows": lambda stack: stack.transpose(1, 0, 2),
    "left for right": lambda stack: stack[:, :, ::-1],
    "head for feet": lambda stack: stack[::-1],
    "another label": lambda stack: np.where(stack == 1, stack.max(), stack),
    "one voxel missing": lambda stack: stack * (np.cumsum(stack > 0).reshape(stack.shape) != 2),
}


@pytest.mark.parametrize("encoding", ["binary", "labelmap"])
@pytest.mark.parametrize("mistake", PIXEL_MISTAKES.values(), ids=PIXEL_MISTAKES)
def test_a_seg_of_wrong_pixels_is_not_kept(
    folder: Path,
    source: Volume,
    label_map: LabelMap,
    monkeypatch: pytest.MonkeyPatch,
    mistake: Any,
    encoding: str,
):
    right = seg._stack
    monkeypatch.setattr(
        seg, "_stack", lambda *arguments: np.ascontiguousarray(mistake(right(*arguments))).astype("u1")
    )
    (folder / "seg.dcm").write_text("older")
    with pytest.raises(OutputError, match="reading it back"):
        seg.write_seg(label_map, folder / "seg.dcm", source=source, encoding=encoding)
    assert (folder / "seg.dcm").read_text() == "older"
    assert sorted(path.name for path in folder.iterdir()) == ["seg.dcm", "series"]


PLACE_MISTAKES = {
    "positions": lambda image: [str(float(value) + 0.7) for value in image.ImagePositionPatient],
    "spacing": lambda image: list(image.PixelSpacing)[::-1],
    "directions": lambda image: (
        list(image.ImageOrientationPatient[3:]) + list(image.ImageOrientationPatient[:3])
    ),
}
KEYWORDS = {
    "positions": "ImagePositionPatient",
    "spacing": "PixelSpacing",
    "directions": "ImageOrientationPatient",
}


@pytest.mark.parametrize("mistake", PLACE_MISTAKES)
def test_a_seg_in_a_wrong_place_is_not_kept(
    folder: Path, source: Volume, label_map: LabelMap, monkeypatch: pytest.MonkeyPatch, mistake: str
):
    right = seg._placeholders

    def wrong(*arguments: Any) -> Any:
        images = right(*arguments)
        for image in images:
            setattr(image, KEYWORDS[mistake], PLACE_MISTAKES[mistake](image))
        return images

    monkeypatch.setattr(seg, "_placeholders", wrong)
    with pytest.raises(OutputError, match=r"lies \d+\.\d{3} mm off the source's"):
        seg.write_seg(label_map, folder / "seg.dcm", source=source)
    assert not (folder / "seg.dcm").exists()


POINT_MISTAKES = {
    "one column on": lambda polygon: np.add(polygon, (1, 0)),
    "one row back": lambda polygon: np.subtract(polygon, (0, 1)),
    "half a pixel": lambda polygon: polygon + 0.5,
    "rows for columns": lambda polygon: polygon[:, ::-1],
    "left for right": lambda polygon: np.add(polygon * (-1, 1), (5, 0)),
    "a little larger": lambda polygon: polygon.mean(0) + (polygon - polygon.mean(0)) * 2.1,
}


@pytest.mark.parametrize("mistake", POINT_MISTAKES.values(), ids=POINT_MISTAKES)
def test_an_rtstruct_of_wrong_outlines_is_not_kept(
    folder: Path, source: Volume, label_map: LabelMap, monkeypatch: pytest.MonkeyPatch, mistake: Any
):
    right = rtstruct.trace
    monkeypatch.setattr(rtstruct, "trace", lambda mask: [mistake(polygon) for polygon in right(mask)])
    with pytest.raises(OutputError, match="reading it back"):
        rtstruct.write_rtstruct(label_map, folder / "rt.dcm", source=source)
    assert not (folder / "rt.dcm").exists()


def test_an_rtstruct_that_ignores_the_tilt_is_not_kept(
    folder: Path, source: Volume, label_map: LabelMap, monkeypatch: pytest.MonkeyPatch
):
    """The planes of a tilted gantry, shifted as if they were perpendicular to the table."""
    right = rtstruct._to_patient
    monkeypatch.setattr(
        rtstruct,
        "_to_patient",
        lambda polygon, plane: np.add(right(polygon, plane), (0, plane.affine[2, 3] * 0.18, 0)),
    )
    with pytest.raises(OutputError, match="reading it back"):
        rtstruct.write_rtstruct(label_map, folder / "rt.dcm", source=source)
    assert not (folder / "rt.dcm").exists()


@pytest.mark.parametrize("write", [seg.write_seg, rtstruct.write_rtstruct])
def test_a_file_with_wrong_names_is_not_kept(
    folder: Path, source: Volume, label_map: LabelMap, monkeypatch: pytest.MonkeyPatch, write: Write
):
    module = seg if write is seg.write_seg else rtstruct
    right, first = module.long_string, iter(["spleen"])
    monkeypatch.setattr(
        module, "long_string", lambda text: next(first, text) if text == "liver" else right(text)
    )
    with pytest.raises(OutputError, match="spleen"):
        write(label_map, folder / "result.dcm", source=source)
    assert not (folder / "result.dcm").exists()


def test_measures_are_those_of_the_label_map(folder: Path, source: Volume, label_map: LabelMap):
    planes = load_source(source, label_map, folder / "x").planes
    measures = plane_measures(label_map, planes)
    volumes = label_map.volumes_ml()
    for label in LABELS:
        voxels = np.argwhere(label_map.array == label.value)
        assert measures[label.value].voxels == len(voxels)
        assert measures[label.value].volume_ml == pytest.approx(volumes[label.name])
        if len(voxels):
            centroid = source.grid.index_to_world(voxels).mean(axis=0)
            np.testing.assert_allclose(measures[label.value].centroid_mm, centroid, atol=1e-9)
    assert np.isnan(measures[7].centroid_mm).all()


@pytest.fixture
def pieces(folder: Path, source: Volume, label_map: LabelMap) -> list[Piece]:
    """What a right file holds."""
    return [
        (value, plane.grid, label_map.array[:, :, plane.nearest] == value)
        for value in (1, 4)
        for plane in load_source(source, label_map, folder / "x").planes
        if (label_map.array[:, :, plane.nearest] == value).any()
    ]


def check(pieces: list[Piece], source: Volume, label_map: LabelMap) -> None:
    planes = load_source(source, replace(label_map, grid=source.grid), Path("x")).planes
    check_written(Path("x"), pieces, label_map=label_map, planes=planes)


def test_what_is_right_passes(pieces: list[Piece], source: Volume, label_map: LabelMap):
    check(pieces, source, label_map)


def test_a_centroid_that_is_off_by_more_than_a_hundredth_is_found(
    pieces: list[Piece], source: Volume, label_map: LabelMap
):
    moved = replace(label_map, grid=shifted_plane(source.grid, (0.02, 0, 0)))
    with pytest.raises(OutputError, match=r"liver has its centroid 0\.014 mm off"):
        check(pieces, source, moved)


def test_a_volume_that_is_off_by_more_than_a_thousandth_is_found(
    pieces: list[Piece], source: Volume, label_map: LabelMap
):
    affine = source.grid.affine.copy()
    affine[:3, :2] *= 1.0015
    with pytest.raises(OutputError, match=r"liver has 0\.0047 ml instead of 0\.0047 ml"):
        check(pieces, source, replace(label_map, grid=Grid(SQUARE, affine)))


def test_a_plane_that_is_missing_is_found(pieces: list[Piece], source: Volume, label_map: LabelMap):
    with pytest.raises(OutputError, match="lesion has 2 voxels instead of 3"):
        check(pieces[:-1], source, label_map)


def test_a_label_that_nobody_wrote_is_found(pieces: list[Piece], source: Volume, label_map: LabelMap):
    nothing = np.zeros(SQUARE[:2], bool)
    check([*pieces, (9, pieces[0][1], nothing)], source, label_map)
    with pytest.raises(OutputError, match="label 9"):
        check([*pieces, (9, pieces[0][1], ~nothing)], source, label_map)
