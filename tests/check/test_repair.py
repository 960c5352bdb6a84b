"""The repaired copy: label maps equal voxel by voxel to the truth, images as they were, everything else left out."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from tests.check.collection import AFFINE, SHAPE, image_of, labels_of, save
from tests.dicom_files import SeriesSpec, write_series
from tests.grids import affine_of
from tests.io.dicom.labelled import LABELS, random_labels
from volseg.cases import read_case
from volseg.check import check_dataset
from volseg.check.repair import Repair, repair_dataset
from volseg.datasets import IncompleteError
from volseg.datasets.recognise import recognise
from volseg.errors import OutputError
from volseg.io.dicom.reading import read_series
from volseg.io.dicom.seg import write_seg
from volseg.labels import Label, LabelTable


def changed(dataset: Any, name: str, **fields: Any) -> Any:
    cases = [replace(case, **fields) if case.id == name else case for case in dataset.cases]
    return dataset.model_copy(update={"cases": tuple(cases)})


def fix(dataset: Any, folder: Path) -> dict[str, Repair]:
    repairs = repair_dataset(dataset, check_dataset(dataset), folder)
    return {repair.case: repair for repair in repairs}


def stored(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def assert_clean(folder: Path, cases: int) -> None:
    found = recognise(folder)
    report = check_dataset(found.dataset)
    assert not report.has_errors, report.problems
    assert report.case_count == cases


def test_a_clean_collection_is_copied(collection, tmp_path):
    dataset = collection()
    repairs = fix(dataset, tmp_path / "out")
    assert repairs["b"] == Repair("b", "", "b", "images copied; label map as it was")
    for number, name in enumerate("abc"):
        for n in range(2):
            copy = tmp_path / "out" / "imagesTr" / f"{name}_000{n}.nii.gz"
            assert copy.read_bytes() == (dataset.root / f"{name}_{n}.nii.gz").read_bytes()
        label = tmp_path / "out" / "labelsTr" / f"{name}.nii.gz"
        assert np.array_equal(stored(label), labels_of(number))
        assert nib.load(label).get_data_dtype() == np.uint8
    assert json.loads((tmp_path / "out" / "dataset.json").read_text()) == {
        "name": "out",
        "description": "Repaired copy of data, see fix.csv",
        "licence": "",
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "liver": 1, "lesion": 2},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    assert_clean(tmp_path / "out", 3)
    assert check_dataset(recognise(tmp_path / "out").dataset).problems == ()


def test_label_maps_are_repaired_voxel_by_voxel(collection, tmp_path):
    dataset = collection()
    turn = np.array([[0, -1, 0, SHAPE[0] - 1], [1, 0, 0, 0], [0, 0, -1, SHAPE[2] - 1], [0, 0, 0, 1]])
    turned = labels_of(0)[::-1, :, ::-1].transpose(1, 0, 2)
    save(dataset.root / "a_seg.nii.gz", turned, AFFINE @ turn)
    off = AFFINE.copy()
    off[:3, 3] += (0.06, 0.0, -0.08)
    save(dataset.root / "b_seg.nii.gz", labels_of(1).astype(np.float64), off)
    save(dataset.root / "c_seg.nii.gz", np.choose(labels_of(2), [0, 2, 7]).astype(np.int32))
    repairs = fix(changed(dataset, "c", remap={2: 1, 7: 2}), tmp_path / "out")
    assert {name: repair.done for name, repair in repairs.items()} == {
        "a": "images copied; axes of the label map put in the image's order",
        "b": "images copied; label map moved to the image's grid by 0.100 mm",
        "c": "images copied; label values 2 to 1, 7 to 2",
    }
    for number, name in enumerate("abc"):
        label = nib.load(tmp_path / "out" / "labelsTr" / f"{name}.nii.gz")
        assert np.array_equal(np.asarray(label.dataobj), labels_of(number))
        assert np.allclose(label.affine, AFFINE, atol=1e-5)
        assert label.get_data_dtype() == np.uint8
        image = SimpleITK.ReadImage(str(tmp_path / "out" / "imagesTr" / f"{name}_0000.nii.gz"))
        same = SimpleITK.ReadImage(str(tmp_path / "out" / "labelsTr" / f"{name}.nii.gz"))
        for ask in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(same, ask)() == getattr(image, ask)()
    assert_clean(tmp_path / "out", 3)


def test_cases_with_errors_are_left_out_and_listed(collection, tmp_path):
    dataset = collection()
    save(dataset.root / "a_0.nii.gz", np.where(np.arange(7) == 3, np.nan, image_of(0)))
    error = IncompleteError("gone", cases=dataset.cases[:2], problems=[("c", "case c has no T2")])
    repairs = fix(dataset.model_copy(update={"cases": error}), tmp_path / "out")
    assert repairs["a"].done.startswith("left out: intensity-not-finite (")
    assert repairs["c"] == Repair("c", "", "", "left out: incomplete-case (case c has no T2)")
    assert sorted(path.name for path in (tmp_path / "out" / "imagesTr").iterdir()) == [
        "b_0000.nii.gz",
        "b_0001.nii.gz",
    ]
    with (tmp_path / "out" / "fix.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["case"], row["written_as"]) for row in rows] == [("a", ""), ("b", "b"), ("c", "")]
    assert_clean(tmp_path / "out", 1)


@pytest.mark.parametrize("patient", ["", "P1"])
def test_of_exact_copies_the_first_is_kept_and_of_contradicting_ones_none(collection, tmp_path, patient):
    dataset = collection()
    for n in range(2):
        save(dataset.root / f"c_{n}.nii.gz", image_of(n))
    for name in "ac":
        dataset = changed(dataset, name, patient=patient)
    repairs = fix(dataset, tmp_path / "contradicting")
    assert [repairs[name].written_as for name in "abc"] == ["", "b", ""]
    save(dataset.root / "c_seg.nii.gz", labels_of(0))
    repairs = fix(dataset, tmp_path / "exact")
    assert [repairs[name].written_as for name in "abc"] == ["a", "b", ""]
    assert repairs["a"].patient == patient
    assert_clean(tmp_path / "exact", 2)


def test_other_formats_and_files_of_several_channels_are_written_anew(collection, tmp_path):
    dataset = collection()
    pair = save(dataset.root / "pair.nii.gz", np.stack([image_of(0), image_of(1)], axis=-1))
    image = SimpleITK.ReadImage(str(dataset.root / "b_1.nii.gz"))
    SimpleITK.WriteImage(image, str(dataset.root / "b_1.mha"))
    dataset = changed(dataset, "a", images=(pair,))
    dataset = changed(dataset, "b", images=(dataset.cases[1].images[0], dataset.root / "b_1.mha"))
    repairs = fix(dataset, tmp_path / "out")
    assert repairs["a"].done.startswith("2 of 2 channels written as .nii.gz")
    assert repairs["b"].done.startswith("1 of 2 channels written as .nii.gz")
    for before, after in zip(dataset.cases, recognise(tmp_path / "out").dataset(), strict=True):
        (image, label), (image_copy, label_copy) = read_case(before), read_case(after)
        assert np.array_equal(image.array, image_copy.array)
        assert np.array_equal(label.array, label_copy.array)
        assert image.grid.is_same(image_copy.grid)
    assert_clean(tmp_path / "out", 3)


def test_gaps_in_the_table_are_closed_as_nnunet_asks(collection, tmp_path, monkeypatch):
    dataset = collection()
    table = LabelTable((Label(3, "liver", (1, 2, 3)), Label(8, "lesion", (3, 2, 1))))
    monkeypatch.setattr(type(dataset), "labels", lambda self: table)
    for number, name in enumerate("abc"):
        save(dataset.root / f"{name}_seg.nii.gz", np.choose(labels_of(number), [0, 3, 8]).astype(np.uint8))
    repairs = fix(dataset, tmp_path / "out")
    assert repairs["a"].done == "images copied; label values 3 to 1, 8 to 2"
    assert np.array_equal(stored(tmp_path / "out" / "labelsTr" / "c.nii.gz"), labels_of(2))
    assert recognise(tmp_path / "out").dataset.labels().values == (1, 2)


def test_a_ct_channel_is_called_so(collection, tmp_path):
    dataset = collection(kind="CT", names=("scan",))
    for case in dataset.cases:
        dataset = changed(dataset, case.id, images=case.images[:1])
    fix(dataset, tmp_path / "out")
    assert recognise(tmp_path / "out").dataset.modality() == "CT"


def test_ids_become_file_names(collection, tmp_path):
    dataset = collection()
    for name, odd in zip("abc", ["1.2.3#1", "site 1/7", "site_1_7"], strict=True):
        dataset = changed(dataset, name, id=odd)
    repairs = fix(dataset, tmp_path / "out")
    assert [repair.written_as for repair in repairs.values()] == ["1.2.3_1", "site_1_7", "site_1_7-2"]
    assert_clean(tmp_path / "out", 3)


def test_folders_in_use_and_folders_inside_are_refused(collection, tmp_path):
    dataset = collection()
    used = tmp_path / "used"
    used.mkdir()
    (used / "precious.txt").write_text("here")
    with pytest.raises(OutputError, match="not an empty folder"):
        fix(dataset, used)
    with pytest.raises(OutputError, match="not an empty folder"):
        fix(dataset, used / "precious.txt")
    with pytest.raises(OutputError, match="lies inside"):
        fix(dataset, dataset.root / "fixed")
    assert [path.name for path in used.iterdir()] == ["precious.txt"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert len(fix(dataset, empty)) == 3


def test_where_nothing_is_right_nothing_is_written(collection, tmp_path):
    dataset = collection()
    for name in "abc":
        (dataset.root / f"{name}_1.nii.gz").write_bytes(b"")
    with pytest.raises(OutputError, match=r"no case of .* is without errors"):
        fix(dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_interrupted_copy_is_no_collection(collection, tmp_path):
    dataset = collection()
    report = check_dataset(dataset)
    (dataset.root / "c_seg.nii.gz").unlink()
    with pytest.raises(Exception, match="c_seg"):
        repair_dataset(dataset, report, tmp_path / "out")
    assert (tmp_path / "out" / "labelsTr" / "b.nii.gz").exists()
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_labels_go_with_the_header_of_their_image(collection, tmp_path):
    """An image that is placed by its qform alone, as many are: the label map says the same."""
    dataset = collection()
    for n in range(2):
        image = nib.Nifti1Image(image_of(n), affine_of())
        image.set_qform(affine_of(), 1)
        image.set_sform(None, 0)
        nib.save(image, dataset.root / f"a_{n}.nii.gz")
    label = nib.Nifti1Image(labels_of(0), affine_of())
    label.set_sform(affine_of(), 2)
    nib.save(label, dataset.root / "a_seg.nii.gz")
    fix(dataset, tmp_path / "out")
    image, label = (
        nib.load(tmp_path / "out" / name) for name in ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    )
    assert np.array_equal(image.affine, label.affine)
    assert int(label.header["sform_code"]) == 0


def test_a_dicom_export_becomes_files_that_train_alike(tmp_path):
    write_series(tmp_path / "export" / "scan", SeriesSpec(shape=(18, 17, 7), orientation="oblique"))
    source = read_series(tmp_path / "export" / "scan")
    write_seg(random_labels(source, labels=LABELS), tmp_path / "export" / "labels.dcm", source=source)
    dataset = recognise(tmp_path / "export").dataset
    assert not check_dataset(dataset).has_errors
    fix(dataset, tmp_path / "out")
    (image, label), (image_copy, label_copy) = (
        read_case(cases()[0]) for cases in (dataset, recognise(tmp_path / "out").dataset)
    )
    assert np.array_equal(image.array, image_copy.array)
    assert np.array_equal(label.array, label_copy.array)
    assert image.grid.is_same(image_copy.grid)
    assert_clean(tmp_path / "out", 1)
