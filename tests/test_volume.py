"""Volume and LabelMap: an array never travels without its grid."""

from pathlib import Path

import numpy as np
import pytest

from tests.grids import SHAPE, oblique_grid
from volseg.errors import GeometryError, IntensityError
from volseg.geometry import Grid
from volseg.labels import LabelTable
from volseg.origin import Origin
from volseg.volume import LabelMap, Volume


def test_three_axes_are_one_channel_and_share_memory() -> None:
    array = np.arange(210.0).reshape(SHAPE)
    volume = Volume(array, oblique_grid())
    assert volume.array.shape == (1, *SHAPE)
    assert np.shares_memory(volume.array, array)
    assert volume.channels == 1
    assert Volume(np.zeros((4, *SHAPE)), oblique_grid()).channels == 4


@pytest.mark.parametrize("shape", [(7, 6, 5), (6, 5, 7), (2, 7, 6, 5), (5, 6), (1, 1, *SHAPE)])
def test_volume_refuses_an_array_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(GeometryError, match="does not fit a grid of shape"):
        Volume(np.zeros(shape), oblique_grid())


@pytest.mark.parametrize("dtype", [bool, complex, "U3", object])
def test_volume_refuses_what_is_no_number(dtype: type) -> None:
    with pytest.raises(IntensityError, match="no intensities"):
        Volume(np.zeros(SHAPE, dtype), oblique_grid())


def test_errors_name_the_origin() -> None:
    origin = Origin(path=Path("scans/scan.nii.gz"))
    with pytest.raises(GeometryError, match=r"scan\.nii\.gz"):
        Volume(np.zeros((7, 6, 5)), oblique_grid(), origin)
    assert str(Origin()) == "volume in memory"
    assert str(Origin(series_uid="1.2.3")) == "1.2.3"


def test_with_array_keeps_the_origin_and_the_old_volume() -> None:
    volume = Volume(np.zeros(SHAPE), oblique_grid(), Origin(modality="MR"))
    smaller = Grid((2, 3, 4), np.diag([1.0, 2.0, 3.0, 1.0]))
    other = volume.with_array(np.ones((2, 3, 4)), smaller)
    assert (other.origin.modality, other.grid) == ("MR", smaller)
    assert volume.with_array(np.ones(SHAPE)).grid is volume.grid
    assert not volume.array.any()


def test_map_channels_sees_one_channel_at_a_time() -> None:
    array = np.arange(420.0).reshape(2, *SHAPE)
    centred = Volume(array, oblique_grid()).map_channels(lambda channel: channel - channel.mean())
    np.testing.assert_allclose(centred.array.mean(axis=(1, 2, 3)), 0, atol=1e-9)
    np.testing.assert_allclose(centred.array[1], array[1] - array[1].mean())


@pytest.mark.parametrize("dtype", [float, bool])
def test_label_maps_hold_integers_only(dtype: type) -> None:
    with pytest.raises(IntensityError, match="hold integers"):
        LabelMap(np.zeros(SHAPE, dtype), oblique_grid())


@pytest.mark.parametrize("shape", [(7, 6, 5), (1, *SHAPE)])
def test_label_map_refuses_an_array_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(GeometryError, match="do not fit"):
        LabelMap(np.zeros(shape, np.uint8), oblique_grid())


def test_volumes_are_in_ml_and_right_for_sheared_grids() -> None:
    array = np.zeros(SHAPE, np.uint8)
    array[:2, 0, 0] = 1
    array[4, 5, 1:7] = 2
    labels = LabelTable.from_names(["anterior", "posterior", "absent"])
    label_map = LabelMap(array, oblique_grid(shear=0.4), labels)
    voxel_ml = 0.7 * 0.9 * (2.5 * 0.84**0.5) / 1000  # slices lie closer than their tilted centres
    assert label_map.volumes_ml() == pytest.approx(
        {"anterior": 2 * voxel_ml, "posterior": 6 * voxel_ml, "absent": 0}
    )
    assert label_map.with_array(array * 0).labels is labels


def test_a_volume_without_channels_is_refused() -> None:
    with pytest.raises(GeometryError):
        Volume(np.zeros((0, *SHAPE)), oblique_grid())
