import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from volseg.errors import GeometryError, InputError, IntensityError
from volseg.geometry import Grid
from volseg.labels import ChannelRule, LabelTable
from volseg.resample import logits_to_labels, resample_label_map, resample_volume, sampling, to_grid
from volseg.volume import LabelMap, Volume

SHAPE = (5, 6, 7)
TOLERANCE = 2e-4
"""Of an intensity range of about 8: float32 sums and indices taken as whole within 1e-4 voxel."""


def make_grid(
    shape, spacing, *, angles=(0, 0, 0), flips=(1, 1, 1), shear=0.0, origin=(-31.0, 17.0, 44.0)
) -> Grid:
    sheared = np.eye(3)
    sheared[0, 2] = shear
    linear = (
        Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        @ sheared
        @ np.diag(spacing)
        @ np.diag(flips)
    )
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = linear, origin
    return Grid(shape, affine)


def centred_on(grid: Grid, other: Grid, shift_mm=(0.0, 0.0, 0.0)) -> Grid:
    """`grid` moved so that its middle lies at the middle of the other, plus a shift."""
    affine = grid.affine.copy()
    affine[:3, 3] += other.corners().mean(axis=0) - grid.corners().mean(axis=0) + shift_mm
    return Grid(grid.shape, affine)


def expected(array, source: Grid, target: Grid, order: str, outside: float) -> np.ndarray:
    """The definition, voxel by voxel in float64 with scipy."""
    indices = np.stack(np.meshgrid(*map(np.arange, target.shape), indexing="ij"), axis=-1)
    points = np.moveaxis(source.world_to_index(target.index_to_world(indices)), -1, 0)
    extents = np.array(source.shape).reshape(3, 1, 1, 1)
    beyond = ((points < -0.5 - 1e-4) | (points > extents - 0.5 + 1e-4)).any(axis=0)
    clipped = np.clip(points, 0, extents - 1)
    degree = {"nearest": 0, "linear": 1, "cubic": 3}[order]
    values = ndimage.map_coordinates(array.astype(np.float64), clipped, order=degree, mode="mirror")
    return np.where(beyond, outside, values)


grids = st.builds(
    make_grid,
    st.tuples(*[st.integers(1, 8)] * 3),
    st.tuples(*[st.floats(0.4, 3.0)] * 3),
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    flips=st.tuples(*[st.sampled_from([1, -1])] * 3),
    shear=st.floats(-0.4, 0.4),
)


def noise(grid: Grid, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=grid.shape).astype(np.float32)


@settings(max_examples=50, deadline=None)
@given(grids, grids, st.tuples(*[st.floats(-2, 2)] * 3), st.sampled_from(["linear", "cubic"]))
def test_any_two_grids_agree_with_scipy(source, target, shift, order):
    target, array = centred_on(target, source, shift), noise(source)
    found = to_grid(array[np.newaxis], source, target, order=order, outside=-7.0)[0]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(array, source, target, order, -7.0), atol=TOLERANCE)


