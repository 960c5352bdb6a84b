import csv
import re
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from volseg.cli.evaluate import evaluate as verb
from volseg.errors import ConfigError, GeometryError, InputError, OutputError
from volseg.evaluate import (
    MEASURES,
    Score,
    evaluate,
    evaluate_folders,
    evaluate_maps,
    summarise,
    write_scores,
)
from volseg.geometry import Grid
from volseg.io import write_label_map
from volseg.labels import LabelTable
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
    assert summarise([]) == []
    assert set(summarise(scores[:1])[0].deviation.values()) == {0.0}


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


def test_the_verb_prints_a_table_and_writes_csv(folders: tuple[Path, Path], tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(verb)
    target = tmp_path / "scores.csv"
    arguments = [
        *map(str, folders),
        "--labels",
        "1=front, 2=back",
        "--tolerance-mm",
        "2",
        "--csv",
        str(target),
    ]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert re.search(r"^ *b +front +0\.8333 +0\.7143 +2\.50", result.output, re.MULTILINE)
    assert re.search(r"^ *back +3 +0 +0\.\d{4} ± 0\.\d{4}", result.output, re.MULTILINE)
    assert "NSD 2 mm" in result.output
    assert len(target.read_text().splitlines()) == 7


def test_the_verb_refuses_labels_it_cannot_read(folders: tuple[Path, Path]) -> None:
    app = typer.Typer()
    app.command()(verb)
    with pytest.raises(ConfigError, match="VALUE=NAME"):
        CliRunner().invoke(app, [*map(str, folders), "--labels", "front"], catch_exceptions=False)
