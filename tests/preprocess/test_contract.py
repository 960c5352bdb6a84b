"""What every registered preprocess step promises."""

from typing import Any

import numpy as np
import pytest

from volseg.errors import ConfigError
from volseg.geometry import Grid
from volseg.origin import Origin
from volseg.preprocess import PREPROCESS, PreprocessStep
from volseg.volume import Volume

FIELDS: dict[str, dict[str, Any]] = {
    "respace": {"spacing_mm": (1.1, 0.8, 2.0)},
    "standardise": {"channels": [{"low": -50, "high": 60, "mean": 5, "deviation": 30}, None]},
    "window": {"low": -50, "high": 60},
}
"""Parameters of the steps that need some."""


def step_of(name: str) -> PreprocessStep:
    return PREPROCESS.build({"name": name, **FIELDS.get(name, {})})


def make_volume() -> Volume:
    affine = np.array([[0, 0.2, 2.5, -31], [-0.7, 0.1, 0, 17], [0, 0.9, 0.1, 44], [0, 0, 0, 1.0]])
    array = np.random.default_rng(4).normal(20, 60, (2, 5, 6, 7)).astype(np.float32)
    array[:, 0] = 0
    array.flags.writeable = False
    return Volume(array, Grid((5, 6, 7), affine), Origin(series_uid="1.2.3"))


def test_names():
    assert PREPROCESS.names() == [
        "clip_percentiles",
        "crop_nonzero",
        "orient",
        "respace",
        "standardise",
        "window",
        "zscore",
    ]


@pytest.mark.parametrize("name", PREPROCESS.names())
def test_a_step_gives_a_new_volume_and_keeps_the_old(name):
    volume = make_volume()
    before = volume.array.copy()
    result = step_of(name)(volume)
    np.testing.assert_array_equal(volume.array, before)
    assert result.channels == 2
    assert result.array.dtype == np.float32
    assert np.isfinite(result.array).all()
    assert result.origin == volume.origin
    assert result.grid.axis_codes == ("RAS" if name == "orient" else volume.grid.axis_codes)
    np.testing.assert_array_equal(step_of(name)(volume).array, result.array)


@pytest.mark.parametrize("name", PREPROCESS.names())
def test_a_step_survives_its_own_description(name):
    step = step_of(name)
    assert PREPROCESS.build(step.model_dump(mode="json")) == step
    with pytest.raises(ConfigError, match="no such parameter"):
        PREPROCESS.build({**step.model_dump(), "surplus": 1})