AXES = [((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (1, -1, 1)), ((1, 0, 2), (-1, -1, -1)), ((0, 2, 1), (1, 1, -1))]


@settings(max_examples=40, deadline=None)
@given(
    grids,
    st.sampled_from(AXES),
    st.tuples(*[st.floats(0.3, 3)] * 3),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.sampled_from(["linear", "cubic"]),
)
def test_parallel_axes_agree_with_scipy(source, axes, scale, shape, order):
    order_of_axes, signs = axes
    step = np.zeros((4, 4))
    step[3, 3] = 1
    for new, old in enumerate(order_of_axes):
        step[old, new] = signs[new] * scale[new]
    target = centred_on(Grid(shape, source.affine @ step), source, (0.31, -0.2, 0.4))
    assert sampling.IndexMap.between(source, target).parallel_axes() == order_of_axes
    array = noise(source)
    found = to_grid(array[np.newaxis], source, target, order=order, outside=3.0)[0]
    np.testing.assert_allclose(found, expected(array, source, target, order, 3.0), atol=TOLERANCE)


@settings(max_examples=30, deadline=None)
@given(grids, grids, st.tuples(*[st.floats(-2, 2)] * 3))
def test_nearest_takes_the_nearest_voxel_and_keeps_the_type(source, target, shift):
    target = centred_on(target, source, shift)
    labels = np.random.default_rng(1).integers(1, 300, source.shape).astype(np.uint16)
    found = to_grid(labels[np.newaxis], source, target, order="nearest")[0]
    assert found.dtype == np.uint16
    wanted = expected(labels, source, target, "nearest", 0)
    # Where two voxels are equally near either is right.
    indices = np.stack(np.meshgrid(*map(np.arange, target.shape), indexing="ij"), axis=-1)
    fractions = source.world_to_index(target.index_to_world(indices)) % 1
    tie = (np.abs(fractions - 0.5) < 1e-3).any(axis=-1)
    np.testing.assert_array_equal(found[~tie], wanted[~tie])


@pytest.mark.parametrize("angles", [(0, 0, 0), (20, -35, 50)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1)])
def test_linear_agrees_with_simpleitk(angles, flips):
    source = make_grid((9, 11, 13), (0.7, 0.9, 2.5), angles=(10, 20, -30), flips=flips)
    target = centred_on(
        make_grid((12, 8, 10), (1.1, 1.3, 2.0), angles=np.add((10, 20, -30), angles)), source, (1, 0, 2)
    )
    array = noise(source)
    image = SimpleITK.GetImageFromArray(array.T)
    lps = source.to_lps()
    image.SetSpacing(source.spacing_mm)
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / source.spacing_mm).ravel().tolist())
    lps, resampler = target.to_lps(), SimpleITK.ResampleImageFilter()
    resampler.SetSize(target.shape)
    resampler.SetOutputSpacing(target.spacing_mm)
    resampler.SetOutputOrigin(lps[:3, 3].tolist())
    resampler.SetOutputDirection((lps[:3, :3] / target.spacing_mm).ravel().tolist())
    resampler.SetDefaultPixelValue(-5)
    wanted = SimpleITK.GetArrayFromImage(resampler.Execute(image)).T
    found = to_grid(array[np.newaxis], source, target, outside=-5.0)[0]
    assert (found == -5).any()
    np.testing.assert_allclose(found, wanted, atol=TOLERANCE)


def test_a_linear_ramp_in_the_world_is_reproduced():
    source = make_grid((8, 9, 10), (0.7, 0.9, 2.5), angles=(15, -25, 40), shear=0.2)
    target = centred_on(make_grid((5, 4, 3), (0.4, 0.5, 0.6), angles=(80, 10, 5), flips=(1, -1, 1)), source)

    def ramp(grid: Grid) -> np.ndarray:
        points = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
        return grid.index_to_world(points) @ [3.0, -2.0, 0.5]

    found = to_grid(ramp(source).astype(np.float32)[np.newaxis], source, target)[0]
    np.testing.assert_allclose(found, ramp(target), atol=1e-3)


@pytest.mark.parametrize("order", ["nearest", "linear", "cubic"])
def test_permuting_and_flipping_is_exact(order):
    source = make_grid(SHAPE, (0.7, 0.9, 2.5), angles=(8, -12, 100), shear=0.1)
    array = noise(source)
    for codes in ("RAS", "LPI", "SAR", "PIR"):
        target = source.reoriented(codes)
        axes, flips = source.axes_towards(codes)
        turned = np.flip(array.transpose(axes), [n for n in range(3) if flips[n]])
        np.testing.assert_array_equal(to_grid(array[np.newaxis], source, target, order=order)[0], turned)


