"""`volseg predict` on DICOM: the right series, tilted slices, results on the source's own planes."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from pydicom import dcmread

import volseg
from tests.cli.conftest import tiny_info
from tests.dicom_files import SECRETS, SeriesSpec, write_series, zip_folder
from volseg.api import SeriesOptions
from volseg.models import MODELS, Architecture
from volseg.models.extents import ExtentRule
from volseg.package import ChannelInfo, TileInfo, write_package
from volseg.volume import LabelMap

THRESHOLD = 450.0


class Bright(torch.nn.Module):
    """Pointwise: label 1 where the first channel is above THRESHOLD, label 4 far above."""

    extents = ExtentRule.multiples_of((1, 1, 1))

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(3))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        levels = torch.tensor([0.0, THRESHOLD, 2 * THRESHOLD + 5000])
        return batch[:, :1] * self.scale.reshape(1, 3, 1, 1, 1) - levels.reshape(1, 3, 1, 1, 1)


@MODELS.add
class BrightArchitecture(Architecture):
    name: Literal["test_bright_dicom"] = "test_bright_dicom"

    def build(self, in_channels, label_count, *, head=None):
        return Bright()


def write_bright(path: Path, *preprocess: dict[str, object], **fields: object) -> Path:
    info = tiny_info(1).model_copy(
        update={
            "architecture": {"name": "test_bright_dicom"},
            "channels": [ChannelInfo(name="CT", modality="CT")],
            "preprocess": list(preprocess),
            "tile": TileInfo(tile_voxels=(8, 9, 7), overlap=0.25),
            **fields,
        }
    )
    weights = {"scale": np.float32([0, 1, 1])}
    write_package(path, info=info, weights=weights, card="# Bright\n", golden=None)
    return path


def blob_spec(**changes: object) -> SeriesSpec:
    """A CT series with a ball of 1000 HU in the patient (in mm, whatever the slices do) in a background of 0 HU."""
    spec = SeriesSpec(
        shape=(26, 24, 12), spacing_mm=(0.9, 1.1, 2.0), intercept=0.0, description="blob", **changes
    )
    points = spec.grid.index_to_world(np.moveaxis(np.indices(spec.shape), 0, -1))
    centre = spec.grid.index_to_world([15.0, 9.0, 6.0])
    ball = 1000 * np.exp(-np.square(np.linalg.norm(points - centre, axis=-1) / 5.0))

    def edit(dataset, number):
        dataset.PixelData = np.rint(ball[:, :, number].T).astype("<u2").tobytes()

    return replace(spec, edit=edit)


def expected_labels(folder: Path) -> np.ndarray:
    return volseg.read_series(folder).array[0] > THRESHOLD


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


RESPACE = {"name": "respace", "spacing_mm": (0.9, 1.1, 1.5)}
ORIENT = {"name": "orient", "codes": "RAS"}


@pytest.mark.parametrize("tilt", [0.0, 18.0, -25.0])
@pytest.mark.parametrize(
    "steps", [(), (ORIENT,), (RESPACE,), (ORIENT, RESPACE)], ids=lambda s: f"{len(s)} steps"
)
def test_a_bright_ball_comes_back_on_the_tilted_slices(volseg_cli, tmp_path: Path, tilt, steps):
    written = write_series(tmp_path / "export", blob_spec(tilt_degrees=tilt))
    model = write_bright(tmp_path / "bright.volseg", *steps)
    outcome = volseg_cli("predict", tmp_path / "export", "-m", model)
    assert outcome.code == 0, outcome.err
    found = volseg.read_label_map(tmp_path / "export_seg.nii.gz")
    assert found.grid.is_same(written.grid)
    wanted = expected_labels(tmp_path / "export")
    assert wanted.sum() > 80
    if RESPACE in steps:
        assert dice(found.array == 1, wanted) > 0.93
        centres = [np.argwhere(labels).mean(axis=0) for labels in (found.array == 1, wanted)]
        assert np.linalg.norm(np.subtract(*written.grid.index_to_world(centres))) < 0.25
    else:
        np.testing.assert_array_equal(found.array == 1, wanted)


def test_the_network_sees_a_ball_where_the_gantry_was_tilted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """On the sheared array the ball would be an ellipsoid that leans over; the model's grid has none of it."""
    from volseg.infer import predictor

    grids = []
    original = predictor.preprocess_volume

    def spy(volume, steps):
        result = original(volume, steps)
        grids.append(result.grid)
        return result

    monkeypatch.setattr(predictor, "preprocess_volume", spy)
    write_series(tmp_path / "export", blob_spec(tilt_degrees=18.0))
    volseg.predict(tmp_path / "export", write_bright(tmp_path / "b.volseg", RESPACE), device="cpu")
    assert not grids[0].is_sheared


