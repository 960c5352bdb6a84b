"""`volseg convert`: the volume alone, where it was."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import volseg
from tests.dicom_files import SECRETS, SeriesSpec, write_series
from volseg.io.dicom.seg import write_seg
from volseg.labels import LabelTable
from volseg.volume import LabelMap

CT = SeriesSpec(tilt_degrees=14.0, description="tilted", shape=(9, 8, 7))
OTHER = replace(CT, series_uid="1.2.826.0.1.999.1.2", seed=3)


def test_tilted_series_to_nifti(volseg_cli, tmp_path: Path):
    written = write_series(tmp_path / "export", CT)
    outcome = volseg_cli("convert", tmp_path / "export", tmp_path / "ct.nii.gz")
    assert (outcome.code, outcome.err) == (0, "")
    assert "CT 9 x 8 x 7 at 0.7 x 0.9 x 2.5 mm, tilted by 14.00 degrees, int16" in outcome.out
    image = nib.load(tmp_path / "ct.nii.gz")
    assert image.get_data_dtype() == np.int16
    np.testing.assert_allclose(image.affine, written.grid.affine, atol=1e-4)
    np.testing.assert_array_equal(image.dataobj, written.truth)
    assert not [secret for secret in SECRETS if secret.encode() in (tmp_path / "ct.nii.gz").read_bytes()]


def test_fractions_become_float32(volseg_cli, tmp_path: Path):
    written = write_series(tmp_path / "export", replace(CT, slope=0.25))
    assert volseg_cli("convert", tmp_path / "export", tmp_path / "ct.nii.gz").code == 0
    image = nib.load(tmp_path / "ct.nii.gz")
    assert image.get_data_dtype() == np.float32
    np.testing.assert_allclose(image.dataobj, written.truth, rtol=1e-6)


def slope_in_space(points: np.ndarray) -> np.ndarray:
    """Rises along each direction of the patient; linear, so that linear interpolation gives it back."""
    return points @ [3.0, -5.0, 7.0] + 900


def test_orthogonal(volseg_cli, tmp_path: Path):
    def edit(dataset, number):
        voxels = np.stack(np.meshgrid(range(9), range(8), [number], indexing="ij"), axis=-1)
        dataset.PixelData = (
            np.rint(slope_in_space(CT.grid.index_to_world(voxels))[..., 0].T).astype("<u2").tobytes()
        )

    written = write_series(tmp_path / "export", replace(CT, edit=edit, intercept=0.0))
    outcome = volseg_cli("convert", tmp_path / "export", tmp_path / "ct.nrrd", "--orthogonal")
    assert outcome.code == 0
    straight = volseg.read_volume(tmp_path / "ct.nrrd")
    assert straight.grid.is_same(written.grid.orthogonal())
    points = straight.grid.index_to_world(np.moveaxis(np.indices(straight.grid.shape), 0, -1))
    places = written.grid.world_to_index(points)
    inside = ((places >= 0) & (places <= np.subtract(CT.shape, 1))).all(axis=-1)
    assert inside.sum() > 200
    np.testing.assert_allclose(straight.array[0][inside], slope_in_space(points)[inside], atol=0.51)


def test_a_format_without_shear_is_refused(volseg_cli, tmp_path: Path):
    write_series(tmp_path / "export", CT)
    outcome = volseg_cli("convert", tmp_path / "export", tmp_path / "ct.mha")
    assert outcome.code == 2
    assert "perpendicular" in outcome.err
    assert not (tmp_path / "ct.mha").exists()


def test_one_of_several_series(volseg_cli, tmp_path: Path):
    write_series(tmp_path / "export" / "a", CT)
    other = write_series(tmp_path / "export" / "b", OTHER)
    target = tmp_path / "ct.nii"
    refused = volseg_cli("convert", tmp_path / "export", target)
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert volseg_cli("convert", tmp_path / "export", target, "--series", "999.1.2").code == 0
    np.testing.assert_array_equal(nib.load(target).dataobj, other.truth)


def test_gaps_are_told(volseg_cli, tmp_path: Path):
    written = write_series(tmp_path / "export", CT)
    written.files[3].unlink()
    refused = volseg_cli("convert", tmp_path / "export", tmp_path / "ct.nii")
    assert refused.code == 2
    assert not (tmp_path / "ct.nii").exists()
    outcome = volseg_cli("convert", tmp_path / "export", tmp_path / "ct.nii", "--allow-gaps")
    assert outcome.code == 0
    assert "note " in outcome.out
    assert "warning" in outcome.err
    assert nib.load(tmp_path / "ct.nii").shape == (9, 8, 7)


def test_join(volseg_cli, tmp_path: Path):
    for name, shape, height, uid in (("a", (6, 5, 4), 17.0, "1.2.3.1"), ("b", (6, 5, 3), 27.0, "1.2.3.2")):
        spec = SeriesSpec(shape=shape, first_position=(-31.25, 42.5, height), series_uid=uid)
        write_series(tmp_path / "export" / name, spec)
    assert volseg_cli("convert", tmp_path / "export", tmp_path / "ct.nii", "--join").code == 0
    assert nib.load(tmp_path / "ct.nii").shape == (6, 5, 7)


def test_an_image_is_converted_too(volseg_cli, scan: Path, tmp_path: Path):
    assert volseg_cli("convert", scan, tmp_path / "scan.nrrd").code == 0
    first, second = volseg.read_volume(scan), volseg.read_volume(tmp_path / "scan.nrrd")
    assert first.grid.is_same(second.grid)
    np.testing.assert_array_equal(first.array, second.array)


@pytest.mark.parametrize("orthogonal", [False, True])
def test_segments_of_a_dicom_seg(volseg_cli, tmp_path: Path, orthogonal: bool):
    write_series(tmp_path / "export", CT)
    source = volseg.read_series(tmp_path / "export")
    array = np.zeros(source.grid.shape, np.uint8)
    array[2:5, 1:4, 2:5], array[6:8, 4:7, 3:6] = 1, 2
    label_map = LabelMap(array, source.grid, LabelTable.from_names(["liver", "spleen"]))
    write_seg(label_map, tmp_path / "seg.dcm", source=source)
    options = ["--orthogonal"] if orthogonal else []
    outcome = volseg_cli("convert", tmp_path / "seg.dcm", tmp_path / "labels.nii.gz", *options)
    assert outcome.code == 0, outcome.err
    found = volseg.read_label_map(tmp_path / "labels.nii.gz")
    assert found.array.dtype == np.uint8
    assert set(np.unique(found.array)) == {0, 1, 2}
    assert found.grid.is_sheared is not orthogonal
    for value in (1, 2):
        centres = [
            grid.index_to_world(np.argwhere(labels == value).mean(axis=0))
            for grid, labels in ((source.grid, array), (found.grid, found.array))
        ]
        assert np.linalg.norm(centres[0] - centres[1]) < (1.0 if orthogonal else 0.01)


def test_the_output_is_checked_first(volseg_cli, tmp_path: Path):
    write_series(tmp_path / "export", CT)
    for name in ("ct.txt", "nowhere/ct.nii"):
        assert volseg_cli("convert", tmp_path / "export", tmp_path / name).code == 2
    assert volseg_cli("convert", tmp_path / "nowhere", tmp_path / "ct.nii").code == 2


def test_what_was_made_up_is_told_of_a_straightened_volume_too(volseg_cli, tmp_path: Path):
    written = write_series(tmp_path / "export", CT)
    written.files[2].unlink()
    outcome = volseg_cli(
        "convert", tmp_path / "export", tmp_path / "ct.nii.gz", "--orthogonal", "--allow-gaps"
    )
    assert outcome.code == 0
    read, *notes, wrote = outcome.out.splitlines()
    assert "tilted by" in read
    assert [word for note in notes for word in ("made up", "perpendicular") if word in note] == [
        "made up",
        "perpendicular",
    ]
    assert wrote.startswith("wrote")
