"""What every registered postprocess step promises."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from volseg.errors import ConfigError
from volseg.geometry import Grid
from volseg.labels import LabelTable
from volseg.postprocess import POSTPROCESS, PostprocessStep
from volseg.volume import LabelMap

FIELDS: dict[str, dict[str, Any]] = {
    "remove_small": {"min_volume_mm3": 8.0},
    "opening": {"radius_mm": 1.3},
    "closing": {"radius_mm": 1.3},
}
"""Parameters of the steps that need some."""

AFFINE = np.array([[0, 0.2, 2.5, -31], [-0.7, 0.1, 0, 17], [0, 0.9, 0.1, 44], [0, 0, 0, 1.0]])
TABLE = LabelTable.from_names(["liver", "lesion", "vessel"])


def step_of(name: str) -> PostprocessStep:
    return POSTPROCESS.build({"name": name, **FIELDS.get(name, {})})


def make_map(seed: int, shape=(9, 8, 10), *, smooth: float = 0.7, dtype: str = "uint8") -> LabelMap:
    noise = ndimage.gaussian_filter(
        np.random.default_rng(seed).normal(size=(4, *shape)), (0, smooth, smooth, smooth)
    )
    array = noise.argmax(axis=0).astype(dtype)
    array.flags.writeable = False
    return LabelMap(array, Grid(shape, AFFINE), TABLE)


def test_names():
    assert POSTPROCESS.names() == ["closing", "fill_holes", "keep_largest", "opening", "remove_small"]


@pytest.mark.parametrize("name", POSTPROCESS.names())
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    smooth=st.floats(0, 2),
    dtype=st.sampled_from(["uint8", "uint16", "int32", ">i2"]),
)
def test_grid_type_and_labels_are_kept_and_a_second_time_changes_nothing(name, seed, smooth, dtype):
    label_map = make_map(seed, smooth=smooth, dtype=dtype)
    before = label_map.array.copy()
    result = step_of(name)(label_map)
    np.testing.assert_array_equal(label_map.array, before)
    assert result.grid is label_map.grid
    assert result.labels is label_map.labels
    assert result.array.dtype == label_map.array.dtype
    changed = result.array != before
    adds = name in {"closing", "fill_holes"}
    assert ((before if adds else result.array)[changed] == 0).all(), "no label becomes another label"
    assert set(np.unique(result.array)) <= set(np.unique(before)) | {0}
    np.testing.assert_array_equal(step_of(name)(result).array, result.array)


@pytest.mark.parametrize("name", POSTPROCESS.names())
@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 6, 7), (1, 1, 1)])
def test_empty_full_and_flat_maps(name, shape):
    for value in (0, 2):
        label_map = LabelMap(np.full(shape, value, np.uint8), Grid(shape, AFFINE), TABLE)
        erased = name == "remove_small" and shape == (1, 1, 1)
        assert (step_of(name)(label_map).array == (0 if erased else value)).all()


@pytest.mark.parametrize("name", POSTPROCESS.names())
def test_the_order_of_axes_does_not_matter(name):
    label_map = make_map(5, smooth=1.0)
    grid = label_map.grid.reoriented("SLA")
    axes, flips = label_map.grid.axes_towards("SLA")

    def turned(array: np.ndarray) -> np.ndarray:
        return np.flip(array.transpose(axes), [axis for axis in range(3) if flips[axis]])

    result = step_of(name)(LabelMap(turned(label_map.array), grid, TABLE))
    np.testing.assert_array_equal(result.array, turned(step_of(name)(label_map).array))


@pytest.mark.parametrize("name", POSTPROCESS.names())
def test_a_step_survives_its_own_description(name):
    step = step_of(name)
    assert POSTPROCESS.build(step.model_dump(mode="json")) == step
    with pytest.raises(ConfigError, match="no such parameter"):
        POSTPROCESS.build({**step.model_dump(), "surplus": 1})
