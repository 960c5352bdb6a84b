"""NIfTI voxels in and out: types, scale, byte order, axes, several channels."""

import gzip
import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.grids import SHAPE, affine_of, oblique_grid
from tests.io.images import save_nifti, some_voxels
from volseg.errors import FileFormatError, IntensityError
from volseg.geometry import Grid
from volseg.io import read_label_map, read_volume, write_label_map, write_volume
from volseg.volume import LabelMap, Volume


def header_of(path: Path) -> nib.Nifti1Header:
    return nib.load(path).header


def labels_on(grid: Grid) -> LabelMap:
    return LabelMap((np.arange(np.prod(grid.shape)) % 3).reshape(grid.shape), grid)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".hdr"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "i8", "f4", "f8"])
def test_stored_type_is_kept_without_a_scale(tmp_path: Path, suffix: str, dtype: str) -> None:
    array = some_voxels(dtype="f4").astype("f8") / 8 if dtype == "i1" else some_voxels(dtype=dtype)
    path = tmp_path / f"scan{suffix}"
    kind = nib.Nifti1Pair if suffix == ".hdr" else nib.Nifti1Image
    nib.save(kind(array.astype(dtype), affine_of(), dtype=dtype), path)
    volume = read_volume(path)
    assert volume.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(volume.array[0], array.astype(dtype))


@pytest.mark.parametrize("name", ["scan.img", "scan.hdr"])
def test_a_pair_is_read_by_either_name(tmp_path: Path, name: str) -> None:
    save_nifti(tmp_path / "scan.hdr")
    np.testing.assert_array_equal(read_volume(tmp_path / name).array[0], some_voxels())


def test_suffixes_in_capitals_are_known(tmp_path: Path) -> None:
    (tmp_path / "SCAN.NII.GZ").write_bytes(save_nifti(tmp_path / "scan.nii.gz").read_bytes())
    np.testing.assert_array_equal(read_volume(tmp_path / "SCAN.NII.GZ").array[0], some_voxels())


@pytest.mark.parametrize(("name", "is_packed"), [("scan.nii", True), ("scan.nii.gz", False)])
def test_a_wrong_gz_in_the_name_does_not_matter(tmp_path: Path, name: str, is_packed: bool) -> None:
    raw = save_nifti(tmp_path / "original.nii").read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(raw) if is_packed else raw)
    np.testing.assert_array_equal(read_volume(tmp_path / name).array[0], some_voxels())


def test_gzip_in_several_members_is_read_whole(tmp_path: Path) -> None:
    raw = save_nifti(tmp_path / "scan.nii").read_bytes()
    (tmp_path / "parts.nii.gz").write_bytes(gzip.compress(raw[:500]) + gzip.compress(raw[500:]))
    np.testing.assert_array_equal(read_volume(tmp_path / "parts.nii.gz").array[0], some_voxels())


@pytest.mark.parametrize("stored", ["i2", "u1"])
def test_slope_and_intercept_are_applied_in_float(tmp_path: Path, stored: str) -> None:
    path = save_nifti(tmp_path / "scan.nii.gz", some_voxels(dtype=stored), scl_slope=0.37, scl_inter=-1.5)
    volume = read_volume(path)
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array[0], nib.load(path).get_fdata(), rtol=1e-6, atol=1e-4)
    assert np.any(volume.array % 1), "nothing is truncated to integers"


def test_integers_float32_cannot_hold_are_scaled_in_float64(tmp_path: Path) -> None:
    array = np.full(SHAPE, 2**24 + 1, np.int32)
    volume = read_volume(save_nifti(tmp_path / "scan.nii", array, scl_slope=2.0, scl_inter=1.0))
    assert volume.array.dtype == np.float64
    assert volume.array[0, 0, 0, 0] == 2 * (2**24 + 1) + 1


@pytest.mark.parametrize("slope", [0.0, np.nan, 1.0])
def test_no_scale_means_as_stored(tmp_path: Path, slope: float) -> None:
    volume = read_volume(save_nifti(tmp_path / "scan.nii", scl_slope=slope, scl_inter=0.0))
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array[0], some_voxels())


