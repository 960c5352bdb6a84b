"""Several files as the channels of one case."""

from pathlib import Path

import numpy as np
import pytest

from tests.grids import SHAPE, affine_of
from tests.io.images import save_nifti, some_voxels
from volseg.errors import GeometryError, InputError, OutputError
from volseg.io import CHANNEL_GRID_TOLERANCE_MM, read_volume, write_label_map
from volseg.volume import LabelMap


def test_files_become_channels_in_the_given_order(tmp_path: Path) -> None:
    dtypes = ("i2", "u1", "f4")
    paths = [save_nifti(tmp_path / f"{n}.nii.gz", some_voxels(n, dtype=d)) for n, d in enumerate(dtypes)]
    volume = read_volume(paths)
    assert volume.array.dtype == np.float32
    for n, dtype in enumerate(dtypes):
        np.testing.assert_array_equal(volume.array[n], some_voxels(n, dtype=dtype))
    assert volume.origin.path == paths[0]
    assert volume.origin.nifti is not None
    np.testing.assert_array_equal(read_volume([str(path) for path in paths[::-1]]).array, volume.array[::-1])


def test_a_file_may_bring_several_channels(tmp_path: Path) -> None:
    both = save_nifti(tmp_path / "both.nii", some_voxels(1, (*SHAPE, 2)))
    one = save_nifti(tmp_path / "one.nii", some_voxels(2))
    volume = read_volume((both, one))
    assert volume.array.shape == (3, *SHAPE)
    np.testing.assert_array_equal(volume.array[2], some_voxels(2))
    np.testing.assert_array_equal(volume.array[1], some_voxels(1, (*SHAPE, 2))[..., 1])


def test_one_file_in_a_list_is_that_file(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "scan.nii")
    np.testing.assert_array_equal(read_volume([path]).array, read_volume(path).array)


def test_no_file_is_refused() -> None:
    with pytest.raises(InputError, match="at least one path"):
        read_volume([])


def test_a_shift_within_the_tolerance_is_allowed(tmp_path: Path) -> None:
    moved = affine_of()
    moved[0, 3] += CHANNEL_GRID_TOLERANCE_MM * 0.8
    paths = [save_nifti(tmp_path / "t1.nii"), save_nifti(tmp_path / "t2.nii", affine=moved)]
    np.testing.assert_allclose(read_volume(paths).grid.affine, affine_of(), atol=1e-5)


def test_files_of_different_places_are_named_with_the_distance(tmp_path: Path) -> None:
    moved = affine_of()
    moved[:3, 3] += (0.3, 0.0, 0.4)
    paths = [save_nifti(tmp_path / "t1.nii"), save_nifti(tmp_path / "t2.nii", affine=moved)]
    with pytest.raises(GeometryError, match=r"t1\.nii and .*t2\.nii .*up to 0\.500 mm apart .*0\.01 mm"):
        read_volume(paths)


def test_files_of_different_spacing_are_refused(tmp_path: Path) -> None:
    other = affine_of(spacing_mm=(0.7, 0.9, 2.4))
    paths = [save_nifti(tmp_path / "t1.nii"), save_nifti(tmp_path / "t2.nii", affine=other)]
    with pytest.raises(GeometryError, match=r"up to 0\.600 mm apart"):
        read_volume(paths)


def test_files_of_different_shapes_are_named_with_both(tmp_path: Path) -> None:
    paths = [
        save_nifti(tmp_path / "t1.nii"),
        save_nifti(tmp_path / "t2.nii"),
        save_nifti(tmp_path / "flair.nii", some_voxels(shape=(7, 6, 5))),
    ]
    with pytest.raises(GeometryError, match=r"t1\.nii and .*flair\.nii .*\(5, 6, 7\) and \(7, 6, 5\)"):
        read_volume(paths)


def test_no_channel_file_is_overwritten(tmp_path: Path) -> None:
    paths = [save_nifti(tmp_path / f"{name}.nii.gz", some_voxels(1)) for name in ("t1", "t2", "flair")]
    volume = read_volume(paths)
    labels = LabelMap(np.ones(SHAPE, np.uint8), volume.grid)
    for path in paths:
        before = path.read_bytes()
        with pytest.raises(OutputError, match="is the input itself"):
            write_label_map(labels, path, source=volume)
        assert path.read_bytes() == before
