"""Bad input, one by one: exit code 2, one paragraph that names what is wrong, no traceback, nothing written."""

import gzip
import resource
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch


@pytest.fixture
def refuses(volseg_cli, tiny_package, tmp_path):
    """Run predict and check that it refuses as it should; returns the paragraph."""

    def check(*arguments: object, model: object = tiny_package, says: tuple[str, ...] = ()) -> str:
        before = sorted(tmp_path.rglob("*"))
        outcome = volseg_cli("predict", *arguments, "--model", model)
        assert outcome.code == 2, outcome
        assert outcome.out == ""
        lines = outcome.err.strip().splitlines()
        refusals = [line for line in lines if not line.startswith("volseg: warning:")]
        assert len(refusals) == 1, "one paragraph"
        assert refusals[0].startswith("volseg: ")
        assert "Traceback" not in outcome.err
        assert 40 < len(refusals[0]) < 900
        for words in says:
            assert words in refusals[0], (words, refusals[0])
        assert sorted(tmp_path.rglob("*")) == before, "nothing is written, nothing is left behind"
        return refusals[0]

    return check


def nifti_bytes(array: np.ndarray, **header: object) -> bytearray:
    """A single-file NIfTI with some header fields overwritten after the fact."""
    image = nib.Nifti1Image(array, np.diag([0.7, 0.9, 2.5, 1]))
    raw = bytearray(image.to_bytes())
    fields = nib.Nifti1Header.from_fileobj(_stream(raw), check=False)
    for name, value in header.items():
        fields[name] = value
    raw[:348] = fields.binaryblock
    return raw


def _stream(raw: bytearray):
    from io import BytesIO

    return BytesIO(bytes(raw))


ARRAY = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.hdr", "a.mgz", "a.nrrd", "a.mha"])
def test_not_an_image(refuses, tmp_path, name):
    path = tmp_path / name
    path.write_text("this is a letter, not a scan; " * 40)
    refuses(path, says=(str(path),))


def test_zero_bytes(refuses, tmp_path):
    path = tmp_path / "a.nii.gz"
    path.touch()
    refuses(path, says=(str(path), "empty"))


def test_unknown_suffix(refuses, tmp_path):
    path = tmp_path / "scan.txt"
    path.write_text("hello")
    refuses(path, says=(str(path), ".nii"))


def test_no_such_file(refuses, tmp_path):
    refuses(tmp_path / "missing.nii.gz", says=("missing.nii.gz", "no such file"))


def test_truncated_gzip(refuses, scan):
    scan.write_bytes(scan.read_bytes()[:-4000])
    refuses(scan, says=(str(scan),))