def test_the_choice_is_explained(volseg_cli, tmp_path: Path):
    write_series(tmp_path / "export" / "a", blob_spec())
    mr = blob_spec(modality="MR", series_uid="1.2.826.0.1.999.1.5", orientation="sagittal")
    write_series(tmp_path / "export" / "b", replace(mr, description="head"))
    model = write_bright(tmp_path / "b.volseg")
    outcome = volseg_cli("predict", tmp_path / "export", "-m", model, "-o", tmp_path / "out.nii.gz")
    assert outcome.code == 0, outcome.err
    chosen, rejected = outcome.out.splitlines()[:2]
    assert chosen.startswith("series  CT 'blob' 26 x 24 x 12 at")
    assert "chosen because" in chosen
    assert "MR 'head'" in rejected
    assert "its modality is MR and the model's is CT" in rejected
    assert not [secret for secret in SECRETS if secret in outcome.out + outcome.err]


def test_several_series_that_fit_are_listed(volseg_cli, tmp_path: Path):
    for number in (1, 2):
        spec = blob_spec(series_uid=f"1.2.826.0.1.999.4.{number}", tilt_degrees=5.0 * number)
        write_series(tmp_path / "export" / str(number), spec)
    model = write_bright(tmp_path / "b.volseg")
    arguments = ("predict", tmp_path / "export", "-m", model)
    outcome = volseg_cli(*arguments)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "--series 1.2.826.0.1.999.4.2" in outcome.err
    assert not (tmp_path / "export_seg.nii.gz").exists()
    assert volseg_cli(*arguments, "--series", "999.4.2").code == 0
    found = volseg.read_label_map(tmp_path / "export_seg.nii.gz")
    assert found.grid.is_same(blob_spec(tilt_degrees=10.0).grid)
    by_python = volseg.predict(tmp_path / "export", model, options=SeriesOptions(series="999.4.2"))
    np.testing.assert_array_equal(found.array, by_python.array)


def test_gaps_need_a_word(volseg_cli, tmp_path: Path):
    write_series(tmp_path / "export", blob_spec()).files[4].unlink()
    arguments = ("predict", tmp_path / "export", "-m", write_bright(tmp_path / "b.volseg"))
    refused = volseg_cli(*arguments)
    assert refused.code == 2
    assert "--allow-gaps" in refused.err
    allowed = volseg_cli(*arguments, "--allow-gaps")
    assert allowed.code == 0
    assert "warning" in allowed.err
    assert volseg.read_label_map(tmp_path / "export_seg.nii.gz").grid.is_same(blob_spec().grid)


def test_join(volseg_cli, tmp_path: Path):
    written = write_series(tmp_path / "export", blob_spec())
    for file in written.files[6:]:
        dataset = dcmread(file)
        dataset.SeriesInstanceUID = "1.2.826.0.1.999.1.8"
        dataset.save_as(file)
    arguments = ("predict", tmp_path / "export", "-m", write_bright(tmp_path / "b.volseg"))
    assert volseg_cli(*arguments).code == 2
    assert volseg_cli(*arguments, "--join").code == 0
    assert volseg.read_label_map(tmp_path / "export_seg.nii.gz").grid.is_same(written.grid)


