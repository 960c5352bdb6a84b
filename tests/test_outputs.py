"""Where results go: names by format, and refusals before anything runs."""

from pathlib import Path

import pytest

from tests.dicom_files import SeriesSpec, write_series
from volseg.errors import OutputError
from volseg.outputs import FORMATS, Outputs, default_output, plan_outputs


@pytest.fixture
def series(tmp_path: Path) -> Path:
    write_series(tmp_path / "X", SeriesSpec())
    return tmp_path / "X"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("scan.nii.gz", "scan_seg.nii.gz"),
        ("scan.v2.nrrd", "scan.v2_seg.nii.gz"),
        ("series.zip", "series_seg.nii.gz"),
        ("IM0001", "IM0001_seg.nii.gz"),
        ("IM.0001", "IM.0001_seg.nii.gz"),
        ("IM0001.dcm", "IM0001_seg.nii.gz"),
        ("DICOMDIR", "DICOMDIR_seg.nii.gz"),
    ],
)
def test_default_names(source: str, expected: str, tmp_path: Path):
    assert default_output(tmp_path / source) == tmp_path / expected


def test_the_result_of_a_folder_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "ct.1").mkdir()
    assert default_output(tmp_path / "ct.1") == tmp_path / "ct.1_seg.nii.gz"
    monkeypatch.chdir(tmp_path / "ct.1")
    assert default_output(Path()) == tmp_path / "ct.1_seg.nii.gz"
    assert default_output(Path("..")).parent == tmp_path.parent


@pytest.mark.parametrize(
    ("path", "formats", "expected"),
    [
        (None, (), ["X_seg.nii.gz"]),
        (None, FORMATS, ["X_seg.nii.gz", "X_seg.dcm", "X_rtstruct.dcm"]),
        ("out.nrrd", (), ["out.nrrd"]),
        ("out.dcm", (), ["out.dcm"]),
        ("out.DCM", (), ["out.DCM"]),
        ("out.dcm", ("rtstruct",), ["out.dcm"]),
        ("out.dcm", ("dicomseg", "rtstruct"), ["out.dcm", "out_rtstruct.dcm"]),
        ("out.nii.gz", FORMATS, ["out.nii.gz", "out.dcm", "out_rtstruct.dcm"]),
        ("out.mha", ("nifti", "nifti"), ["out.mha"]),
        ("out.dcm", ("nifti",), ["out.nii.gz"]),
    ],
)
def test_formats_lie_beside_each_other(path, formats, expected, series: Path, tmp_path: Path):
    planned = plan_outputs(Outputs(path and tmp_path / path, formats), [series])
    assert [file.name for file in planned.files] == expected
    assert all(file.parent == tmp_path for file in planned.files)


def test_probabilities_and_preview(series: Path, tmp_path: Path):
    planned = plan_outputs(
        Outputs(tmp_path / "out.dcm", save_probabilities=True, preview=tmp_path / "p.png"), [series]
    )
    assert [file.name for file in planned.files] == ["out.dcm", "out_prob.nii.gz", "p.png"]


@pytest.mark.parametrize("formats", [("dicomseg",), ("nifti", "rtstruct")])
def test_dicom_results_need_a_dicom_source(formats, tmp_path: Path):
    (tmp_path / "scan.nii.gz").write_bytes(b"x")
    with pytest.raises(OutputError, match=r"refer to the images of a DICOM series"):
        plan_outputs(Outputs(None, formats), [tmp_path / "scan.nii.gz"])


def test_a_slice_is_not_overwritten(tmp_path: Path):
    written = write_series(tmp_path / "X", SeriesSpec(file_name=lambda n: f"{n}.dcm"))
    with pytest.raises(OutputError, match="would be overwritten"):
        plan_outputs(Outputs(written.files[2]), [tmp_path / "X"])
    with pytest.raises(OutputError, match="the output is the input"):
        plan_outputs(Outputs(written.files[2]), [written.files[2]])


@pytest.mark.parametrize("name", ["out.txt", "out", "out.dicom"])
def test_an_unknown_suffix(name: str, series: Path, tmp_path: Path):
    with pytest.raises(OutputError, match=r"\.nii\.gz"):
        plan_outputs(Outputs(tmp_path / name), [series])
