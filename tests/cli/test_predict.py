"""`volseg predict` on good input: what it writes and what it says."""

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import volseg


def test_default_output_lies_beside_the_scan_on_its_grid(volseg_cli, scan, tiny_package):
    outcome = volseg_cli("predict", scan, "--model", tiny_package)
    assert (outcome.code, outcome.err) == (0, "")
    assert sorted(path.name for path in scan.parent.iterdir()) == ["scan.nii.gz", "scan_seg.nii.gz"]
    written, source = nib.load(scan.parent / "scan_seg.nii.gz"), nib.load(scan)
    assert written.shape == source.shape
    assert np.allclose(written.affine, source.affine, atol=1e-5)
    assert written.get_data_dtype() == np.uint8
    assert set(np.unique(written.dataobj)) <= {0, 1, 4}


def test_output_tells_model_device_volumes_and_files(volseg_cli, scan, tiny_package):
    out = volseg_cli("predict", scan, "--model", tiny_package, "--device", "cpu").out
    labels = np.asarray(nib.load(scan.parent / "scan_seg.nii.gz").dataobj)
    voxel_ml = abs(np.linalg.det(nib.load(scan).affine[:3, :3])) / 1000
    assert "tiny 0.1 on cpu" in out
    assert str(scan.parent / "scan_seg.nii.gz") in out
    for value, name in ((1, "anterior"), (4, "posterior")):
        voxels = int((labels == value).sum())
        assert voxels > 0
        (line,) = [line for line in out.splitlines() if name in line]
        assert line.split() == [str(value), name, str(voxels), f"{voxels * voxel_ml:.3f}"]
    assert " s\n" in out


@pytest.mark.parametrize("name", ["out.nii", "out.nrrd", "out.mha", "sub.folder/out.seg.nii.gz"])
def test_output_option(volseg_cli, scan, tiny_package, tmp_path, name):
    (tmp_path / "sub.folder").mkdir()
    assert volseg_cli("predict", scan, "-o", tmp_path / name, "-m", tiny_package).code == 0
    assert volseg_cli("predict", scan, "-m", tiny_package).code == 0
    first, second = (volseg.read_label_map(path) for path in (tmp_path / name, tmp_path / "scan_seg.nii.gz"))
    assert first.grid.is_same(second.grid)
    assert np.array_equal(first.array, second.array)


def test_a_previous_result_is_replaced(volseg_cli, scan, tiny_package, tmp_path):
    (tmp_path / "scan_seg.nii.gz").write_bytes(b"old")
    assert volseg_cli("predict", scan, "-m", tiny_package).code == 0
    assert volseg.read_label_map(tmp_path / "scan_seg.nii.gz").array.any()


def test_probabilities_and_preview(volseg_cli, scan, tiny_package, tmp_path):
    target = tmp_path / "labels.nii.gz"
    outcome = volseg_cli(
        "predict",
        scan,
        "-o",
        target,
        "-m",
        tiny_package,
        "--save-probabilities",
        "--preview",
        tmp_path / "p.png",
    )
    assert outcome.code == 0, outcome.err
    probabilities = volseg.read_volume(tmp_path / "labels_prob.nii.gz")
    label_map = volseg.read_label_map(target)
    assert probabilities.grid.is_same(label_map.grid)
    assert np.allclose(probabilities.array.sum(axis=0), 1, atol=1e-4)
    chosen = np.array([0, 1, 4])[probabilities.array.argmax(axis=0)]
    assert (chosen == label_map.array).mean() > 0.999
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    for name in ("labels.nii.gz", "labels_prob.nii.gz", "p.png"):
        assert str(tmp_path / name) in outcome.out


def test_several_files_are_channels_in_order(
    volseg_cli, scan, write_nifti, scan_array, two_channel_package, tmp_path
):
    second = write_nifti(tmp_path / "t2.nii.gz", scan_array[::-1].copy())
    assert volseg_cli("predict", scan, second, "-m", two_channel_package).code == 0
    assert volseg_cli("predict", second, scan, "-m", two_channel_package).code == 0
    forward, backward = (
        volseg.read_label_map(tmp_path / f"{name}_seg.nii.gz").array for name in ("scan", "t2")
    )
    assert not np.array_equal(forward, backward)


def test_python_gives_what_the_command_line_gives(volseg_cli, scan, tiny_package, tmp_path):
    assert volseg_cli("predict", scan, "-m", tiny_package, "--device", "cpu").code == 0
    written = volseg.read_label_map(tmp_path / "scan_seg.nii.gz")
    for source in (scan, str(scan), [scan], volseg.read_volume(scan)):
        label_map = volseg.predict(source, model=tiny_package, device="cpu")
        assert np.array_equal(label_map.array, written.array)
        assert label_map.grid.is_same(written.grid)
    assert [label.name for label in label_map.labels] == ["anterior", "posterior"]


def test_warnings_are_plain_lines_on_stderr(volseg_cli, scan, tiny_package, monkeypatch):
    def warn(*_: object, **__: object) -> None:
        logging.getLogger("volseg.io").warning("sform and qform disagree by %.1f mm", 3.0)

    monkeypatch.setattr("volseg.api.write_label_map", warn)
    outcome = volseg_cli("predict", scan, "-m", tiny_package)
    assert outcome.err == "volseg: warning: sform and qform disagree by 3.0 mm\n"
    assert outcome.code == 0


def test_a_name_that_is_not_unicode(tiny_package, scan):
    odd = Path(str(scan.parent / "scan") + "\udcff.nii.gz")
    shutil.copy(scan, odd)
    command = [sys.executable, "-m", "volseg", "predict", str(odd), "-m", str(tiny_package)]
    result = subprocess.run(command, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    assert Path(str(scan.parent / "scan") + "\udcff_seg.nii.gz").exists()


def test_a_network_is_stopped_at_the_head_asked_for(volseg_cli, scan, tiny_package):
    done = volseg_cli("predict", scan, "--model", tiny_package, "--head", 1)
    assert done.code == 0
    assert "stopped at head 1, as asked" in done.out
    refused = volseg_cli("predict", scan, "--model", tiny_package, "--head", 2)
    assert refused.code != 0
    assert "this unetpp has no head 2; it has heads 1 to 1" in " ".join(refused.err.split())