def test_a_scale_that_overflows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntensityError, match="NaN or infinite"):
        read_volume(save_nifti(tmp_path / "scan.nii", some_voxels(), scl_slope=3e38, scl_inter=0.0))


@pytest.mark.parametrize(("slope", "intercept"), [(np.inf, 0.0), (2.0, np.nan), (1.0, -np.inf)])
def test_an_infinite_scale_is_refused(tmp_path: Path, slope: float, intercept: float) -> None:
    path = save_nifti(tmp_path / "scan.nii", scl_slope=slope, scl_inter=intercept)
    with pytest.raises(IntensityError, match="expected finite numbers"):
        read_volume(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_big_endian_and_version_two(tmp_path: Path, suffix: str, kind: type) -> None:
    path = tmp_path / f"scan{suffix}"
    image = kind(some_voxels(dtype="f4"), affine_of(), kind.header_class(endianness=">"))
    assert image.header.endianness == ">"
    nib.save(image, path)
    volume = read_volume(path)
    assert volume.array.dtype == np.float32
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array[0], some_voxels(dtype="f4"))
    np.testing.assert_allclose(volume.grid.affine, affine_of(), atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 6, 7), (1, 5, 6, 7)),
        ((5, 6, 7, 1), (1, 5, 6, 7)),
        ((5, 6, 7, 1, 1), (1, 5, 6, 7)),
        ((5, 6, 7, 4), (4, 5, 6, 7)),
        ((5, 6, 7, 4, 1), (4, 5, 6, 7)),
        ((5, 6, 7, 1, 3), (3, 5, 6, 7)),
        ((5, 6), (1, 5, 6, 1)),
        ((1, 6, 1), (1, 1, 6, 1)),
    ],
)
def test_later_axes_become_channels_and_trailing_ones_go(
    tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    array = some_voxels(shape=shape)
    volume = read_volume(save_nifti(tmp_path / "scan.nii.gz", array))
    assert volume.array.shape == expected
    np.testing.assert_array_equal(np.moveaxis(volume.array, 0, -1), array.reshape(*expected[1:], expected[0]))


def test_two_axes_beyond_space_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="at most one of channels"):
        read_volume(save_nifti(tmp_path / "scan.nii", some_voxels(shape=(5, 6, 7, 2, 3))))


def test_a_header_extension_is_skipped(tmp_path: Path) -> None:
    image = nib.Nifti1Image(some_voxels(), affine_of())
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"anything" * 50))
    nib.save(image, tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nii.gz").array[0], some_voxels())


def test_probabilities_go_channel_last_in_the_narrowest_float(tmp_path: Path) -> None:
    probabilities = np.random.default_rng(3).random((3, *SHAPE)).astype(np.float16)
    write_volume(Volume(probabilities, oblique_grid()), tmp_path / "prob.nii.gz")
    image = nib.load(tmp_path / "prob.nii.gz")
    assert image.shape == (*SHAPE, 3)
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.moveaxis(probabilities, 0, -1))


def test_extents_beyond_16_bits_are_written_as_version_two(tmp_path: Path) -> None:
    grid = Grid((40000, 2, 1), affine_of())
    labels = LabelMap((np.arange(80000) % 7).reshape(grid.shape), grid)
    for suffix in (".nii.gz", ".hdr"):
        write_label_map(labels, tmp_path / f"seg{suffix}")
        assert isinstance(header_of(tmp_path / f"seg{suffix}"), nib.Nifti2Header)
        np.testing.assert_array_equal(read_label_map(tmp_path / f"seg{suffix}").array, labels.array)


def test_the_same_labels_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_label_map(labels_on(oblique_grid()), tmp_path / f"{name}.nii.gz")
    first, second = (
        hashlib.sha256((tmp_path / f"{n}.nii.gz").read_bytes()).digest() for n in ("first", "second")
    )
    assert first == second
