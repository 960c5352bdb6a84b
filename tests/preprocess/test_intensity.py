from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from volseg.errors import IntensityError
from volseg.geometry import Grid
from volseg.origin import Origin
from volseg.preprocess.intensity import ClipPercentiles, Window, ZScore
from volseg.volume import Volume

SHAPE = (5, 6, 7)
GRID = Grid.from_spacing(SHAPE, (0.7, 0.9, 2.5))


def make_volume(dtype=np.int16, *, zeros: bool = False) -> Volume:
    array = np.random.default_rng(3).normal([[[[300]]], [[[-40]]]], 90, (2, *SHAPE)).astype(dtype)
    if zeros:
        array[:, :2] = 0
    return Volume(array, GRID, Origin(path=Path("scan.nii.gz")))


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_zscore_over_all_voxels(dtype):
    scored = ZScore()(make_volume(dtype))
    assert scored.array.dtype == np.float32
    np.testing.assert_allclose(scored.array.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(scored.array.std(axis=(1, 2, 3)), 1, atol=1e-5)


def test_zscore_over_the_voxels_that_are_not_zero():
    volume = make_volume(zeros=True)
    scored = ZScore(region="nonzero")(volume)
    assert (scored.array[volume.array == 0] == 0).all()
    for channel, source in zip(scored.array, volume.array, strict=True):
        assert channel[source != 0].mean() == pytest.approx(0, abs=1e-5)
        assert channel[source != 0].std() == pytest.approx(1, abs=1e-5)


def test_zscore_does_not_depend_on_scale_or_pieces(monkeypatch):
    volume = make_volume(np.float32)
    scored = ZScore()(volume)
    monkeypatch.setattr("volseg.preprocess.intensity._PIECE_VOXELS", 13)
    shifted = ZScore()(volume.with_array(volume.array * 7 + 100))
    np.testing.assert_allclose(shifted.array, scored.array, atol=1e-4)


@pytest.mark.parametrize("value", [0, 5, -1000.25, 1e6])
def test_zscore_refuses_one_value_everywhere(value):
    array = make_volume(np.float64).array.copy()
    array[1] = value
    with pytest.raises(IntensityError, match=r"scan\.nii\.gz: channel 1 has the value"):
        ZScore()(make_volume().with_array(array))


@pytest.mark.parametrize("step", [ZScore(region="nonzero"), ClipPercentiles(region="nonzero")])
def test_an_all_zero_channel_is_refused(step):
    array = make_volume().array.copy()
    array[0] = 0
    with pytest.raises(IntensityError, match="every voxel of channel 0 is zero"):
        step(make_volume().with_array(array))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("step", [ZScore(), ClipPercentiles()])
def test_nan_and_infinity_are_refused(step, bad):
    array = make_volume(np.float32).array.copy()
    array[1, 2, 3, 4] = bad
    with pytest.raises(IntensityError, match="channel 1 holds NaN or infinity"):
        step(make_volume().with_array(array))


def test_percentiles_are_those_of_each_channel():
    volume = make_volume()
    clipped = ClipPercentiles(low=10, high=80)(volume)
    for channel, source in zip(clipped.array, volume.array, strict=True):
        low, high = np.percentile(source, [10, 80])
        np.testing.assert_allclose([channel.min(), channel.max()], [low, high], rtol=1e-6)
        inside = (source > low) & (source < high)
        np.testing.assert_array_equal(channel[inside], source[inside])


def test_percentiles_of_the_voxels_that_are_not_zero_leave_zeros():
    volume = make_volume(zeros=True)
    clipped = ClipPercentiles(low=5, high=95, region="nonzero")(volume)
    assert (clipped.array[volume.array == 0] == 0).all()
    source = volume.array[0][volume.array[0] != 0]
    assert clipped.array[0].max() == pytest.approx(np.percentile(source, 95))


def test_window_clips():
    clipped = Window(low=-10, high=250.5)(make_volume())
    assert clipped.array.dtype == np.float32
    np.testing.assert_array_equal(clipped.array, np.clip(make_volume().array, -10, 250.5))


@pytest.mark.parametrize(
    ("step", "fields"),
    [
        (Window, {"low": 5, "high": 5}),
        (Window, {"low": float("nan"), "high": 5}),
        (ClipPercentiles, {"low": 60, "high": 40}),
        (ClipPercentiles, {"low": -1}),
        (ClipPercentiles, {"high": 101}),
        (ZScore, {"region": "brain"}),
    ],
)
def test_impossible_parameters_are_refused(step, fields):
    with pytest.raises(ValidationError):
        step(**fields)
