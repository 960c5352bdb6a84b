import numpy as np
import pytest
from pydantic import ValidationError

from volseg.errors import InputError, IntensityError
from volseg.geometry import Grid
from volseg.preprocess import PREPROCESS
from volseg.preprocess.intensity import ClipPercentiles, ZScore
from volseg.preprocess.standardise import FixedScale, Standardise
from volseg.volume import Volume

CT = FixedScale(low=-100, high=240, mean=80, deviation=40)


def volume_of(*channels) -> Volume:
    return Volume(np.stack(channels), Grid.from_spacing(channels[0].shape, (0.7, 0.9, 2.5)))


def noise(seed, dtype=np.int16):
    return np.random.default_rng(seed).integers(-1000, 1000, (5, 6, 7)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64])
def test_a_fixed_scale_is_the_same_for_every_scan(dtype):
    image = noise(0, dtype)
    result = Standardise(channels=(CT,))(volume_of(image))
    np.testing.assert_allclose(result.array[0], (np.clip(image, -100, 240) - 80) / 40, rtol=1e-5, atol=1e-6)
    assert result.array.dtype == np.float32


def test_each_channel_in_its_own_way():
    ct, mr = noise(0), noise(1)
    mr[:2] = 0
    result = Standardise(channels=(None, CT), region="nonzero", clip_own=True)(volume_of(mr, ct))
    alone = ZScore(region="nonzero")(ClipPercentiles(region="nonzero")(volume_of(mr)))
    np.testing.assert_array_equal(result.array[0], alone.array[0])
    np.testing.assert_allclose(result.array[1], (np.clip(ct, -100, 240) - 80) / 40, rtol=1e-5, atol=1e-6)
    assert (result.array[0][:2] == 0).all()


def test_another_number_of_channels_is_refused():
    with pytest.raises(InputError, match="has 2 channels; the model standardises 1"):
        Standardise(channels=(CT,))(volume_of(noise(0), noise(1)))
    with pytest.raises(IntensityError):
        Standardise(channels=(None,))(volume_of(np.ones((3, 3, 3))))


@pytest.mark.parametrize("fields", [{"low": 5, "high": 5}, {"deviation": 0}])
def test_impossible_scales(fields):
    with pytest.raises(ValidationError):
        FixedScale(**{"low": 0, "high": 1, "mean": 0, "deviation": 1, **fields})


def test_it_survives_its_own_description():
    step = Standardise(channels=(CT, None), region="nonzero")
    assert PREPROCESS.build(step.model_dump(mode="json")) == step
