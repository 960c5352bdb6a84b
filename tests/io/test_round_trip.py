"""A bright voxel at a known RAS point is found there after every format's round trip, by us and by others."""

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.grids import grids_with_voxel, oblique_grid
from tests.io.images import (
    ALL_SUFFIXES,
    ITK_SUFFIXES,
    MGH_SUFFIXES,
    NIFTI_SUFFIXES,
    brightest_point_by_itk,
    brightest_point_by_nibabel,
    itk_image,
    some_voxels,
)
from volseg.geometry import Grid
from volseg.io import read_label_map, read_volume, write_label_map, write_volume
from volseg.labels import LabelTable
from volseg.volume import LabelMap, Volume

some = settings(max_examples=8, deadline=None)
Case = tuple[Grid, tuple[int, int, int]]
AT_MM = 2e-3  # float32 headers, and quaternions, some hundred mm from the origin


def bright(grid: Grid, voxel: tuple[int, int, int]) -> np.ndarray:
    array = np.zeros(grid.shape, np.int16)
    array[voxel] = 700
    return array


def brightest_point(volume: Volume) -> np.ndarray:
    return volume.grid.index_to_world(np.unravel_index(volume.array[0].argmax(), volume.grid.shape))


@pytest.mark.parametrize("suffix", NIFTI_SUFFIXES)
@some
@given(case=grids_with_voxel())
def test_written_nifti_is_found_by_nibabel_and_by_us_sheared_or_not(suffix: str, case: Case) -> None:
    grid, voxel = case
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"scan{suffix}"
        write_volume(Volume(bright(grid, voxel), grid), path)
        expected = grid.index_to_world(voxel)
        np.testing.assert_allclose(brightest_point_by_nibabel(path), expected, atol=AT_MM)
        np.testing.assert_allclose(brightest_point(read_volume(path)), expected, atol=AT_MM)
        assert read_volume(path).grid.is_same(grid)


@pytest.mark.parametrize("suffix", [".nii.gz", *MGH_SUFFIXES, *ITK_SUFFIXES])
@some
@given(case=grids_with_voxel(is_sheared=False))
def test_written_orthogonal_grids_are_found_by_others_and_by_us(suffix: str, case: Case) -> None:
    grid, voxel = case
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"scan{suffix}"
        write_volume(Volume(bright(grid, voxel), grid), path)
        expected = grid.index_to_world(voxel)
        other = brightest_point_by_nibabel if suffix in MGH_SUFFIXES else brightest_point_by_itk
        np.testing.assert_allclose(other(path), expected, atol=0.1 if suffix == ".nii.gz" else AT_MM)
        np.testing.assert_allclose(brightest_point(read_volume(path)), expected, atol=AT_MM)


@pytest.mark.parametrize("suffix", NIFTI_SUFFIXES)
@some
@given(case=grids_with_voxel())
def test_nifti_written_by_nibabel_is_found(suffix: str, case: Case) -> None:
    grid, voxel = case
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"scan{suffix}"
        kind = nib.Nifti1Pair if suffix == ".hdr" else nib.Nifti1Image
        nib.save(kind(bright(grid, voxel), grid.affine), path)
        np.testing.assert_allclose(brightest_point(read_volume(path)), grid.index_to_world(voxel), atol=AT_MM)


@pytest.mark.parametrize("suffix", MGH_SUFFIXES)
@some
@given(case=grids_with_voxel(is_sheared=False))
def test_mgh_written_by_nibabel_is_found(suffix: str, case: Case) -> None:
    grid, voxel = case
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"scan{suffix}"
        nib.save(nib.MGHImage(bright(grid, voxel), grid.affine), path)
        np.testing.assert_allclose(brightest_point(read_volume(path)), grid.index_to_world(voxel), atol=AT_MM)


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("suffix", ITK_SUFFIXES)
@some
@given(case=grids_with_voxel(is_sheared=False))
def test_files_written_by_itk_are_found(suffix: str, is_packed: bool, case: Case) -> None:
    grid, voxel = case
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"scan{suffix}"
        SimpleITK.WriteImage(itk_image(bright(grid, voxel), grid), str(path), useCompression=is_packed)
        volume = read_volume(path)
        assert volume.grid.shape == grid.shape
        np.testing.assert_allclose(brightest_point(volume), grid.index_to_world(voxel), atol=1e-6)


@some
@given(case=grids_with_voxel(is_sheared=False))
def test_nifti_written_by_itk_is_found(case: Case) -> None:
    grid, voxel = case
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nii"
        SimpleITK.WriteImage(itk_image(bright(grid, voxel), grid), str(path))
        np.testing.assert_allclose(brightest_point(read_volume(path)), brightest_point_by_itk(path), atol=0.1)
        np.testing.assert_allclose(brightest_point(read_volume(path)), grid.index_to_world(voxel), atol=0.1)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4"])
@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_every_voxel_of_every_channel_comes_back_exactly(tmp_path: Path, suffix: str, dtype: str) -> None:
    volume = Volume(some_voxels(shape=(3, 5, 6, 7), dtype=dtype), oblique_grid())
    path = tmp_path / f"scan{suffix}"
    write_volume(volume, path)
    again = read_volume(path)
    assert again.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(again.array, volume.array)
    assert again.origin.path == path


@pytest.mark.parametrize("dtype", ["i1", "u2", "u4", "u8", "i8", "f8"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_rarer_voxel_types_come_back_exactly(tmp_path: Path, suffix: str, dtype: str) -> None:
    volume = Volume((some_voxels(dtype="f4") / 8).astype(dtype), oblique_grid())
    write_volume(volume, tmp_path / f"scan{suffix}")
    again = read_volume(tmp_path / f"scan{suffix}")
    assert again.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(again.array, volume.array)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_memory_order_and_byte_order_do_not_matter(tmp_path: Path, suffix: str, order: str) -> None:
    array = np.array(some_voxels(), dtype=">i2", order=order)[::-1]
    write_volume(Volume(array, oblique_grid()), tmp_path / f"scan{suffix}")
    np.testing.assert_array_equal(read_volume(tmp_path / f"scan{suffix}").array[0], array)


@pytest.mark.parametrize(
    ("highest", "smallest", "smallest_mgh"),
    [(2, "u1", "u1"), (255, "u1", "u1"), (256, "u2", "i2"), (32768, "u2", "i4"), (65536, "i4", "i4")],
)
@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_label_maps_take_the_smallest_integer_type(
    tmp_path: Path, suffix: str, highest: int, smallest: str, smallest_mgh: str
) -> None:
    array = np.zeros((5, 6, 7), np.int64)
    array[1, 2, 3], array[4, 5, 6] = highest, 1
    path = tmp_path / f"seg{suffix}"
    write_label_map(LabelMap(array, oblique_grid()), path)
    labels = LabelTable.from_names(["liver"])
    again = read_label_map(path, labels)
    assert again.array.dtype == np.dtype(smallest_mgh if suffix in MGH_SUFFIXES else smallest)
    np.testing.assert_array_equal(again.array, array)
    assert again.labels is labels
    assert again.grid.is_same(oblique_grid())


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**31), st.sampled_from(["C", "F"]))
def test_gzip_chunks_add_up_for_any_channels(channels: int, seed: int, order: str) -> None:
    grid = oblique_grid()
    array = np.asarray(some_voxels(seed, (channels, *grid.shape), "f4"), order=order)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nii.gz"
        write_volume(Volume(array, grid), path)
        by_nibabel = nib.load(path).get_fdata(dtype=np.float32)
        np.testing.assert_array_equal(by_nibabel.reshape(*grid.shape, channels), np.moveaxis(array, 0, -1))