@pytest.mark.parametrize("order", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("angles", [(0, 0, 0), (7, 20, -4)])
def test_slabs_do_not_change_the_result(order, angles, monkeypatch):
    source = make_grid((9, 8, 7), (0.7, 0.9, 2.5))
    target = centred_on(make_grid((13, 10, 11), (0.6, 0.7, 1.7), angles=angles), source)
    array = np.stack([noise(source), noise(source, 1)])
    whole = to_grid(array, source, target, order=order)
    monkeypatch.setattr(sampling, "SLAB_BYTES", 1)
    np.testing.assert_allclose(to_grid(array, source, target, order=order), whole, atol=1e-6)


def test_identical_grids_need_no_work():
    grid = make_grid(SHAPE, (0.7, 0.9, 2.5), angles=(1, 2, 3))
    array = noise(grid)[np.newaxis]
    affine = grid.affine.copy()
    affine[0, 3] += 1e-4
    assert to_grid(array, grid, Grid(grid.shape, affine)) is array
    assert to_grid(array.astype(np.int16), grid, grid).dtype == np.float32


def test_outside_starts_half_a_voxel_beyond_the_outer_centres():
    source = Grid.from_spacing((4, 1, 1), (2.0, 1.0, 1.0))
    array = np.array([1, 2, 3, 4], dtype=np.float32).reshape(1, 4, 1, 1)
    for x_mm, wanted in [(-1.1, 9), (-0.9, 1), (0, 1), (1, 1.5), (6, 4), (6.9, 4), (7.1, 9)]:
        affine = np.eye(4)
        affine[0, 3] = x_mm
        assert to_grid(array, source, Grid((1, 1, 1), affine), outside=9)[0, 0, 0, 0] == pytest.approx(wanted)


@pytest.mark.parametrize("order", ["linear", "cubic"])
def test_long_axes_keep_their_precision(order):
    source = make_grid((700, 3, 2), (0.7, 0.9, 2.5), origin=(-350, 10, 1200))
    target = centred_on(make_grid((900, 2, 2), (0.5, 0.9, 2.5), angles=(0.0, 0.0, 0.05)), source)
    array = noise(source) * 1000
    found = to_grid(array[np.newaxis], source, target, order=order)[0]
    np.testing.assert_allclose(found, expected(array, source, target, order, 0), atol=TOLERANCE * 1000)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float16, np.float64, ">i2"])
@pytest.mark.parametrize("angles", [(0, 0, 0), (5, 10, 15)])
@pytest.mark.parametrize("order", ["nearest", "linear", "cubic"])
def test_every_voxel_type_is_read_and_left_alone(dtype, angles, order):
    source = make_grid(SHAPE, (0.7, 0.9, 2.5))
    target = centred_on(make_grid(SHAPE, (0.6, 0.8, 2.0), angles=angles), source)
    array = np.random.default_rng(2).integers(0, 100, (1, *SHAPE)).astype(dtype)
    before = array.copy()
    array.flags.writeable = False
    found = to_grid(array, source, target, order=order)
    assert found.dtype == (array.dtype if order == "nearest" else np.float32)
    np.testing.assert_array_equal(array, before)
    if order == "linear":
        np.testing.assert_allclose(found[0], expected(array[0], source, target, order, 0), atol=0.01)


def test_an_array_that_does_not_fit_is_refused():
    with pytest.raises(GeometryError, match=r"\(1, 5, 6, 7\)"):
        to_grid(
            np.zeros((1, *SHAPE)),
            Grid.from_spacing((7, 6, 5), (1, 1, 1)),
            Grid.from_spacing(SHAPE, (1, 1, 1)),
        )


def test_a_volume_is_filled_with_each_channels_least_value():
    source = make_grid(SHAPE, (0.7, 0.9, 2.5))
    array = np.stack([noise(source) - 1000, noise(source) + 50]).astype(np.int16)
    bigger = source.box((-2, -1, -3), (6, 8, 9))
    found = resample_volume(Volume(array, source), bigger)
    assert found.grid is bigger
    assert found.array.dtype == np.float32
    assert [found.array[n, 0, 0, 0] for n in range(2)] == [array[0].min(), array[1].min()]
    np.testing.assert_array_equal(found.array[:, 2:7, 1:7, 3:10], array)
    assert resample_volume(Volume(array, source), bigger, outside=7).array[1, 0, 0, 0] == 7


