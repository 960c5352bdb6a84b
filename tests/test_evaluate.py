import csv
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.grids import SHAPE, oblique_grid
from volseg.errors import GeometryError, InputError, OutputError
from volseg.evaluate import (
    MEASURES,
    Score,
    evaluate,
    evaluate_folders,
    evaluate_maps,
    lesions_by_size,
    read_scores,
    summarise,
    summarise_cases,
    write_scores,
)
from volseg.geometry import Grid
from volseg.io import write_label_map
from volseg.labels import LabelRegion, LabelTable
from volseg.metrics import (
    boundary_f1,
    dice,
    hausdorff95_mm,
    iou,
    match_lesions,
    mean_iou,
    pixel_accuracy,
    surface_dice,
    volume_error_ml,
)
from volseg.volume import LabelMap

ANGLE = np.deg2rad(25)
TURN = np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, -1]])
LABELS = LabelTable.from_names(["front", "back"])


def oblique(
    shape: tuple[int, int, int] = (9, 10, 11), origin_mm: tuple[float, float, float] = (-31, 44, 12)
) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = TURN @ np.diag((0.7, 0.9, 2.5))
    affine[:3, 3] = origin_mm
    return Grid(shape, affine)


def two_boxes(grid: Grid, shift: tuple[int, int, int] = (0, 0, 0)) -> LabelMap:
    array = np.zeros(grid.shape, np.uint8)
    array[2:5, 2:7, 2:8] = 1
    array[5:7, 3:6, 3:7] = 2
    return LabelMap(np.roll(array, shift, (0, 1, 2)), grid)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Predictions and references of three cases: perfect, moved by one slice, and empty where label 2 should be."""
    predicted, true = tmp_path / "predicted", tmp_path / "true"
    predicted.mkdir()
    true.mkdir()
    grid = oblique()
    reference = two_boxes(grid)
    without_back = reference.with_array(np.where(reference.array == 2, 0, reference.array))
    for case, prediction in (("a", reference), ("b", two_boxes(grid, (0, 0, 1))), ("c", without_back)):
        write_label_map(prediction, predicted / f"{case}_seg.nii.gz")
        write_label_map(reference, true / f"{case}.nii")
    return predicted, true


def by_key(scores: list[Score]) -> dict[tuple[str, int], Score]:
    return {(score.case, score.label): score for score in scores}


def test_folders_are_paired_and_scored_in_mm(folders: tuple[Path, Path]) -> None:
    scores = evaluate(*folders, labels=LABELS, tolerance_mm=1.0)
    assert [(score.case, score.name) for score in scores] == [
        (c, n) for c in "abc" for n in ("front", "back")
    ]
    found = by_key(scores)
    assert found["a", 1].dice == found["a", 1].iou == found["a", 1].surface_dice == 1
    assert found["a", 1].hausdorff95_mm == 0
    assert found["a", 1].reference_ml == pytest.approx(3 * 5 * 6 * 0.7 * 0.9 * 2.5 / 1000)
    assert found["b", 1].dice == pytest.approx(5 / 6)
    assert found["b", 1].iou == pytest.approx(5 / 7)
    assert found["b", 1].hausdorff95_mm == pytest.approx(2.5, abs=1e-5)
    assert 0 < found["b", 1].surface_dice < 1
    assert found["b", 1].volume_error_ml == 0
    assert found["c", 2].dice == found["c", 2].surface_dice == 0
    assert found["c", 2].hausdorff95_mm == pytest.approx(np.linalg.norm([9 * 0.7, 10 * 0.9, 11 * 2.5]))
    assert found["c", 2].volume_error_ml == pytest.approx(-2 * 3 * 4 * 0.7 * 0.9 * 2.5 / 1000)


def test_a_larger_tolerance_forgives_the_moved_slice(folders: tuple[Path, Path]) -> None:
    strict, lenient = (by_key(evaluate(*folders, tolerance_mm=mm))["b", 1].surface_dice for mm in (1.0, 2.5))
    assert strict == pytest.approx(0.9, abs=0.05), "the walls still match, floor and roof do not"
    assert lenient == pytest.approx(1)


def test_two_files_are_scored(folders: tuple[Path, Path]) -> None:
    predicted, true = folders
    scores = evaluate(predicted / "b_seg.nii.gz", true / "b.nii", labels=LABELS)
    assert scores == evaluate_folders(predicted, true, labels=LABELS)[2:4]
    with pytest.raises(InputError, match=r"the file .* with the folder"):
        evaluate(predicted / "b_seg.nii.gz", true)


def test_labels_found_in_any_case_count_in_every_case(folders: tuple[Path, Path]) -> None:
    predicted, true = folders
    for folder, name in ((predicted, "c_seg.nii.gz"), (true, "c.nii")):
        empty = np.zeros(oblique().shape, np.uint8)
        (folder / name).unlink()
        write_label_map(LabelMap(empty, oblique()), folder / name)
    without_names, with_names = evaluate(predicted, true), evaluate(predicted, true, labels=LABELS)
    measures = [[getattr(score, name) for name in MEASURES] for score in without_names]
    assert measures == [[getattr(score, name) for name in MEASURES] for score in with_names]
    assert [score.name for score in without_names[:2]] == ["label 1", "label 2"]
    assert by_key(without_names)["c", 2].dice == 1
    assert [summary.empty_references for summary in summarise(without_names)] == [1, 1]


def test_missing_and_extra_files_are_named(folders: tuple[Path, Path]) -> None:
    predicted, true = folders
    (predicted / "b_seg.nii.gz").unlink()
    write_label_map(two_boxes(oblique()), predicted / "z_pred.nrrd")
    with pytest.raises(InputError, match=r"1 references in .*: b; 1 predictions in .*: z\."):
        evaluate(predicted, true)


def test_two_files_of_one_case_are_refused(folders: tuple[Path, Path]) -> None:
    predicted, true = folders
    write_label_map(two_boxes(oblique()), predicted / "a_pred.nii.gz")
    with pytest.raises(InputError, match="both of case 'a'"):
        evaluate(predicted, true)


def test_other_files_are_passed_over_and_pairs_are_one_file(folders: tuple[Path, Path]) -> None:
    predicted, true = folders
    (predicted / "scores.csv").write_text("case,dice\n")
    (predicted / "._a_seg.nii.gz").write_bytes(b"left by an archive")
    (predicted / "old").mkdir()
    (true / "a.nii").unlink()
    write_label_map(two_boxes(oblique()), true / "a.hdr")
    assert len(evaluate(predicted, true)) == 6


def test_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no label map"):
        evaluate(tmp_path, tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        evaluate_folders(tmp_path / "nowhere", tmp_path)
    with pytest.raises(InputError, match="nowhere"):
        evaluate(tmp_path / "nowhere.nii", tmp_path / "nowhere.nii")


def test_another_grid_is_refused_in_mm(folders: tuple[Path, Path]) -> None:
    predicted, true = folders
    write_label_map(two_boxes(oblique(origin_mm=(-31, 44, 12.5))), predicted / "moved.nii")
    with pytest.raises(GeometryError, match=r"moved\.nii and .*a\.nii .* 0\.500 mm apart"):
        evaluate(predicted / "moved.nii", true / "a.nii")
    write_label_map(two_boxes(oblique((9, 10, 12))), predicted / "longer.nii")
    with pytest.raises(GeometryError, match=r"\(9, 10, 12\) and \(9, 10, 11\) voxels"):
        evaluate(predicted / "longer.nii", true / "a.nii")


def test_values_outside_the_table_are_refused(folders: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match=r"a_seg\.nii\.gz: holds the values 2, expected 0 and 1\."):
        evaluate(*folders, labels=LabelTable.from_names(["front"]))


def test_a_scan_given_by_mistake_is_refused(tmp_path: Path) -> None:
    array = np.arange(9 * 10 * 13).reshape(9, 10, 13).astype(np.uint16)
    write_label_map(LabelMap(array, oblique(array.shape)), tmp_path / "scan.nii.gz")
    with pytest.raises(InputError, match="1169 different values"):
        evaluate(tmp_path / "scan.nii.gz", tmp_path / "scan.nii.gz")


def test_sheared_grids_are_measured_in_the_world() -> None:
    affine = np.eye(4)
    affine[:3, :3] = [[0.7, 0, 0], [0, 0.9, 0.8], [0, 0, 2.5]]
    grid = Grid((9, 10, 11), affine)
    scores = evaluate_maps(two_boxes(grid, (0, 0, 1)), two_boxes(grid), labels=LABELS, case="tilted")
    between_slices_mm = np.hypot(0.8 - 0.9, 2.5)  # one row back and one slice on is nearer than straight on
    assert scores[0].hausdorff95_mm == pytest.approx(between_slices_mm)
    assert scores[0].reference_ml == pytest.approx(90 * 0.7 * 0.9 * 2.5 / 1000)


def test_the_summary_is_mean_and_sample_deviation(folders: tuple[Path, Path]) -> None:
    scores = evaluate(*folders, labels=LABELS)
    for summary in summarise(scores):
        own = [score for score in scores if score.label == summary.label]
        assert summary.cases == 3
        for name in MEASURES:
            values = [getattr(score, name) for score in own]
            assert summary.mean[name] == pytest.approx(np.mean(values))
            assert summary.deviation[name] == pytest.approx(np.std(values, ddof=1))
            assert summary.median[name] == pytest.approx(np.median(values))
    assert summarise([]) == []
    alone = summarise(scores[:1])[0]
    assert set(alone.deviation.values()) == {0.0}
    assert alone.interval == {}, "one case says nothing about the spread of cases"
    assert summarise(scores)[1].failures == 1


def test_csv_holds_every_score(folders: tuple[Path, Path], tmp_path: Path) -> None:
    scores = evaluate(*folders, labels=LABELS)
    write_scores(scores, tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(scores)
    for row, score in zip(rows, scores, strict=True):
        assert (row["case"], int(row["label"]), row["name"]) == (score.case, score.label, score.name)
        assert float(row["hausdorff95_mm"]) == score.hausdorff95_mm
    with pytest.raises(OutputError, match="nowhere"):
        write_scores(scores, tmp_path / "nowhere/scores.csv")


label_arrays = arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 0, 0, 1, 2, 4]))
TUMOUR = LabelRegion("tumour", (1, 4), 1)


@settings(deadline=None, max_examples=25)
@given(label_arrays, label_arrays, st.sampled_from([0.0, 0.3]))
def test_scores_are_those_of_whole_masks_for_labels_and_regions(first, second, shear) -> None:
    """Measured in the box of the label or in the whole image, the numbers are the same."""
    grid = oblique_grid(shear)
    labels, regions = LabelTable.from_names(["a", "b", "c", "d"]), (TUMOUR,)
    scores = evaluate_maps(
        LabelMap(first, grid), LabelMap(second, grid), labels=labels, regions=regions, case="x"
    )
    assert [(score.label, score.name) for score in scores] == [
        (1, "a"),
        (2, "b"),
        (3, "c"),
        (4, "d"),
        (0, "tumour"),
    ]
    linear = grid.affine[:3, :3]
    for score in scores:
        values = (score.label,) if score.label else TUMOUR.values
        masks = np.isin(first, values), np.isin(second, values)
        assert (score.dice, score.iou) == (dice(*masks), iou(*masks))
        assert score.volume_error_ml == volume_error_ml(*masks, spacing_mm=linear)
        for name, measure in (
            ("hausdorff95_mm", hausdorff95_mm),
            ("surface_dice", surface_dice),
            ("boundary_f1", boundary_f1),
        ):
            assert getattr(score, name) == pytest.approx(measure(*masks, spacing_mm=linear)), name
        assert score.lesions == match_lesions(*masks, spacing_mm=linear)
        assert score.pixel_accuracy == pixel_accuracy(first, second)
        plain = [getattr(score, entry.name) for entry in fields(Score) if entry.name != "lesions"]
        assert {type(value) for value in plain} == {str, int, float}, "no NumPy scalars"
    case = summarise_cases(scores)
    assert case.mean["mean_iou"] == pytest.approx(mean_iou(first, second, values=labels.values))


def scores_of(dices: list[float], *, name: str = "front", label: int = 1) -> list[Score]:
    return [
        Score(
            f"case{n}",
            label,
            name,
            value,
            value / 2,
            3.0,
            value,
            0.1,
            1.0,
            1.0,
            1.0,
            value,
            value,
            4,
            n % 5,
            6,
            3,
            0.9,
        )
        for n, value in enumerate(dices)
    ]


def drawn_interval(values: list[float]) -> tuple[float, float]:
    """The percentile bootstrap of the mean, draw by draw."""
    random = np.random.default_rng(0)
    means = [random.choice(values, len(values)).mean() for _ in range(10000)]
    return np.quantile(means, 0.025), np.quantile(means, 0.975)


def test_the_interval_is_the_percentile_bootstrap_of_the_mean() -> None:
    values = np.random.default_rng(5).beta(8, 2, 30).tolist()
    summary = summarise(scores_of(values))[0]
    assert summary.interval["dice"] == pytest.approx(drawn_interval(values), abs=0.004)
    assert summarise(scores_of(values))[0] == summary, "the same scores give the same interval"
    hits = [n % 5 for n in range(30)]
    assert (summary.lesion_recall.hits, summary.lesion_recall.total) == (sum(hits), 120)
    pooled = drawn_interval([hit / 4 for hit in hits])
    assert summary.lesion_recall.interval == pytest.approx(pooled, abs=0.02)


def test_patients_are_drawn_and_not_their_cases() -> None:
    scores = scores_of([0.2] * 10 + [0.8] * 10)
    patients = {f"case{n}": "ab"[n // 10] for n in range(20)}
    apart, together = summarise(scores)[0], summarise(scores, patients=patients)[0]
    assert together.interval["dice"] == pytest.approx((0.2, 0.8)), (
        "of two patients, the same one is often drawn twice"
    )
    assert apart.interval["dice"][0] > 0.3
    assert summarise(scores, patients=dict.fromkeys(patients, ""))[0] == apart
    assert summarise(scores, patients=dict.fromkeys(patients, "a"))[0].interval == {}


def test_regions_follow_the_labels_in_their_own_order() -> None:
    scores = [
        *scores_of([0.5], name="whole", label=0),
        *scores_of([0.7], name="core", label=0),
        *scores_of([0.9], label=2),
        *scores_of([0.3], label=1),
    ]
    assert [(row.label, row.name, row.mean["dice"]) for row in summarise(scores)] == [
        (1, "front", 0.3),
        (2, "front", 0.9),
        (0, "whole", 0.5),
        (0, "core", 0.7),
    ]
    assert summarise_cases(scores).mean["mean_iou"] == pytest.approx((0.45 + 0.15) / 2), "labels alone"


def test_lesions_are_counted_by_size() -> None:
    grid = Grid.from_spacing((12, 13, 14), (0.7, 0.9, 2.5))
    reference, prediction = np.zeros((2, 12, 13, 14), np.uint8)
    reference[1:5, 1:5, 1:5] = prediction[1:5, 1:5, 2:5] = 1
    reference[8, 8, 8] = reference[11, 12, 13] = prediction[8, 8, 8] = 1
    prediction[9:11, 1:3, 9:12] = 1
    scores = evaluate_maps(
        LabelMap(prediction, grid),
        LabelMap(reference, grid),
        labels=LabelTable.from_names(["spot"]),
        case="a",
    )
    small, large = lesions_by_size(scores, limits_ml=(0.05,))
    assert (small.low_ml, small.high_ml, large.high_ml) == (0, 0.05, float("inf"))
    assert [(bin_.recall.hits, bin_.recall.total) for bin_ in (small, large)] == [(1, 2), (1, 1)]
    assert [(bin_.precision.hits, bin_.precision.total) for bin_ in (small, large)] == [(1, 2), (1, 1)]
    assert (small.recall.value, small.recall.interval) == (0.5, None)
    assert lesions_by_size([replace(score, lesions=None) for score in scores]) == []
    for limits in ((), (1, 1), (0, 1), (2, 1), (float("nan"),)):
        if limits:
            with pytest.raises(InputError, match="rising"):
                lesions_by_size(scores, limits_ml=limits)
    assert len(lesions_by_size(scores, limits_ml=())) == 1


def test_csv_comes_back_and_older_files_are_read(folders: tuple[Path, Path], tmp_path: Path) -> None:
    scores = evaluate(*folders, labels=LABELS, regions=(LabelRegion("both", (1, 2), 1),))
    path = tmp_path / "scores.csv"
    write_scores(scores, path)
    assert read_scores(path) == scores
    lines = [line.split(",") for line in path.read_text().splitlines()]
    assert lines[0] == [entry.name for entry in fields(Score) if entry.name != "lesions"]
    path.write_text("\n".join(",".join(line[:11]) for line in lines) + "\n")
    old = read_scores(path)
    assert [(score.dice, score.tolerance_mm) for score in old] == [(score.dice, 1.0) for score in scores]
    assert {score.boundary_f1 for score in old} == {None}
    summary = summarise(old)[0]
    assert summary.mean["dice"] == summarise(scores)[0].mean["dice"]
    assert "boundary_f1" not in summary.mean
    assert summary.lesion_recall is None
    write_scores(old, path)
    assert read_scores(path) == old
    assert set(summarise_cases(old).mean) == {"mean_iou"}


@pytest.mark.parametrize("text", ["case,dice\na,0.5\n", "case,label\na,one\n", "scan\nb\n"])
def test_a_csv_of_something_else_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text(text)
    with pytest.raises(InputError, match=r"other\.csv: is no list of scores"):
        read_scores(tmp_path / "other.csv")


def test_values_are_renamed_and_never_mixed(folders: tuple[Path, Path]) -> None:
    predicted, true = folders
    older = two_boxes(oblique())
    write_label_map(older.with_array(np.where(older.array == 2, 4, older.array)), true / "a.nii")
    scores = by_key(evaluate(predicted / "a_seg.nii.gz", true / "a.nii", remap={4: 2}, labels=LABELS))
    assert scores["a", 2].dice == 1
    with pytest.raises(InputError, match=r"holds the values 2 and 1"):
        evaluate(predicted / "a_seg.nii.gz", true / "a.nii", remap={2: 1})


def test_a_region_counts_in_cases_without_any_label(tmp_path: Path) -> None:
    for folder in ("p", "r"):
        (tmp_path / folder).mkdir()
        write_label_map(two_boxes(oblique()), tmp_path / folder / "a.nii")
        write_label_map(LabelMap(np.zeros((9, 10, 11), np.uint8), oblique()), tmp_path / folder / "b.nii")
    scores = evaluate(tmp_path / "p", tmp_path / "r", regions=(LabelRegion("both", (1, 2), 1),))
    assert [(score.case, score.name) for score in scores] == [
        (case, name) for case in "ab" for name in ("label 1", "label 2", "both")
    ]
    assert {score.pixel_accuracy for score in scores} == {1.0}