def test_an_archive_and_a_single_file(volseg_cli, tmp_path: Path):
    written = write_series(tmp_path / "export", blob_spec())
    archive = zip_folder(tmp_path / "export", tmp_path / "scan.zip")
    model = write_bright(tmp_path / "b.volseg")
    assert volseg_cli("predict", archive, "-m", model).code == 0
    assert volseg.read_label_map(tmp_path / "scan_seg.nii.gz").grid.is_same(written.grid)
    assert volseg_cli("predict", written.files[6], "-m", model).code == 0
    one = volseg.read_label_map(written.files[6].with_name(f"{written.files[6].name}_seg.nii.gz"))
    assert one.grid.shape == (26, 24, 1)


@pytest.mark.parametrize("tilt", [0.0, 18.0])
def test_dicom_results_lie_on_the_source(volseg_cli, tmp_path: Path, tilt: float):
    written = write_series(tmp_path / "export", blob_spec(tilt_degrees=tilt))
    model = write_bright(tmp_path / "b.volseg")
    outcome = volseg_cli("predict", tmp_path / "export", "-m", model, "--format", "nifti,dicomseg,rtstruct")
    assert outcome.code == 0, outcome.err
    names = ("export_seg.nii.gz", "export_seg.dcm", "export_rtstruct.dcm")
    assert all(str(tmp_path / name) in outcome.out for name in names)
    assert dcmread(tmp_path / names[1]).Modality == "SEG"
    assert dcmread(tmp_path / names[2]).Modality == "RTSTRUCT"
    nifti, seg = (volseg.read_label_map(tmp_path / name) for name in names[:2])
    assert centre_of(nifti, nifti.array == 1) == pytest.approx(centre_of(seg, seg.array > 0), abs=0.01)
    assert np.count_nonzero(seg.array) == np.count_nonzero(nifti.array)
    assert written.grid.is_same(nifti.grid)


def centre_of(label_map: LabelMap, mask: np.ndarray) -> np.ndarray:
    return label_map.grid.index_to_world(np.argwhere(mask).mean(axis=0))


def test_the_suffix_dcm_is_a_seg(volseg_cli, tmp_path: Path):
    write_series(tmp_path / "export", blob_spec())
    model = write_bright(tmp_path / "b.volseg")
    assert volseg_cli("predict", tmp_path / "export", "-m", model, "-o", tmp_path / "out.dcm").code == 0
    dataset = dcmread(tmp_path / "out.dcm")
    assert dataset.Modality == "SEG"
    assert "tiny" in str(dataset.SegmentSequence[0])


def test_dicom_results_of_an_image_are_refused(volseg_cli, scan: Path, tiny_package: Path, tmp_path: Path):
    for arguments in (("-o", tmp_path / "out.dcm"), ("--format", "rtstruct"), ("--format", "nifti,dicomseg")):
        outcome = volseg_cli("predict", scan, "-m", tiny_package, *arguments)
        assert outcome.code == 2
        assert "DICOM series" in outcome.err
    assert list(tmp_path.glob("*.dcm")) == []


def test_an_unknown_format(volseg_cli, scan: Path):
    outcome = volseg_cli("predict", scan, "--format", "nifti,dicom")
    assert outcome.code == 2
    assert "'dicom' is none of nifti, dicomseg, rtstruct" in outcome.err


def test_the_preview_is_named_after_no_folder(volseg_cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from volseg.report import preview

    titles = []
    original = preview._draw
    monkeypatch.setattr(preview, "_draw", lambda *parts: titles.append(parts[2]) or original(*parts))
    write_series(tmp_path / "GEHEIM_NAME", blob_spec())
    model = write_bright(tmp_path / "b.volseg")
    picture = tmp_path / "p.png"
    arguments = (
        "predict",
        tmp_path / "GEHEIM_NAME",
        "-m",
        model,
        "-o",
        tmp_path / "o.nii",
        "--preview",
        picture,
    )
    assert volseg_cli(*arguments).code == 0
    assert titles == ["CT series"]
    assert picture.read_bytes().startswith(b"\x89PNG")