def test_a_label_map_keeps_its_table_and_bright_voxel():
    source = make_grid(SHAPE, (0.7, 0.9, 2.5), angles=(20, 10, -30), flips=(-1, 1, 1))
    array = np.zeros(SHAPE, np.uint8)
    array[1, 4, 2] = 3
    label_map = LabelMap(array, source, LabelTable.from_names(["a", "b", "c"]))
    target = centred_on(make_grid((30, 31, 40), (0.3, 0.3, 0.4)), source)
    found = resample_label_map(label_map, target)
    assert found.labels is label_map.labels
    middle = target.index_to_world(np.argwhere(found.array == 3)).mean(axis=0)
    np.testing.assert_allclose(middle, source.index_to_world([1, 4, 2]), atol=0.1)


def oblique(source: Grid) -> Grid:
    return centred_on(make_grid((9, 8, 10), (0.6, 0.8, 2.2), angles=(10, 20, 30)), source)


def respaced(source: Grid) -> Grid:
    return source.with_spacing((0.4, 1.3, 1.1)).box((-1, -2, -3), (9, 6, 14))


@pytest.mark.parametrize(
    "target_of", [oblique, respaced, lambda source: source], ids=["oblique", "respaced", "same"]
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_labels_are_the_argmax_of_the_resampled_logits(target_of: Callable[[Grid], Grid], dtype, monkeypatch):
    source = make_grid(SHAPE, (0.7, 0.9, 2.5), shear=0.1)
    target = target_of(source)
    logits = np.stack([noise(source, seed) for seed in range(4)]).astype(dtype)
    values = np.array([0, 2, 5, 7])
    wanted = values[to_grid(logits, source, target).argmax(axis=0)]
    beyond = to_grid(np.ones_like(logits[:1]), source, target)[0] == 0
    monkeypatch.setattr(sampling, "SLAB_BYTES", 4000)
    found = logits_to_labels(logits, source, target, ChannelRule(tuple(values.tolist())))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.where(beyond, 0, wanted))


def test_large_label_values_and_bad_logits():
    source = make_grid(SHAPE, (0.7, 0.9, 2.5))
    logits = np.zeros((2, *SHAPE), np.float32)
    logits[1] += 1
    assert logits_to_labels(logits, source, source, ChannelRule((0, 300))).dtype == np.uint16
    assert (logits_to_labels(logits, source, source, ChannelRule((0, 300))) == 300).all()
    assert (logits_to_labels(logits * 0, source, source, ChannelRule((0, 300))) == 0).all()
    for values in [(1,), (0, 1, 2), (0, -1), (0, 70000)]:
        with pytest.raises(InputError, match="2 channels"):
            logits_to_labels(logits, source, source, ChannelRule(values))
    logits[0, 2, 3, 4] = np.nan
    with pytest.raises(IntensityError, match="NaN"):
        logits_to_labels(logits, source, source, ChannelRule((0, 1)))


@pytest.mark.parametrize("angles", [(0, 0, 0), (0, 0, 25)])
def test_logits_are_never_held_at_full_size(angles):
    target = make_grid((200, 200, 100), (0.8, 0.8, 1.5), angles=angles)
    source = make_grid((80, 80, 50), (2.0, 2.0, 3.0))
    logits = np.random.default_rng(0).normal(size=(3, *source.shape)).astype(np.float16)
    tracemalloc.start()
    labels = logits_to_labels(logits, source, target, ChannelRule((0, 1, 2)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    full_logits = 3 * 4 * labels.size
    assert peak <= labels.nbytes + sampling.SLAB_BYTES < full_logits / 2
