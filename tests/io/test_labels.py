"""What a label map file may hold: whole, non-negative numbers in one channel. And what its name may be."""

from pathlib import Path

import numpy as np
import pytest

from tests.grids import SHAPE
from tests.io.images import patch_header, save_nifti
from volseg.errors import IntensityError
from volseg.io import is_image, read_label_map, stem


@pytest.mark.parametrize("value", [0.5, 1.001, 2.9])
def test_fractions_are_no_labels(tmp_path: Path, value: float) -> None:
    array = np.zeros(SHAPE, np.float32)
    array[2, 3, 4] = value
    with pytest.raises(IntensityError, match=rf"whole numbers, found {value:g} at voxel \(2, 3, 4\)"):
        read_label_map(save_nifti(tmp_path / "seg.nii", array))


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_negative_values_are_no_labels(tmp_path: Path, dtype: type) -> None:
    array = np.zeros(SHAPE, dtype)
    array[2, 3, 4] = -1
    with pytest.raises(IntensityError, match="no negative values, found -1"):
        read_label_map(save_nifti(tmp_path / "seg.nii", array))


def test_channels_are_no_labels(tmp_path: Path) -> None:
    with pytest.raises(IntensityError, match="has 3 channels; a label map has one"):
        read_label_map(save_nifti(tmp_path / "seg.nii", np.zeros((*SHAPE, 3), np.uint8)))


def test_numbers_beyond_32_bits_are_no_labels(tmp_path: Path) -> None:
    with pytest.raises(IntensityError, match="is no label"):
        read_label_map(save_nifti(tmp_path / "seg.nii", np.full(SHAPE, 1e12)))


@pytest.mark.parametrize(("highest", "dtype"), [(2, np.uint8), (300, np.uint16), (70000, np.uint32)])
def test_whole_floats_become_labels(tmp_path: Path, highest: int, dtype: type) -> None:
    array = np.zeros(SHAPE, np.float32)
    array[2, 3, 4] = highest
    label_map = read_label_map(save_nifti(tmp_path / "seg.nii.gz", array))
    assert label_map.array.dtype == dtype
    np.testing.assert_array_equal(label_map.array, array)


def test_scaled_integers_become_labels_although_the_scale_is_rounded(tmp_path: Path) -> None:
    array = np.zeros(SHAPE, np.uint8)
    array[2, 3, 4] = 255
    path = patch_header(save_nifti(tmp_path / "seg.nii", array), scl_slope=np.float32(2 / 255), scl_inter=0.0)
    assert read_label_map(path).array[2, 3, 4] == 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/scan.nii.gz", "scan"),
        ("scan.v2.nii", "scan.v2"),
        ("SCAN.NII.GZ", "SCAN"),
        ("scan.mhd", "scan"),
        ("scan.gz", None),
        ("scan.txt", None),
        ("scan", None),
    ],
)
def test_names(name: str, expected: str | None) -> None:
    assert is_image(name) == is_image(Path(name)) == (expected is not None)
    assert stem(name) == stem(Path(name)) == (expected or "scan")