def test_damaged_gzip(refuses, scan):
    data = bytearray(scan.read_bytes())
    data[len(data) // 2] ^= 0xFF
    scan.write_bytes(data)
    refuses(scan, says=(str(scan),))


def test_truncated_nifti(refuses, tmp_path):
    path = tmp_path / "a.nii"
    path.write_bytes(nifti_bytes(ARRAY)[:-20])
    refuses(path, says=(str(path), "header"))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_header_that_claims_27_trillion_voxels(refuses, tmp_path, name):
    raw = bytes(nifti_bytes(ARRAY, dim=[3, 30000, 30000, 30000, 1, 1, 1, 1]))
    path = tmp_path / name
    path.write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    refuses(path, says=(str(path), "header"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_voxels(refuses, tmp_path, write_nifti, value):
    array = ARRAY.astype(np.float32)
    array[4, 0, 2] = value
    refuses(write_nifti(tmp_path / "a.nii.gz", array), says=("(4, 0, 2)",))


def test_rgb(refuses, tmp_path, write_nifti):
    rgb = np.zeros((5, 6, 7), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    path = write_nifti(tmp_path / "a.nii.gz", rgb)
    refuses(path, says=(str(path),))


def test_complex(refuses, tmp_path, write_nifti):
    path = write_nifti(tmp_path / "a.nii.gz", ARRAY.astype(np.complex64))
    refuses(path, says=(str(path), "complex"))


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_unusable_affine(refuses, tmp_path, bad):
    path = tmp_path / "a.nii"
    row = [bad, 0, 0, 0]
    raw = nifti_bytes(ARRAY, sform_code=1, qform_code=0, srow_x=row, srow_y=row, srow_z=row)
    path.write_bytes(raw)
    refuses(path, says=(str(path),))


def test_empty_volume(refuses, tmp_path):
    path = tmp_path / "a.nii"
    path.write_bytes(nifti_bytes(ARRAY, dim=[3, 5, 0, 7, 1, 1, 1, 1]))
    refuses(path, says=(str(path),))


def test_negative_extent(refuses, tmp_path):
    path = tmp_path / "a.nii"
    path.write_bytes(nifti_bytes(ARRAY, dim=[3, 5, -6, 7, 1, 1, 1, 1]))
    refuses(path, says=(str(path),))


def test_a_directory(refuses, tmp_path):
    refuses(tmp_path, says=(str(tmp_path), "folder"))
    (tmp_path / "folder.nii.gz").mkdir()
    refuses(tmp_path / "folder.nii.gz", says=("folder",))


def test_no_read_permission(volseg_cli, tiny_package, scan, without_privileges):
    assert (
        volseg_cli("predict", scan, "-m", tiny_package).code == 0
    )  # all modules are loaded while we still may
    with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile(suffix=".volseg") as model:
        Path(folder).chmod(0o777)
        Path(model.name).write_bytes(tiny_package.read_bytes())
        Path(model.name).chmod(0o644)
        locked = Path(folder) / "locked.nii.gz"
        locked.write_bytes(scan.read_bytes())
        locked.chmod(0o000)
        with without_privileges():
            outcome = volseg_cli("predict", locked, "-m", model.name)
        locked.chmod(0o600)
    assert outcome.code == 2
    assert "locked.nii.gz" in outcome.err
    assert "permission" in outcome.err


def test_no_write_permission_is_told_before_the_model_runs(
    volseg_cli, scan, tiny_package, without_privileges
):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        with without_privileges():
            outcome = volseg_cli("predict", scan, "-m", tiny_package, "-o", Path(folder) / "seg.nii.gz")
    assert outcome.code == 2
    assert "cannot write into the folder" in outcome.err
    assert "ermission" in outcome.err


def test_no_space_to_write(refuses, scan, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        refuses(scan, "-o", tmp_path / "seg.nii", says=("seg.nii", "no space"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_output_is_the_input(refuses, scan, tmp_path):
    before = scan.read_bytes()
    refuses(scan, "-o", scan, says=("the output is the input",))
    refuses(scan, "-o", scan.parent / "." / "scan.nii.gz", says=("the output is the input",))
    (tmp_path / "link.nii.gz").symlink_to(scan)
    refuses(scan, "-o", tmp_path / "link.nii.gz", says=("the output is the input",))
    (tmp_path / "hard.nii.gz").hardlink_to(scan)
    refuses(scan, "-o", tmp_path / "hard.nii.gz", says=("the output is the input",))
    assert scan.read_bytes() == before


def test_output_is_the_other_half_of_the_input(refuses, tmp_path, scan_array):
    nib.save(nib.Nifti1Pair(scan_array, np.eye(4)), tmp_path / "pair.hdr")
    refuses(tmp_path / "pair.hdr", "-o", tmp_path / "pair.img", says=("the output is the input",))


def test_probabilities_would_overwrite_the_input(refuses, scan, tmp_path):
    scan.rename(tmp_path / "a_prob.nii.gz")
    refuses(
        tmp_path / "a_prob.nii.gz",
        "-o",
        tmp_path / "a.nii.gz",
        "--save-probabilities",
        says=("the output is the input",),
    )


def test_output_folder_is_missing(refuses, scan, tmp_path):
    refuses(scan, "-o", tmp_path / "no" / "seg.nii.gz", says=("does not exist",))
    refuses(scan, "--preview", tmp_path / "no" / "p.png", says=("does not exist",))


def test_output_is_a_folder(refuses, scan, tmp_path):
    (tmp_path / "out.nii.gz").mkdir()
    refuses(scan, "-o", tmp_path / "out.nii.gz", says=("is a folder",))


def test_output_format_cannot_hold_a_sheared_grid(refuses, tmp_path, write_nifti, scan_array):
    sheared = np.array([[0.7, 0, 0.9, 1], [0, 0.9, 0, 2], [0, 0, 2.5, 3], [0, 0, 0, 1]])
    path = write_nifti(tmp_path / "tilted.nii.gz", scan_array, sheared)
    refuses(path, "-o", tmp_path / "seg.nrrd", says=("perpendicular", ".nii.gz"))


@pytest.mark.parametrize("name", ["seg.txt", "seg", "seg.dcm"])
def test_output_format_is_unknown(refuses, scan, tmp_path, name):
    refuses(scan, "-o", tmp_path / name, says=(name, ".nii.gz"))


def test_preview_is_no_png(refuses, scan, tmp_path):
    refuses(scan, "--preview", tmp_path / "preview.jpg", says=(".png",))


def test_one_file_given_twice_to_a_model_of_one_channel(refuses, scan, tmp_path):
    refuses(scan, scan, says=("channel",))


def test_channels_on_different_grids(refuses, scan, tmp_path, write_nifti, scan_array, two_channel_package):
    shifted = np.diag([0.7, 0.9, 2.5, 1.0])
    shifted[1, 3] = 12
    other = write_nifti(tmp_path / "t2.nii.gz", scan_array, shifted)
    refuses(scan, other, model=two_channel_package, says=(str(scan), str(other), "mm"))


def test_wrong_number_of_channels(refuses, scan, two_channel_package):
    refuses(scan, model=two_channel_package, says=("found 1", "expects 2", "T1, T2"))


def test_unknown_model(refuses, scan):
    refuses(scan, model="hipocampus", says=("hipocampus",))
    refuses(scan, model="./mine.volseg", says=("mine.volseg",))


def test_damaged_model(refuses, scan, tiny_package, tmp_path):
    data = bytearray(tiny_package.read_bytes())
    data[data.find(b"Tests of the command line")] ^= 1
    (tmp_path / "bad.volseg").write_bytes(data)
    refuses(scan, model=tmp_path / "bad.volseg", says=("bad.volseg",))
    (tmp_path / "letter.volseg").write_text("dear model")
    refuses(scan, model=tmp_path / "letter.volseg", says=("letter.volseg",))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(refuses, scan):
    refuses(scan, "--device", "cuda", says=("cuda",))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["predict"], "INPUT"),
        (["predict", "a.nii", "--device", "tpu"], "tpu"),
        (["predict", "a.nii", "--colour"], "--colour"),
        (["predikt"], "predict"),
    ],
)
def test_wrong_command_lines(volseg_cli, arguments, says):
    outcome = volseg_cli(*arguments)
    assert outcome.code == 2
    assert says in outcome.err
    assert "Traceback" not in outcome.err
