"""DICOM SEG: on the planes of the source, whatever they are like, and read back as it was."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from tests.dicom_enhanced import Frames, write_enhanced
from tests.dicom_files import SECRETS, SeriesSpec, raw_value, write_series, zip_folder
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
from volseg.geometry import Grid
from volseg.io.dicom.seg import read_seg, write_seg
from volseg.labels import Code, Label, LabelTable
from volseg.origin import FileRef
from volseg.volume import LabelMap, Volume

Encoding = Literal["binary", "labelmap"]
ENCODINGS: tuple[Encoding, ...] = ("binary", "labelmap")


def renumbered(label_map: LabelMap, encoding: str) -> np.ndarray:
    """What reading gives: BINARY numbers its segments 1, 2, 3."""
    if encoding == "labelmap":
        return label_map.array
    return np.searchsorted([0, *label_map.labels.values], label_map.array)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("changes", AWKWARD.values(), ids=AWKWARD)
def test_labels_come_back_where_they_were(folder: Path, changes: dict[str, Any], encoding: Encoding):
    source = make_source(folder / "series", **changes)
    label_map = random_labels(source)
    write_seg(label_map, folder / "seg.dcm", source=source, encoding=encoding)
    on_source = read_seg(folder / "seg.dcm", grid=source.grid)
    np.testing.assert_array_equal(on_source.array, renumbered(label_map, encoding))
    alone = read_seg(folder / "seg.dcm")
    np.testing.assert_array_equal(alone.array, on_source.array)
    assert alone.grid.distance_mm(source.grid) < 1e-6


@settings(max_examples=15, deadline=None)
@given(
    changes=st.sampled_from(list(AWKWARD.values())),
    voxel=st.tuples(*(st.integers(0, extent - 1) for extent in SHAPE)),
    encoding=st.sampled_from(ENCODINGS),
)
def test_a_voxel_is_found_at_its_point_in_the_patient(
    tmp_path_factory: pytest.TempPathFactory,
    changes: dict[str, Any],
    voxel: tuple[int, int, int],
    encoding: Encoding,
):
    folder = tmp_path_factory.mktemp("seg")
    spec = replace(SeriesSpec(shape=SHAPE), **changes)
    source = volume_of(write_series(folder / "series", spec).files)
    array = np.zeros(SHAPE, np.uint8)
    array[voxel] = 1
    write_seg(LabelMap(array, source.grid, LABELS), folder / "seg.dcm", source=source, encoding=encoding)
    found = read_seg(folder / "seg.dcm", grid=source.grid)
    (index,) = np.argwhere(found.array)
    jitter_mm = 3 * spec.jitter_mm
    np.testing.assert_allclose(
        found.grid.index_to_world(index), spec.grid.index_to_world(voxel), atol=1e-6 + jitter_mm
    )


def test_each_frame_lies_on_its_source_plane_and_refers_to_it(folder: Path):
    written = write_series(folder / "series", SeriesSpec(shape=SHAPE, tilt_degrees=20, jitter_mm=0.02))
    source = volume_of(written.files)
    write_seg(random_labels(source), folder / "seg.dcm", source=source)
    images = {image.SOPInstanceUID: image for image in map(pydicom.dcmread, written.files)}
    seg = pydicom.dcmread(folder / "seg.dcm")
    for item in seg.PerFrameFunctionalGroupsSequence:
        (image,) = item.DerivationImageSequence[0].SourceImageSequence
        plane = images[image.ReferencedSOPInstanceUID]
        assert image.ReferencedSOPClassUID == plane.SOPClassUID
        assert item.PlanePositionSequence[0].ImagePositionPatient == plane.ImagePositionPatient
    (series,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == written.spec.series_uid
    assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} == set(images)
    assert seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing == [0.9, 0.7]


def test_patient_study_and_frame_of_reference_are_those_of_the_source(folder: Path):
    source = make_source(folder / "series")
    write_seg(random_labels(source), folder / "seg.dcm", source=source)
    seg = pydicom.dcmread(folder / "seg.dcm")
    image = pydicom.dcmread(source.origin.dicom.files[0].path)  # type: ignore[union-attr]
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge"):
        assert seg[keyword].value == image[keyword].value
    for keyword in ("StudyInstanceUID", "StudyDate", "AccessionNumber", "StudyID", "FrameOfReferenceUID"):
        assert seg[keyword].value == image[keyword].value
    assert seg.SeriesInstanceUID != image.SeriesInstanceUID
    assert seg.Modality == "SEG"
    assert seg.ContentCreatorName == ""


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_names_codes_and_colours_come_back(folder: Path, encoding: Encoding):
    source = make_source(folder / "series")
    write_seg(
        random_labels(source),
        folder / "seg.dcm",
        source=source,
        encoding=encoding,
        model="organs",
        model_version="3",
    )
    found = read_seg(folder / "seg.dcm").labels
    assert [(label.name, label.colour, label.code) for label in found] == [
        (label.name, label.colour, label.code) for label in LABELS
    ]
    assert found.values == (LABELS.values if encoding == "labelmap" else (1, 2, 3))
    described = pydicom.dcmread(folder / "seg.dcm").SegmentSequence[-3:]
    assert {item.SegmentAlgorithmType for item in described} == {"AUTOMATIC"}
    assert {item.SegmentAlgorithmName for item in described} == {"organs"}
    categories = [item.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning for item in described]
    assert categories == ["Anatomical Structure", "Morphologically Abnormal Structure", "Tissue"]
    assert described[2].SegmentedPropertyTypeCodeSequence[0].CodeValue == "85756007"


def test_frames_of_a_multi_frame_source_are_referred_to_by_number(folder: Path):
    spec = SeriesSpec(shape=SHAPE, orientation="oblique", modality="MR", intercept=0.0)
    frames = Frames(order=lambda count: list(range(count))[::-1], shared=())
    written = write_enhanced(folder / "series.dcm", spec, frames)
    source = volume_of(written.files)
    label_map = random_labels(source)
    write_seg(label_map, folder / "seg.dcm", source=source)
    np.testing.assert_array_equal(
        read_seg(folder / "seg.dcm", grid=spec.grid).array, renumbered(label_map, "binary")
    )
    enhanced = pydicom.dcmread(written.files[0])
    seg = pydicom.dcmread(folder / "seg.dcm")
    for item in seg.PerFrameFunctionalGroupsSequence:
        (image,) = item.DerivationImageSequence[0].SourceImageSequence
        assert image.ReferencedSOPInstanceUID == enhanced.SOPInstanceUID
        referred = enhanced.PerFrameFunctionalGroupsSequence[image.ReferencedFrameNumber - 1]
        assert (
            item.PlanePositionSequence[0].ImagePositionPatient
            == referred.PlanePositionSequence[0].ImagePositionPatient
        )
    assert len(seg.SourceImageSequence) == 1


def test_parts_of_a_concatenation_and_members_of_an_archive_are_sources_too(folder: Path):
    spec = SeriesSpec(shape=SHAPE)
    written = write_enhanced(folder / "parts" / "series.dcm", spec, Frames(parts=3))
    source = volume_of(written.files)
    label_map = random_labels(source)
    write_seg(label_map, folder / "seg.dcm", source=source)
    assert len(pydicom.dcmread(folder / "seg.dcm").SourceImageSequence) == 3
    archive = zip_folder(folder / "parts", folder / "parts.zip")
    dicom = source.origin.dicom
    assert dicom
    members = tuple(FileRef(archive, file.path.name) for file in dicom.files)
    zipped = replace(source, origin=replace(source.origin, dicom=replace(dicom, files=members)))
    write_seg(label_map, folder / "zipped.dcm", source=zipped)
    np.testing.assert_array_equal(read_seg(folder / "zipped.dcm").array, read_seg(folder / "seg.dcm").array)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_irregular_planes_get_the_nearest_slice_at_their_own_positions(folder: Path, encoding: Encoding):
    source = make_source(folder / "series", offsets_mm=IRREGULAR_MM)
    dicom = source.origin.dicom
    assert dicom
    assert source.grid.shape[2] != len(dicom.slices)
    label_map = random_labels(source)
    write_seg(label_map, folder / "seg.dcm", source=source, encoding=encoding)
    seg = pydicom.dcmread(folder / "seg.dcm")
    places = {
        float(item.PlanePositionSequence[0].ImagePositionPatient[2])
        for item in seg.PerFrameFunctionalGroupsSequence
    }
    assert places == {17.0 + offset for offset in IRREGULAR_MM}
    with pytest.raises(GeometryError, match="off"):
        read_seg(folder / "seg.dcm", grid=source.grid)
    with pytest.raises(GeometryError, match="Give the grid"):
        read_seg(folder / "seg.dcm")


def test_a_label_between_the_planes_is_not_lost_quietly(folder: Path):
    source = make_source(folder / "series", offsets_mm=(0, 2.5, 5, 7.5, 12.5, 15, 17.5))
    assert source.grid.shape[2] == 8
    array = np.zeros(source.grid.shape, np.uint8)
    array[1, 2, 0], array[2, 2, 4] = 1, 7
    with pytest.raises(OutputError, match="whatever it is lies only between the planes"):
        write_seg(LabelMap(array, source.grid, LABELS), folder / "seg.dcm", source=source)
    assert not (folder / "seg.dcm").exists()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_empty_labels_and_empty_maps_can_be_written(folder: Path, encoding: Encoding):
    source = make_source(folder / "series")
    empty = LabelMap(np.zeros(SHAPE, np.uint8), source.grid, LABELS)
    write_seg(empty, folder / "seg.dcm", source=source, encoding=encoding)
    found = read_seg(folder / "seg.dcm", grid=source.grid)
    assert not found.array.any()
    assert len(found.labels) == 3


def test_one_slice_keeps_its_place(folder: Path):
    source = make_source(folder / "series", shape=(5, 6, 1), orientation="sagittal")
    label_map = random_labels(source)
    write_seg(label_map, folder / "seg.dcm", source=source)
    found = read_seg(folder / "seg.dcm")
    assert found.grid.is_same(source.grid)
    np.testing.assert_array_equal(found.array, renumbered(label_map, "binary"))


def test_values_above_255_are_kept_by_label_maps(folder: Path):
    labels = LabelTable((Label(3, "three", (1, 2, 3)), Label(300, "three hundred", (4, 5, 6))))
    source = make_source(folder / "series")
    label_map = random_labels(source, labels=labels)
    write_seg(label_map, folder / "seg.dcm", source=source, encoding="labelmap")
    np.testing.assert_array_equal(read_seg(folder / "seg.dcm").array, label_map.array)


def test_a_map_without_a_table_gets_numbered_labels(folder: Path):
    source = make_source(folder / "series")
    write_seg(replace(random_labels(source), labels=LabelTable(())), folder / "seg.dcm", source=source)
    assert [label.name for label in read_seg(folder / "seg.dcm").labels] == ["label 1", "label 4", "label 7"]


def mess_up(dataset: Dataset, number: int) -> None:
    for keyword in ("StudyID", "StudyDate", "PatientSex", "ReferringPhysicianName", "FrameOfReferenceUID"):
        del dataset[keyword]
    del dataset.SliceThickness, dataset.InstanceNumber, dataset.AccessionNumber
    dataset.PatientBirthDate, dataset.StudyTime = "31.03.1947", "25:61"
    dataset.PatientAge, dataset.PatientSex = "72Y", "female"
    dataset.StudyDescription = "x" * 90
    dataset.PatientName = "M\u00fcller^J\u00fcrgen"
    dataset.PatientIdentityRemoved = "YES"
    raw_value(dataset, "PatientWeight", "DS", b"71,5")
    raw_value(dataset, "PatientSize", "DS", b"unknown")
    first, second, third = dataset.ImagePositionPatient
    raw_value(
        dataset,
        "ImagePositionPatient",
        "DS",
        f"{first}00000000000\\{second}\\{third:.4f}".replace(".", ",").encode(),
    )
    raw_value(dataset, "PixelSpacing", "DS", b"0.90000000000000002220\\0,7")


def test_messy_headers_are_cleaned(folder: Path):
    source = make_source(folder / "series", edit=mess_up)
    label_map = random_labels(source)
    write_seg(label_map, folder / "seg.dcm", source=source)
    seg = pydicom.dcmread(folder / "seg.dcm")
    assert seg.PatientName == "M\u00fcller^J\u00fcrgen"
    assert (seg.PatientAge, seg.PatientWeight, seg.PatientBirthDate) == ("072Y", 71.5, "")
    assert (seg.StudyTime, seg.PatientSex, seg.StudyID) == ("", "", "")
    assert len(seg.StudyDescription) == 64
    assert "PatientSize" not in seg
    assert "PatientIdentityRemoved" not in seg
    write_seg(label_map, folder / "again.dcm", source=source)
    assert pydicom.dcmread(folder / "again.dcm").FrameOfReferenceUID == seg.FrameOfReferenceUID
    np.testing.assert_array_equal(read_seg(folder / "seg.dcm").array, renumbered(label_map, "binary"))


@pytest.mark.parametrize(
    "changes",
    [
        {"preamble": "none"},
        {"preamble": "bare"},
        {"syntax": "big-endian"},
        {"syntax": "deflated"},
        {"syntax": "rle"},
    ],
    ids=str,
)
def test_sources_of_any_encoding_give_the_patient(folder: Path, changes: dict[str, Any]):
    source = make_source(folder / "series", **changes)
    write_seg(random_labels(source), folder / "seg.dcm", source=source)
    seg = pydicom.dcmread(folder / "seg.dcm")
    assert (seg.PatientName, seg.PatientID, seg.StudyDate) == ("GEHEIM^NAME", "GEHEIM-ID-77", "20190817")


def test_noise_in_directions_is_no_obstacle(folder: Path):
    def tremble(dataset: Dataset, number: int) -> None:
        dataset.ImageOrientationPatient = [1, number * 1e-5, 0, -number * 1e-5, 1, 0]

    source = make_source(folder / "series", edit=tremble)
    write_seg(random_labels(source), folder / "seg.dcm", source=source)


def test_labels_on_another_grid_are_refused(folder: Path):
    source = make_source(folder / "series")
    with pytest.raises(GeometryError, match="another grid"):
        write_seg(LabelMap(np.zeros(SHAPE, np.uint8), oblique_grid()), folder / "seg.dcm", source=source)


def test_a_source_that_was_not_read_from_dicom_is_refused(folder: Path):
    source = Volume(np.zeros(SHAPE, np.int16), oblique_grid())
    with pytest.raises(OutputError, match="not read from DICOM"):
        write_seg(random_labels(source), folder / "seg.dcm", source=source)


def test_source_files_that_changed_are_refused(folder: Path):
    source = make_source(folder / "series")
    write_series(folder / "series", SeriesSpec(shape=SHAPE, first_position=(-31.25, 43.4, 17.0)))
    with pytest.raises(GeometryError, match=r"0\.900 mm from slice 0"):
        write_seg(random_labels(source), folder / "seg.dcm", source=source)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SOPInstanceUID"])
def test_a_source_that_cannot_be_referred_to_is_refused(folder: Path, keyword: str):
    source = make_source(folder / "series", edit=lambda dataset, number: dataset.pop(keyword))
    with pytest.raises(OutputError, match=f"no {keyword}"):
        write_seg(random_labels(source), folder / "seg.dcm", source=source)


@pytest.mark.parametrize("value", [-1, 70000])
def test_labels_beyond_16_bits_are_refused(folder: Path, value: int):
    source = make_source(folder / "series")
    with pytest.raises(OutputError, match="labels must be in"):
        write_seg(LabelMap(np.full(SHAPE, value), source.grid), folder / "seg.dcm", source=source)


def test_values_without_a_name_are_refused(folder: Path):
    source = make_source(folder / "series")
    with pytest.raises(OutputError, match=r"values \[5\]"):
        write_seg(LabelMap(np.full(SHAPE, 5), source.grid, LABELS), folder / "seg.dcm", source=source)


def test_no_message_holds_the_patient(folder: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(0)

    def change(dataset: Dataset, number: int) -> None:
        del dataset.FrameOfReferenceUID
        dataset.PatientName = "GEHEIM"  # highdicom complains of names without a caret, and says them

    source = make_source(folder / "series", edit=change)
    write_seg(random_labels(source), folder / "seg.dcm", source=source)
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "FrameOfReferenceUID" in said
    assert not any(secret in said for secret in SECRETS)


def edited(folder: Path, change: Any, encoding: Encoding = "binary") -> Path:
    """A SEG of random labels, changed by someone else."""
    source = make_source(folder / "series")
    write_seg(random_labels(source), folder / "seg.dcm", source=source, encoding=encoding)
    dataset = pydicom.dcmread(folder / "seg.dcm")
    change(dataset)
    dataset.save_as(folder / "changed.dcm")
    return folder / "changed.dcm"


def test_frames_in_another_order_give_the_same(folder: Path):
    def shuffle(dataset: Dataset) -> None:
        order = np.random.default_rng(3).permutation(dataset.NumberOfFrames)
        frames = dataset.pixel_array[order]
        dataset.PixelData = np.packbits(frames.ravel(), bitorder="little").tobytes()
        dataset.PixelData += b"\0" * (len(dataset.PixelData) % 2)
        items = list(dataset.PerFrameFunctionalGroupsSequence)
        dataset.PerFrameFunctionalGroupsSequence = [items[n] for n in order]

    changed = edited(folder, shuffle)
    np.testing.assert_array_equal(read_seg(changed).array, read_seg(folder / "seg.dcm").array)


def test_orientation_and_measures_may_be_given_for_each_frame(folder: Path):
    def move(dataset: Dataset) -> None:
        (shared,) = dataset.SharedFunctionalGroupsSequence
        for item in dataset.PerFrameFunctionalGroupsSequence:
            item.PlaneOrientationSequence = shared.PlaneOrientationSequence
            item.PixelMeasuresSequence = shared.PixelMeasuresSequence
        del shared.PlaneOrientationSequence, shared.PixelMeasuresSequence

    changed = edited(folder, move)
    assert read_seg(changed).grid.is_same(read_seg(folder / "seg.dcm").grid)


def test_a_cropped_and_turned_segmentation_is_put_where_it_belongs(folder: Path):
    """A writer with axes of its own: here rows and columns are swapped, and the rows run the other way."""
    source = make_source(folder / "series")
    array = np.zeros(SHAPE, np.uint8)
    array[1:4, 2:5, 3] = np.arange(1, 10).reshape(3, 3) % 2
    write_seg(LabelMap(array, source.grid, LABELS), folder / "seg.dcm", source=source)
    dataset = pydicom.dcmread(folder / "seg.dcm")
    frame = dataset.pixel_array.reshape(SHAPE[1], SHAPE[0])  # rows, columns
    turned = np.ascontiguousarray(frame[2:5, 1:4].T[::-1])
    dataset.Rows = dataset.Columns = 3
    dataset.PixelData = np.packbits(turned.ravel(), bitorder="little").tobytes()
    (shared,) = dataset.SharedFunctionalGroupsSequence
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [0, 1, 0, -1, 0, 0]
    shared.PixelMeasuresSequence[0].PixelSpacing = [0.7, 0.9]
    position = dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    first = np.add(np.array(position.ImagePositionPatient, float), (0.7 * 3, 0.9 * 2, 0))
    position.ImagePositionPatient = [str(value) for value in first.round(6)]
    dataset.save_as(folder / "turned.dcm")
    np.testing.assert_array_equal(read_seg(folder / "turned.dcm", grid=source.grid).array, array)
    with pytest.raises(GeometryError, match="beside the grid"):
        read_seg(folder / "turned.dcm", grid=source.grid.box((2, 0, 0), SHAPE))


def test_frames_off_the_grid_are_refused_with_the_distance(folder: Path):
    source = make_source(folder / "series")
    write_seg(random_labels(source), folder / "seg.dcm", source=source)
    affine = source.grid.affine.copy()
    affine[0, 3] += 0.3
    with pytest.raises(GeometryError, match=r"0\.300 mm off"):
        read_seg(folder / "seg.dcm", grid=Grid(SHAPE, affine))


def test_frames_that_are_left_out_leave_empty_slices(folder: Path):
    source = make_source(folder / "series", tilt_degrees=15)
    array = np.zeros(SHAPE, np.uint8)
    array[1, 2, 1] = array[3, 3, 5] = 1
    write_seg(LabelMap(array, source.grid, LABELS), folder / "seg.dcm", source=source)
    found = read_seg(folder / "seg.dcm")
    assert found.grid.shape == (5, 6, 5)
    np.testing.assert_array_equal(found.array, array[:, :, 1:6])
    assert found.grid.is_same(source.grid.box((0, 0, 1), (5, 6, 6)))


def test_slices_left_out_evenly_are_not_guessed(folder: Path):
    source = make_source(folder / "series")
    array = np.zeros(SHAPE, np.uint8)
    array[1, 2, ::2] = 1
    write_seg(LabelMap(array, source.grid, LABELS), folder / "seg.dcm", source=source)
    with pytest.raises(GeometryError, match="unclear whether slices are left out"):
        read_seg(folder / "seg.dcm")
    np.testing.assert_array_equal(read_seg(folder / "seg.dcm", grid=source.grid).array, array)


def test_overlapping_segments_are_refused_by_name(folder: Path):
    def overlap(dataset: Dataset) -> None:
        dataset.PixelData = b"\xff" * len(dataset.PixelData)

    with pytest.raises(IntensityError, match="liver and lesion overlap"):
        read_seg(edited(folder, overlap))


def test_fractions_are_refused(folder: Path):
    def make_fractional(dataset: Dataset) -> None:
        dataset.SegmentationType = "FRACTIONAL"

    with pytest.raises(IntensityError, match="FRACTIONAL"):
        read_seg(edited(folder, make_fractional))


def shorten(dataset: Dataset) -> None:
    dataset.PixelData = dataset.PixelData[:-4]


def lose_position(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence


def lose_segments(dataset: Dataset) -> None:
    del dataset.SegmentSequence


def lose_frame(dataset: Dataset) -> None:
    dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[1:]


def name_unknown(dataset: Dataset) -> None:
    dataset.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence[0].ReferencedSegmentNumber = 9


@pytest.mark.parametrize("damage", [shorten, lose_position, lose_segments, lose_frame, name_unknown])
def test_damaged_files_are_refused(folder: Path, damage: Any):
    changed = edited(folder, damage)
    with pytest.raises((FileFormatError, GeometryError), match=r"changed\.dcm"):
        read_seg(changed)


def test_a_label_map_value_without_a_segment_is_refused(folder: Path):
    def drop(dataset: Dataset) -> None:
        dataset.SegmentSequence = dataset.SegmentSequence[:-1]

    with pytest.raises(FileFormatError, match=r"\[7\], which no segment describes"):
        read_seg(edited(folder, drop, "labelmap"))


def test_what_is_no_segmentation_is_refused(folder: Path):
    written = write_series(folder / "series", SeriesSpec(shape=SHAPE))
    with pytest.raises(FileFormatError, match="no DICOM SEG"):
        read_seg(written.files[0])
    (folder / "text.dcm").write_text("no DICOM at all")
    with pytest.raises(FileFormatError, match="no readable DICOM"):
        read_seg(folder / "text.dcm")
    with pytest.raises(InputError, match="no such file"):
        read_seg(folder / "nothing.dcm")


def test_segments_of_one_name_stay_apart(folder: Path):
    def rename(dataset: Dataset) -> None:
        for item in dataset.SegmentSequence:
            item.SegmentLabel = "Lesion"

    labels = read_seg(edited(folder, rename)).labels
    assert [label.name for label in labels] == ["Lesion", "Lesion (2)", "Lesion (3)"]


def test_letters_of_other_languages_are_kept(folder: Path):
    labels = LabelTable((Label(1, "L\u00e4sion \u808b\u75c5\u5909", (1, 2, 3)),))
    source = make_source(folder / "series")
    write_seg(random_labels(source, labels=labels), folder / "seg.dcm", source=source)
    assert next(iter(read_seg(folder / "seg.dcm").labels)).name == "L\u00e4sion \u808b\u75c5\u5909"


def test_long_codes_are_kept(folder: Path):
    code = Code("99TEST", "a-code-of-more-than-16-characters", "Something")
    labels = LabelTable((Label(1, "thing", (1, 2, 3), code),))
    source = make_source(folder / "series")
    write_seg(random_labels(source, labels=labels), folder / "seg.dcm", source=source)
    assert next(iter(read_seg(folder / "seg.dcm").labels)).code == code
