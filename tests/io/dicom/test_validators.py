"""Other people's validators and readers on our DICOM results. Each test is skipped where its tool is missing."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.dataset import Dataset

from tests.dicom_enhanced import Frames, write_enhanced
from tests.dicom_files import SeriesSpec, raw_value
from tests.io.dicom.labelled import (
    AWKWARD,
    IRREGULAR_MM,
    LABELS,
    SHAPE,
    make_source,
    random_labels,
    volume_of,
)
from volseg.geometry import Grid
from volseg.io.dicom.rtstruct import write_rtstruct
from volseg.io.dicom.seg import write_seg
from volseg.volume import LabelMap, Volume

pytestmark = pytest.mark.tools

UNKNOWN_LABELMAP = "Information Object Not found"
"""What a dciodvfy older than DICOM 2024c says of a label map segmentation."""


def run(tool: str, *arguments: str | Path) -> str:
    """All that a tool says; the test is skipped where there is no such tool."""
    beside_python = Path(sys.executable).with_name(tool)
    program = str(beside_python) if beside_python.exists() else shutil.which(tool)
    if program is None:
        pytest.skip(f"{tool} is not installed")
    done = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, check=False, timeout=120, errors="replace"
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0 or tool == "dciodvfy", text
    return text


def errors_of(path: Path) -> list[str]:
    """The lines of dciodvfy that are errors."""
    text = run("dciodvfy", path)
    return [line for line in text.splitlines() if re.match(r"(Error|Abort|Fatal)", line)]


def mess_up(dataset: Dataset, number: int) -> None:
    """Things that dciodvfy finds in the source."""
    for keyword in ("StudyID", "StudyDate", "FrameOfReferenceUID", "SliceThickness", "InstanceNumber"):
        del dataset[keyword]
    dataset.PatientBirthDate, dataset.StudyTime, dataset.PatientAge = "31.03.1947", "25:61", "72Y"
    dataset.PatientSex, dataset.StudyDescription = "female", "x" * 90
    raw_value(dataset, "PatientWeight", "DS", b"71,5")
    raw_value(dataset, "PixelSpacing", "DS", b"0.90000000000000002220\\0,7")
    dataset.PatientIdentityRemoved = "YES"


SOURCES: dict[str, dict[str, Any]] = {
    **AWKWARD,
    "irregular": {"offsets_mm": IRREGULAR_MM},
    "messy": {"edit": mess_up},
    "siemens": {"vendor": "siemens"},
    "philips MR": {"vendor": "philips", "modality": "MR"},
    "canon": {"vendor": "canon"},
    "one slice": {"shape": (5, 6, 1)},
}


@pytest.fixture(params=[*SOURCES, "enhanced", "concatenation"])
def source(request: pytest.FixtureRequest, folder: Path) -> Volume:
    if request.param in SOURCES:
        return make_source(folder / "series", **SOURCES[request.param])
    frames = Frames(shared=()) if request.param == "enhanced" else Frames(parts=2)
    return volume_of(write_enhanced(folder / "series.dcm", SeriesSpec(shape=SHAPE), frames).files)


def test_dciodvfy_finds_no_error_in_a_binary_seg(folder: Path, source: Volume):
    write_seg(random_labels(source), folder / "seg.dcm", source=source)
    assert errors_of(folder / "seg.dcm") == []


def test_dciodvfy_finds_no_error_in_a_label_map_seg_or_does_not_know_them(folder: Path):
    source = make_source(folder / "series", tilt_degrees=10)
    write_seg(random_labels(source), folder / "seg.dcm", source=source, encoding="labelmap")
    errors = errors_of(folder / "seg.dcm")
    if any(UNKNOWN_LABELMAP in line for line in errors):
        pytest.skip("this dciodvfy is older than label map segmentations")
    assert errors == []


def test_dciodvfy_finds_no_error_in_an_empty_seg(folder: Path):
    source = make_source(folder / "series")
    empty = LabelMap(np.zeros(SHAPE, np.uint8), source.grid, LABELS)
    write_seg(empty, folder / "seg.dcm", source=source)
    assert errors_of(folder / "seg.dcm") == []


def test_dciodvfy_finds_no_error_in_an_rtstruct(folder: Path, source: Volume):
    write_rtstruct(random_labels(source), folder / "rt.dcm", source=source)
    assert errors_of(folder / "rt.dcm") == []


def test_dciodvfy_would_find_one(folder: Path):
    source = make_source(folder / "series")
    write_rtstruct(random_labels(source), folder / "rt.dcm", source=source)
    dataset = pydicom.dcmread(folder / "rt.dcm")
    del dataset.StructureSetLabel
    dataset.save_as(folder / "bad.dcm")
    assert any("StructureSetLabel" in line for line in errors_of(folder / "bad.dcm"))


@pytest.mark.parametrize("encoding", ["binary", "labelmap"])
def test_dcmdump_parses_the_results(folder: Path, encoding: Literal["binary", "labelmap"]):
    source = make_source(folder / "series")
    write_seg(random_labels(source), folder / "seg.dcm", source=source, encoding=encoding)
    write_rtstruct(random_labels(source), folder / "rt.dcm", source=source)
    for name in ("seg.dcm", "rt.dcm"):
        text = run("dcmdump", folder / name)
        assert not re.search(r"^[EWF]: ", text, re.MULTILINE)
        assert "PatientName" in text


def labels_by_dcmqi(folder: Path) -> dict[str, tuple[np.ndarray, Grid]]:
    """What dcmqi finds in seg.dcm: of each segment by its label, the mask [I, J, K] and the grid."""
    run(
        "segimage2itkimage",
        "--inputDICOM",
        folder / "seg.dcm",
        "--outputDirectory",
        folder,
        "--prefix",
        "q",
        "-t",
        "nrrd",
    )
    described = json.loads((folder / "q-meta.json").read_text())["segmentAttributes"]
    found = {}
    for attributes in (segment for group in described for segment in group):
        image = SimpleITK.ReadImage(str(folder / f"q-{attributes['labelID']}.nrrd"))
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
        mask = SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0) != 0
        columns, rows, slices = mask.shape
        found[attributes["SegmentLabel"]] = mask, Grid.from_lps((columns, rows, slices), affine)
    return found


@pytest.mark.parametrize("name", [name for name in AWKWARD if "tilted" not in name])
def test_dcmqi_finds_each_label_where_it_is(folder: Path, name: str):
    """Not on tilted series: the images of ITK, which dcmqi gives, cannot be sheared."""
    source = make_source(folder / "series", **AWKWARD[name])
    label_map = random_labels(source)
    write_seg(label_map, folder / "seg.dcm", source=source)
    found = labels_by_dcmqi(folder)
    assert set(found) == {label.name for label in LABELS}
    for label in LABELS:
        mask, grid = found[label.name]
        voxels = np.argwhere(label_map.array == label.value)
        there = np.argwhere(mask)
        assert len(there) == len(voxels)
        assert grid.voxel_volume_mm3 == pytest.approx(source.grid.voxel_volume_mm3, rel=1e-5)
        np.testing.assert_allclose(
            grid.index_to_world(there).mean(axis=0),
            source.grid.index_to_world(voxels).mean(axis=0),
            atol=1e-3,
        )
        np.testing.assert_allclose(
            np.sort(grid.index_to_world(there), axis=0),
            np.sort(source.grid.index_to_world(voxels), axis=0),
            atol=1e-3,
        )


@pytest.mark.parametrize("encoding", ["binary", "labelmap"])
@pytest.mark.parametrize("name", AWKWARD)
def test_highdicom_finds_each_voxel_of_a_label_where_it_is(
    folder: Path, name: str, encoding: Literal["binary", "labelmap"]
):
    source = make_source(folder / "series", **AWKWARD[name])
    label_map = random_labels(source)
    write_seg(label_map, folder / "seg.dcm", source=source, encoding=encoding)
    file = highdicom.seg.segread(folder / "seg.dcm")
    dicom = source.origin.dicom
    assert dicom
    uids = [pydicom.dcmread(ref.path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID for ref in dicom.files]
    pixels = file.get_pixels_by_source_instance(uids, combine_segments=True)
    expected = label_map.array
    if encoding == "binary":
        expected = np.searchsorted([0, *LABELS.values], expected)
    np.testing.assert_array_equal(pixels.transpose(2, 1, 0), expected)
    if "tilted" in name:  # a highdicom volume is never sheared
        return
    volume = file.get_volume(combine_segments=True)
    order = (volume.spatial_shape[2], volume.spatial_shape[1], volume.spatial_shape[0])
    grid = Grid.from_lps(order, volume.affine[:, [2, 1, 0, 3]])
    is_turned = not grid.is_same(source.grid)
    array = volume.array.transpose(2, 1, 0)
    if is_turned:  # highdicom may count slices from the other end
        affine = volume.affine[:, [2, 1, 0, 3]].copy()
        affine[:3, 3] += affine[:3, 2] * (order[2] - 1)
        affine[:3, 2] *= -1
        grid, array = Grid.from_lps(order, affine), array[:, :, ::-1]
    assert grid.is_same(source.grid)
    np.testing.assert_array_equal(array, expected)
