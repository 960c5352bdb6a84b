"""RTSTRUCT: contours that enclose exactly the voxels of their labels, whatever the planes are like."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from tests.dicom_enhanced import Frames, write_enhanced
from tests.dicom_files import SECRETS, SeriesSpec, write_series
from tests.grids import oblique_grid
from tests.io.dicom.labelled import (
    AWKWARD,
    IRREGULAR_MM,
    LABELS,
    SHAPE,
    make_source,
    random_labels,
    volume_of,
)
from volseg.errors import FileFormatError, GeometryError, InputError, IntensityError, OutputError
from volseg.io.dicom.rtstruct import read_rtstruct, write_rtstruct
from volseg.volume import LabelMap, Volume


def contours_of(path: Path) -> dict[int, list[Dataset]]:
    dataset = pydicom.dcmread(path)
    return {
        int(item.ReferencedROINumber): list(item.get("ContourSequence", []))
        for item in dataset.ROIContourSequence
    }


def points_of(contour: Dataset) -> np.ndarray:
    return np.array(contour.ContourData, dtype=float).reshape(-1, 3)


@pytest.mark.parametrize("changes", AWKWARD.values(), ids=AWKWARD)
def test_labels_come_back_where_they_were(folder: Path, changes: dict[str, Any]):
    source = make_source(folder / "series", **changes)
    label_map = random_labels(source)
    write_rtstruct(label_map, folder / "rt.dcm", source=source)
    found = read_rtstruct(folder / "rt.dcm", source.grid)
    np.testing.assert_array_equal(found.array, label_map.array)
    assert found.labels == LABELS


@settings(max_examples=15, deadline=None)
@given(
    changes=st.sampled_from(list(AWKWARD.values())),
    voxel=st.tuples(*(st.integers(0, extent - 1) for extent in SHAPE)),
)
def test_a_voxel_is_a_square_around_its_point_in_the_patient(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any], voxel: tuple[int, int, int]
):
    folder = tmp_path_factory.mktemp("rt")
    source = make_source(folder / "series", **changes)
    array = np.zeros(SHAPE, np.uint8)
    array[voxel] = 4
    write_rtstruct(LabelMap(array, source.grid, LABELS), folder / "rt.dcm", source=source)
    contours = contours_of(folder / "rt.dcm")
    assert (contours[1], contours[7]) == ([], [])
    (contour,) = contours[4]
    points = points_of(contour)
    dicom = source.origin.dicom
    assert dicom
    image = pydicom.dcmread(dicom.files[voxel[2]].path)
    assert contour.ContourImageSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID
    # DICOM PS3.3 equation C.7.6.2.1-1
    directions = np.array(image.ImageOrientationPatient, dtype=float).reshape(2, 3)
    offset = voxel[0] * 0.7 * directions[0] + voxel[1] * 0.9 * directions[1]
    centre = np.array(image.ImagePositionPatient, dtype=float) + offset
    np.testing.assert_allclose(points.mean(axis=0), centre, atol=2e-5)
    np.testing.assert_allclose(
        np.sort(np.linalg.norm(np.diff(points, axis=0), axis=1)), np.sort([0.9, 0.7, 0.9]), atol=3e-5
    )


def test_irregular_planes_have_their_contours_at_their_own_positions(folder: Path):
    source = make_source(folder / "series", offsets_mm=IRREGULAR_MM, orientation="sagittal")
    write_rtstruct(random_labels(source), folder / "rt.dcm", source=source)
    dicom = source.origin.dicom
    assert dicom
    images = {image.SOPInstanceUID: image for image in (pydicom.dcmread(file.path) for file in dicom.files)}
    seen = set()
    for contour in contours_of(folder / "rt.dcm")[1]:
        uid = contour.ContourImageSequence[0].ReferencedSOPInstanceUID
        along_normal = points_of(contour)[:, 0]
        np.testing.assert_allclose(along_normal, float(images[uid].ImagePositionPatient[0]), atol=1e-5)
        seen.add(uid)
    assert len(seen) == len(IRREGULAR_MM)
    with pytest.raises(GeometryError, match="off the nearest slice"):
        read_rtstruct(folder / "rt.dcm", source.grid)


def test_frames_of_a_multi_frame_source_are_referred_to_by_number(folder: Path):
    spec = SeriesSpec(shape=SHAPE, tilt_degrees=12)
    source = volume_of(write_enhanced(folder / "series.dcm", spec, Frames(shared=("measures",))).files)
    label_map = random_labels(source)
    write_rtstruct(label_map, folder / "rt.dcm", source=source)
    np.testing.assert_array_equal(read_rtstruct(folder / "rt.dcm", spec.grid).array, label_map.array)
    enhanced = pydicom.dcmread(folder / "series.dcm")
    contour = contours_of(folder / "rt.dcm")[1][0]
    frame = contour.ContourImageSequence[0].ReferencedFrameNumber
    plane = enhanced.PerFrameFunctionalGroupsSequence[frame - 1].PlanePositionSequence[0]
    assert abs(points_of(contour)[0] - np.array(plane.ImagePositionPatient, float)).max() < 10


def test_holes_are_cut_by_bridges_so_that_one_contour_encloses_a_ring(folder: Path):
    source = make_source(folder / "series", shape=(9, 10, 3))
    array = np.zeros((9, 10, 3), np.uint8)
    array[1:8, 1:9, 1] = 1
    array[3:6, 3:7, 1] = 0
    array[4, 5, 1] = 1
    write_rtstruct(LabelMap(array, source.grid, LABELS), folder / "rt.dcm", source=source)
    assert len(contours_of(folder / "rt.dcm")[1]) == 2
    np.testing.assert_array_equal(read_rtstruct(folder / "rt.dcm", source.grid).array, array)


def test_separate_inner_contours_of_others_are_holes(folder: Path):
    """Outer and inner contour as two polygons, the way most programs write them."""
    source = make_source(folder / "series", shape=(9, 10, 3))
    array = np.zeros((9, 10, 3), np.uint8)
    array[1:8, 1:9, 1] = 1
    array[3:6, 3:7, 1] = 4
    write_rtstruct(LabelMap(array, source.grid, LABELS), folder / "rt.dcm", source=source)
    dataset = pydicom.dcmread(folder / "rt.dcm")
    outer = contours_of(folder / "rt.dcm")[1][0]
    outer.ContourData = (
        np.concatenate([points_of(outer)[:1], points_of(outer)[-3:]]).ravel().round(5).tolist()
    )
    assert outer.NumberOfContourPoints > 4
    outer.NumberOfContourPoints = 4
    inner = contours_of(folder / "rt.dcm")[4][0]
    dataset.ROIContourSequence[0].ContourSequence = [outer, inner]
    dataset.ROIContourSequence[1].ContourSequence = []
    dataset.save_as(folder / "changed.dcm")
    found = read_rtstruct(folder / "changed.dcm", source.grid)
    np.testing.assert_array_equal(found.array, array == 1)


def test_coordinates_fit_decimal_strings_and_are_exact_enough(folder: Path):
    source = make_source(
        folder / "series", orientation="oblique", first_position=(-1234.567891, 1876.543219, -2999.123457)
    )
    write_rtstruct(random_labels(source), folder / "rt.dcm", source=source)
    contours = contours_of(folder / "rt.dcm")
    texts = [value.original_string for contour in contours[1] for value in contour.ContourData]
    assert max(map(len, texts)) <= 16
    assert min(len(text.partition(".")[2]) for text in texts) >= 4


def test_contours_of_more_than_64_kilobytes_are_kept(folder: Path):
    source = make_source(folder / "series", shape=(140, 120, 1))
    array = np.zeros((140, 120, 1), np.uint8)
    array[::2], array[:, 0] = 1, 1
    array[:, ::2] = 1
    write_rtstruct(LabelMap(array, source.grid, LABELS), folder / "rt.dcm", source=source)
    (contour,) = contours_of(folder / "rt.dcm")[1]
    assert contour.NumberOfContourPoints * 3 * 9 > 1 << 16
    np.testing.assert_array_equal(read_rtstruct(folder / "rt.dcm", source.grid).array, array)


def test_references_patient_and_frame_of_reference_are_those_of_the_source(folder: Path):
    written = write_series(folder / "series", SeriesSpec(shape=SHAPE))
    source = volume_of(written.files)
    write_rtstruct(random_labels(source), folder / "rt.dcm", source=source, model="organs", model_version="3")
    dataset = pydicom.dcmread(folder / "rt.dcm")
    image = pydicom.dcmread(written.files[0])
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "FrameOfReferenceUID"):
        assert dataset[keyword].value == image[keyword].value
    (frame_of_reference,) = dataset.ReferencedFrameOfReferenceSequence
    (study,) = frame_of_reference.RTReferencedStudySequence
    assert study.ReferencedSOPInstanceUID == image.StudyInstanceUID
    (series,) = study.RTReferencedSeriesSequence
    assert series.SeriesInstanceUID == image.SeriesInstanceUID
    assert len(series.ContourImageSequence) == SHAPE[2]
    assert [item.ROIName for item in dataset.StructureSetROISequence] == [label.name for label in LABELS]
    assert {item.ROIGenerationDescription for item in dataset.StructureSetROISequence} == {"organs 3"}
    types = [item.RTROIInterpretedType for item in dataset.RTROIObservationsSequence]
    assert types == ["ORGAN", "", ""]


def test_an_empty_map_can_be_written(folder: Path):
    source = make_source(folder / "series")
    empty = LabelMap(np.zeros(SHAPE, np.uint8), source.grid, LABELS)
    write_rtstruct(empty, folder / "rt.dcm", source=source)
    assert not read_rtstruct(folder / "rt.dcm", source.grid).array.any()


def test_a_source_that_was_not_read_from_dicom_is_refused(folder: Path):
    source = Volume(np.zeros(SHAPE, np.int16), oblique_grid())
    with pytest.raises(OutputError, match="not read from DICOM"):
        write_rtstruct(random_labels(source), folder / "rt.dcm", source=source)


def test_no_message_holds_the_patient(folder: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(0)
    source = make_source(folder / "series", edit=lambda dataset, number: dataset.pop("FrameOfReferenceUID"))
    write_rtstruct(random_labels(source), folder / "rt.dcm", source=source)
    assert not any(secret in caplog.text for secret in SECRETS)


def edited(folder: Path, change: Any) -> Path:
    """An RTSTRUCT of random labels, changed by someone else."""
    source = make_source(folder / "series")
    write_rtstruct(random_labels(source), folder / "rt.dcm", source=source)
    dataset = pydicom.dcmread(folder / "rt.dcm")
    change(dataset)
    dataset.save_as(folder / "changed.dcm")
    return folder / "changed.dcm"


def test_overlapping_regions_are_refused_by_name(folder: Path):
    def overlap(dataset: Dataset) -> None:
        first, second, _ = dataset.ROIContourSequence
        second.ContourSequence = first.ContourSequence

    changed = edited(folder, overlap)
    with pytest.raises(IntensityError, match="liver and lesion overlap"):
        read_rtstruct(changed, make_source(folder / "series").grid)


def open_contour(dataset: Dataset) -> None:
    dataset.ROIContourSequence[0].ContourSequence[0].ContourGeometricType = "OPEN_PLANAR"


def lose_points(dataset: Dataset) -> None:
    dataset.ROIContourSequence[0].ContourSequence[0].NumberOfContourPoints = 99


def lose_regions(dataset: Dataset) -> None:
    del dataset.StructureSetROISequence


@pytest.mark.parametrize("damage", [open_contour, lose_points, lose_regions])
def test_damaged_files_are_refused(folder: Path, damage: Any):
    changed = edited(folder, damage)
    with pytest.raises(FileFormatError, match=r"changed\.dcm"):
        read_rtstruct(changed, make_source(folder / "series").grid)


def test_contours_beyond_the_grid_are_refused(folder: Path):
    source = make_source(folder / "series")
    write_rtstruct(random_labels(source), folder / "rt.dcm", source=source)
    with pytest.raises(GeometryError, match="beyond the slice"):
        read_rtstruct(folder / "rt.dcm", source.grid.box((1, 0, 0), SHAPE))


def test_what_is_no_rtstruct_is_refused(folder: Path):
    written = write_series(folder / "series", SeriesSpec(shape=SHAPE))
    with pytest.raises(FileFormatError, match="no RTSTRUCT"):
        read_rtstruct(written.files[0], written.grid)
    (folder / "text.dcm").write_text("no DICOM at all")
    with pytest.raises(FileFormatError, match="no readable DICOM"):
        read_rtstruct(folder / "text.dcm", written.grid)
    with pytest.raises(InputError, match="no such file"):
        read_rtstruct(folder / "nothing.dcm", written.grid)
