"""Series and the SEG and RTSTRUCT objects that refer to them, written by one part of volseg and found by another."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from tests.dicom_files import SECRETS
from tests.io.dicom.labelled import make_source, random_labels
from volseg.cases import read_case
from volseg.datasets.dicom_pairs import DicomPairs
from volseg.datasets.recognise import recognise
from volseg.errors import FileFormatError, InputError
from volseg.io.dicom.annotations import find_annotations, read_annotation
from volseg.io.dicom.rtstruct import write_rtstruct
from volseg.io.dicom.seg import write_seg
from volseg.labels import Code, Label, LabelTable
from volseg.volume import LabelMap, Volume

RED = (255, 0, 0)
LIVER = Code("SCT", "10200004", "Liver")
ONE = LabelTable((Label(2, "Liver", RED, LIVER), Label(5, "lesion", RED)))
TWO = LabelTable((Label(3, "Lesion", RED), Label(8, " LIVER", RED), Label(9, "spleen", RED)))


@dataclass
class Export:
    """What was written: two patients, one with a SEG, one with an RTSTRUCT."""

    root: Path
    sources: tuple[Volume, Volume]
    labels: tuple[LabelMap, LabelMap]


def uids(number: int) -> dict[str, Any]:
    """A series of its own patient, study and space."""
    return {
        "study_uid": f"1.2.826.0.1.999.{number}",
        "series_uid": f"1.2.826.0.1.999.{number}.1",
        "frame_of_reference": f"1.2.826.0.1.999.{number}.9",
        "patient_id": f"GEHEIM-ID-{number}",
        "seed": number,
    }


@pytest.fixture
def export(tmp_path: Path) -> Export:
    root = tmp_path / "Export ä"
    first = make_source(root / "a/ct", orientation="oblique", **uids(3))
    second = make_source(root / "b/ct", tilt_degrees=12.0, **uids(2))
    labels = (random_labels(first, labels=ONE), random_labels(second, seed=1, labels=TWO))
    write_seg(labels[0], root / "a/one.dcm", source=first)
    write_rtstruct(labels[1], root / "two", source=second)
    return Export(root, (first, second), labels)


def test_labels_of_one_name_get_one_value(export: Export) -> None:
    dataset = DicomPairs(root=export.root)
    second, first = dataset()
    assert [(label.value, label.name, label.code) for label in dataset.labels()] == [
        (1, "Lesion", None),
        (2, "LIVER", LIVER),
        (3, "spleen", None),
    ]
    assert first.remap == {1: 2, 2: 1}  # the segments of a BINARY SEG are numbered from 1
    assert second.remap == {3: 1, 8: 2, 9: 3}
    assert (dataset.modality(), dataset.channel_names()) == ("CT", ("CT",))
    assert dataset.notes() == ("'spleen' is named in 1 of 2 cases",)


def test_cases_are_read_voxel_by_voxel(export: Export) -> None:
    cases = dict(zip((1, 0), DicomPairs(root=export.root)(), strict=True))
    meaning = ({0: 0, 2: 2, 5: 1}, {0: 0, 3: 1, 8: 2, 9: 3})
    for n, case in cases.items():
        volume, label_map = read_case(case)
        assert volume.grid.is_same(export.sources[n].grid)
        expected = np.vectorize(meaning[n].get)(export.labels[n].array)
        np.testing.assert_array_equal(label_map.array, expected)


def test_sources_are_narrow_and_nothing_shows_the_patient(export: Export) -> None:
    found = recognise(export.root)
    cases = found.dataset()
    assert [case.images for case in cases] == [(export.root / "b/ct",), (export.root / "a/ct",)]
    assert [case.series for case in cases] == [(case.id,) for case in cases]
    assert len({case.patient for case in cases}) == 2
    assert all(case.patient.startswith("patient ") for case in cases)
    shown = repr((cases, found, found.dataset.labels(), found.dataset.notes(), found.dataset.title))
    assert not any(secret in shown for secret in SECRETS)


def test_a_series_that_nothing_refers_to_is_left_out(export: Export) -> None:
    make_source(export.root / "c", **uids(4))
    dataset = DicomPairs(root=export.root)
    assert len(dataset()) == 2
    assert dataset.notes()[0] == "1 series without a segmentation left out: 1.2.826.0.1.999.4.1"


def test_all_that_cannot_be_paired_is_told_at_once(export: Export) -> None:
    write_seg(export.labels[0], export.root / "again.dcm", source=export.sources[0])
    lonely = make_source(export.root / "gone", **uids(5))
    write_rtstruct(random_labels(lonely), export.root / "lonely.dcm", source=lonely)
    torn = make_source(export.root / "torn", **uids(6), file_name=lambda number: f"{number}.dcm")
    write_seg(random_labels(torn), export.root / "torn.dcm", source=torn)
    for path in (export.root / "gone").iterdir():
        path.unlink()
    (export.root / "torn/3.dcm").unlink()
    with pytest.raises(InputError) as caught:
        DicomPairs(root=export.root)()
    text = str(caught.value)
    assert "3 problems" in text
    assert "lonely.dcm refers to the series 1.2.826.0.1.999.5.1, which is not there" in text
    assert "torn.dcm refers to a series that cannot be read (" in text
    assert "one.dcm" in text
    assert "again.dcm refer to one volume" in text


@pytest.mark.parametrize("kept", ["frames", "space", "nothing"])
def test_a_seg_may_refer_in_several_ways(export: Export, kept: str) -> None:
    path = export.root / "a/one.dcm"
    dataset = pydicom.dcmread(path)
    del dataset.ReferencedSeriesSequence
    dataset.pop("SourceImageSequence", None)
    if kept != "frames":
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            del frame.DerivationImageSequence
    if kept == "nothing":
        dataset.FrameOfReferenceUID = "1.2.3"
    dataset.save_as(path)
    if kept == "nothing":
        with pytest.raises(InputError, match=r"one\.dcm refers to no series"):
            DicomPairs(root=export.root)()
    else:
        assert len(DicomPairs(root=export.root)()) == 2


def test_a_seg_that_means_several_series_is_refused(export: Export) -> None:
    make_source(export.root / "a/same space", **uids(3) | {"series_uid": "1.2.826.0.1.999.3.2"})
    path = export.root / "a/one.dcm"
    dataset = pydicom.dcmread(path)
    del dataset.ReferencedSeriesSequence
    dataset.pop("SourceImageSequence", None)
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        del frame.DerivationImageSequence
    dataset.save_as(path)
    with pytest.raises(InputError, match=r"one\.dcm refers to 2 volumes \(1\.2.*3\.1, 1\.2.*3\.2\)"):
        DicomPairs(root=export.root)()


def test_annotations_are_told_by_their_headers(export: Export, tmp_path: Path) -> None:
    (export.root / "notes.txt").write_text("x")
    (export.root / "._one.dcm").write_bytes(b"\0\5\x16\7" + bytes(300))
    assert sorted(path.name for path in find_annotations(export.root)) == ["one.dcm", "two"]
    found = read_annotation(export.root / "two")
    assert (found.kind, found.series) == ("RTSTRUCT", ("1.2.826.0.1.999.2.1",))
    assert len(found.instances) == export.sources[1].grid.shape[2]
    assert found.names == {3: "Lesion", 8: "LIVER", 9: "spleen"}
    seg = read_annotation(export.root / "a/one.dcm")
    assert (seg.kind, seg.names, seg.codes) == ("SEG", {1: "Liver", 2: "lesion"}, {1: LIVER})
    assert seg.frame_of_reference == "1.2.826.0.1.999.3.9"
    with pytest.raises(FileFormatError, match="neither a DICOM SEG nor an RTSTRUCT"):
        read_annotation(next((export.root / "a/ct").iterdir()))
    with pytest.raises(FileFormatError, match="no readable DICOM"):
        read_annotation(export.root / "notes.txt")
    with pytest.raises(InputError, match="no such file"):
        read_annotation(tmp_path / "gone")


def test_an_incomplete_annotation_is_a_problem(export: Export) -> None:
    path = export.root / "a/one.dcm"
    dataset = pydicom.dcmread(path)
    del dataset.SegmentSequence
    dataset.save_as(path)
    with pytest.raises(InputError, match=r"one\.dcm is no complete SEG or RTSTRUCT"):
        DicomPairs(root=export.root)()


def test_series_without_annotations_are_no_dataset(tmp_path: Path) -> None:
    make_source(tmp_path / "ct")
    assert DicomPairs.looks_like(tmp_path) == ""
    with pytest.raises(InputError, match="no labelled case"):
        DicomPairs(root=tmp_path)()
