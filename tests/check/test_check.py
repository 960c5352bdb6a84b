"""Each fault gives its code, with the numbers, for its case alone; a collection without a fault gives nothing."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.check.collection import AFFINE, SHAPE, image_of, labels_of, save
from volseg.check import Problem, Report, check_dataset, write_report
from volseg.datasets import IncompleteError
from volseg.errors import InputError


def changed(dataset: Any, name: str, **fields: Any) -> Any:
    cases = [replace(case, **fields) if case.id == name else case for case in dataset.cases]
    return dataset.model_copy(update={"cases": tuple(cases)})


def shifted(mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] += mm
    return affine


def found(dataset: Any) -> list[tuple[str, str, str]]:
    return [(p.severity, p.code, p.case) for p in check_dataset(dataset).problems]


def only(dataset: Any) -> Problem:
    report = check_dataset(dataset)
    assert len(report.problems) == 1, report.problems
    return report.problems[0]


def test_a_clean_collection_gives_nothing(collection):
    assert check_dataset(collection()) == Report((), 3)


@pytest.mark.parametrize("workers", [1, 3])
def test_all_problems_of_all_cases_come_at_once(collection, workers):
    dataset = collection()
    save(dataset.root / "a_seg.nii.gz", labels_of(0), shifted(3.0))
    save(dataset.root / "a_1.nii.gz", np.zeros(SHAPE, np.int16))
    save(dataset.root / "b_seg.nii.gz", labels_of(1) * 3)
    (dataset.root / "c_0.nii.gz").write_bytes(b"nothing")
    report = check_dataset(dataset, workers=workers)
    assert [(p.severity, p.code, p.case) for p in report.problems] == [
        ("error", "constant-image", "a"),
        ("error", "grid-mismatch", "a"),
        ("error", "unknown-label", "b"),
        ("error", "unreadable", "c"),
    ]
    assert report.has_errors
    assert report.counts("error") == dict.fromkeys(report.counts("error"), 1)


def edit_file(name: str, array: np.ndarray, affine: np.ndarray = AFFINE) -> Callable[[Path], object]:
    return lambda folder: save(folder / name, array, affine)


def with_value(array: np.ndarray, value: float) -> np.ndarray:
    changed_array = array.astype(np.float32)
    changed_array[3, 4, 5] = value
    return changed_array


FILE_FAULTS = {
    "unreadable": (lambda folder: (folder / "b_1.nii.gz").write_bytes(b""), "error", "b_1.nii.gz is empty"),
    "missing-file": (lambda folder: (folder / "b_1.nii.gz").unlink(), "error", "b_1.nii.gz: there is no such file"),
    "intensity-not-finite": (edit_file("b_1.nii.gz", with_value(image_of(3), np.nan)), "error", "1 of 2,261 voxels are NaN"),
    "label-not-finite": (edit_file("b_seg.nii.gz", with_value(labels_of(1), np.inf)), "error", "NaN or infinite"),
    "fractional-label": (edit_file("b_seg.nii.gz", with_value(labels_of(1), 0.5)), "error", "found 0.5 at voxel (3, 4, 5)"),
    "negative-label": (edit_file("b_seg.nii.gz", with_value(labels_of(1), -1)), "error", "found -1"),
    "unusable-label": (edit_file("b_seg.nii.gz", np.stack([labels_of(1)] * 2, -1)), "error", "has 2 channels"),
    "unusable-intensity": (edit_file("b_1.nii.gz", image_of(3).astype(np.complex64)), "error", "complex"),
    "channel-grid": (edit_file("b_1.nii.gz", image_of(3), shifted(0.5)), "error", "lies up to 0.500 mm from the first"),
    "grid-mismatch": (edit_file("b_seg.nii.gz", labels_of(1), shifted(3.0)), "error", "are 3.00 mm apart"),
    "wrong-shape": (edit_file("b_seg.nii.gz", labels_of(1)[:, :, :6]), "error", "of shapes (17, 19, 7) and (17, 19, 6)"),
    "constant-image": (edit_file("b_1.nii.gz", np.full(SHAPE, 7, np.int16)), "error", "channel T2 is 7 in every voxel"),
    "repeated-channel": (edit_file("b_1.nii.gz", image_of(2)), "warning", "channels T1 and T2 hold the same voxels"),
    "empty-label": (edit_file("b_seg.nii.gz", labels_of(1) * 0), "warning", "all 2,261 voxels of the label map are background"),
}  # fmt: skip


@pytest.mark.parametrize("code", FILE_FAULTS)
def test_a_fault_of_one_file(collection, code):
    damage, severity, text = FILE_FAULTS[code]
    dataset = collection()
    damage(dataset.root)
    problem = only(dataset)
    assert (problem.severity, problem.code, problem.case) == (severity, code, "b")
    assert text in problem.text
    assert str(dataset.root) not in problem.text


def test_a_channel_of_another_shape(collection):
    dataset = collection()
    save(dataset.root / "b_1.nii.gz", image_of(3)[:-1])
    problem = only(dataset)
    assert problem.code == "channel-grid"
    assert "has shape (16, 19, 7), the first channel (17, 19, 7)" in problem.text


def test_label_values_are_counted(collection):
    dataset = collection()
    labels = labels_of(1)
    labels[0, 0, :5], labels[1, 1, 1] = 9, 4
    save(dataset.root / "b_seg.nii.gz", labels)
    problem = only(dataset)
    assert problem.code == "unknown-label"
    assert problem.text == "the label map holds 4 (1 voxel), 9 (5 voxels)"
    assert "1 (liver), 2 (lesion)" in problem.advice


def test_values_that_stand_for_others_are_told_once_for_all_cases(collection):
    dataset = collection()
    for number, name in enumerate("ab"):
        save(
            dataset.root / f"{name}_seg.nii.gz",
            np.where(labels_of(number) == 2, 4, labels_of(number)).astype(np.uint8),
        )
    remapped = dataset.model_copy(
        update={"cases": tuple(replace(case, remap={4: 2}) for case in dataset.cases)}
    )
    problem = only(remapped)
    assert (problem.severity, problem.code, problem.case) == ("info", "remapped-label", "")
    assert problem.text == "the value 4 in 2 label maps is read as 2 (lesion)"


def test_label_maps_off_by_rounding_or_stored_in_another_order_are_told(collection):
    dataset = collection()
    save(dataset.root / "a_seg.nii.gz", labels_of(0), shifted(0.05))
    flip = AFFINE @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    save(dataset.root / "b_seg.nii.gz", labels_of(1)[::-1], flip)
    problems = check_dataset(dataset).problems
    assert [(p.severity, p.code) for p in problems] == [("info", "reordered-label"), ("info", "rounded-grid")]
    assert "1 label map stored in another order of the axes than the image (b)" in problems[0].text
    assert "1 label map up to 0.050 mm from the image (a)" in problems[1].text


def test_a_label_that_no_case_holds(collection):
    dataset = collection()
    for number, name in enumerate("abc"):
        save(dataset.root / f"{name}_seg.nii.gz", np.minimum(labels_of(number), 1))
    assert found(dataset) == [("warning", "absent-label", "")]


def test_too_few_or_too_many_channels(collection):
    dataset = collection()
    assert found(changed(dataset, "b", images=dataset.cases[1].images[:1])) == [
        ("error", "channel-count", "b")
    ]
    three = only(
        changed(
            dataset, "b", images=(*dataset.cases[1].images, save(dataset.root / "more.nii", image_of(50)))
        )
    )
    assert three.text == "3 channels, expected 2 (T1, T2)"


def test_a_case_without_label_map(collection):
    assert found(changed(collection(), "c", label=None)) == [("error", "missing-label", "c")]


def test_small_volumes(collection):
    dataset = collection()
    corner = (slice(0, 5), slice(0, 6), slice(None))
    for n in range(2):
        save(dataset.root / f"b_{n}.nii.gz", image_of(2 + n)[corner])
    save(dataset.root / "b_seg.nii.gz", labels_of(1)[corner])
    problem = only(dataset)
    assert (problem.severity, problem.code, problem.case) == ("warning", "small-volume", "b")
    assert problem.text.startswith("5 x 6 x 7 voxels")


def rewrite(dataset: Any, name: str, number: int, affine: np.ndarray) -> None:
    for n in range(2):
        save(dataset.root / f"{name}_{n}.nii.gz", image_of(2 * number + n), affine)
    save(dataset.root / f"{name}_seg.nii.gz", labels_of(number), affine)


def test_outliers_of_spacing_and_orientation(collection):
    dataset = collection()
    rewrite(dataset, "b", 1, AFFINE @ np.diag([1, 1, 3.5, 1]))
    rewrite(dataset, "c", 2, AFFINE @ np.diag([1, 1, -1, 1]))
    problems = check_dataset(dataset).problems
    assert [(p.severity, p.code, p.case) for p in problems] == [
        ("warning", "spacing-outlier", "b"),
        ("info", "orientations", ""),
    ]
    assert "8.75 mm" in problems[0].text
    assert "2.5 mm" in problems[0].text
    assert "2 of 3 images" in problems[1].text


def test_default_affines_are_suspected_unless_others_vouch_for_one_mm(collection):
    dataset = collection()
    for number, name in enumerate("abc"):
        rewrite(dataset, name, number, np.diag([-1.0, -1, 1, 1]))
    assert found(dataset) == [("warning", "unknown-spacing", name) for name in "abc"]
    for number, name in enumerate("bc", start=1):
        placed = np.eye(4)
        placed[:3, 3] = 12.5
        rewrite(dataset, name, number, placed)
    assert [code for _, code, _ in found(dataset)] == ["orientations"]


@pytest.mark.parametrize(("top", "words"), [(255, "grey values of a window"), (3000, "never rescaled")])
def test_ct_without_air(collection, top, words):
    dataset = collection(kind="CT")
    for number, name in enumerate("abc"):
        for n in range(2):
            save(dataset.root / f"{name}_{n}.nii.gz", (image_of(2 * number + n) * 400 - 200).astype(np.int16))
    assert found(dataset) == []
    save(dataset.root / "b_1.nii.gz", np.linspace(0, top, num=np.prod(SHAPE)).reshape(SHAPE).astype(np.int16))
    problem = only(dataset)
    assert (problem.severity, problem.code, problem.case) == ("warning", "not-hounsfield", "b")
    assert f"from 0 to {top}" in problem.text
    assert words in problem.advice


def copy_of_a(dataset: Any, name: str, *, dtype: type = np.float64) -> None:
    """The images of case a under another name, in another voxel type."""
    for n in range(2):
        save(dataset.root / f"{name}_{n}.nii.gz", image_of(n).astype(dtype))


def test_exact_copies_of_different_patients_are_errors_but_for_the_first(collection):
    dataset = collection()
    copy_of_a(dataset, "c")
    save(dataset.root / "c_seg.nii.gz", labels_of(0).astype(np.int16))
    problem = only(dataset)
    assert (problem.severity, problem.code, problem.case) == ("error", "duplicate-image", "c")
    assert problem.text == "the same image and labels as case a"


def test_copies_of_one_patient_stay_together(collection):
    dataset = collection()
    copy_of_a(dataset, "c")
    save(dataset.root / "c_seg.nii.gz", labels_of(0))
    same = changed(changed(dataset, "a", patient="P1"), "c", patient="P1")
    assert found(same) == [("warning", "duplicate-image", "c"), ("info", "several-cases", "")]


def test_copies_with_other_labels_are_all_named(collection):
    dataset = collection()
    copy_of_a(dataset, "c")
    assert found(dataset) == [("error", "duplicate-image", "a"), ("error", "duplicate-image", "c")]


def test_a_channel_of_another_case(collection):
    dataset = collection()
    save(dataset.root / "c_1.nii.gz", image_of(0))
    problems = check_dataset(dataset).problems
    assert [(p.severity, p.code, p.case) for p in problems] == [
        ("error", "duplicate-channel", "a"),
        ("error", "duplicate-channel", "c"),
    ]
    assert problems[1].text == "channel T2 holds the voxels of a channel of a"


def test_missing_files_of_a_case_do_not_hide_what_is_wrong_with_the_others(collection):
    dataset = collection()
    save(dataset.root / "b_seg.nii.gz", labels_of(1), shifted(3.0))
    error = IncompleteError("some are gone", cases=dataset.cases[:2], problems=[("c", "no T2")])
    report = check_dataset(dataset.model_copy(update={"cases": error}))
    assert [(p.code, p.case) for p in report.problems] == [("grid-mismatch", "b"), ("incomplete-case", "c")]
    assert report.case_count == 3


def test_a_collection_that_cannot_be_listed_is_one_row(collection):
    dataset = collection().model_copy(update={"cases": InputError("dataset.json is no JSON")})
    assert only(dataset) == Problem("error", "", "unreadable-list", "dataset.json is no JSON")


def test_what_reading_warns_of_is_a_row_and_not_a_line(collection, caplog):
    dataset = collection()
    image = nib.Nifti1Image(image_of(3), AFFINE)
    image.header["sform_code"], image.header["qform_code"] = 1, 1
    image.header.set_qform(shifted(5.0), 1)
    nib.save(image, dataset.root / "b_1.nii.gz")
    with caplog.at_level(logging.WARNING):
        problem = only(dataset)
    assert (problem.severity, problem.code, problem.case) == ("warning", "reader-warning", "b")
    assert "b_1.nii.gz" in problem.text
    assert not caplog.records
    assert logging.getLogger("volseg.io").propagate


def test_a_dicom_fault_keeps_its_own_code(collection, tmp_path):
    (tmp_path / "scan").mkdir()
    dataset = changed(collection(), "b", images=(tmp_path / "scan", tmp_path / "scan"))
    assert {(p.severity, p.case) for p in check_dataset(dataset).problems} == {("error", "b")}


def test_progress_counts_up(collection):
    steps: list[tuple[int, int]] = []
    check_dataset(collection(), progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_a_report_as_csv(collection, tmp_path):
    dataset = collection()
    save(dataset.root / "b_seg.nii.gz", labels_of(1) * 0)
    write_report(check_dataset(dataset), tmp_path / "problems.csv")
    lines = (tmp_path / "problems.csv").read_text().splitlines()
    assert lines[0] == "severity,case,code,text,advice"
    assert lines[1].startswith('warning,b,empty-label,"all 2,261 voxels')
    assert len(lines) == 2


def test_labels_are_judged_even_where_the_image_cannot_be_read(collection):
    dataset = collection()
    for n in range(2):
        (dataset.root / f"b_{n}.nii.gz").write_bytes(b"")
    save(dataset.root / "b_seg.nii.gz", labels_of(1) * 0)
    assert [code for _, code, _ in found(dataset)] == ["unreadable", "unreadable", "empty-label"]
