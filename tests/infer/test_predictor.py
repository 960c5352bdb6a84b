import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from volseg.errors import InputError, IntensityError, PackageError
from volseg.geometry import Grid
from volseg.infer.predictor import Predictor, check_golden, golden_case
from volseg.models import MODELS
from volseg.package import GoldenCase, Package, TileInfo, load_package
from volseg.volume import Volume


def oblique_grid(shape=(5, 6, 7)):
    """Rotated, sheared, left-handed, anisotropic, off the origin."""
    angle = 0.4
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([-0.7, 0.9, 2.5])
    affine[0, 2] += 0.3
    affine[:3, 3] = 31, -17, 88
    return Grid(shape, affine)


def noise(shape=(5, 6, 7), channels=1, seed=3):
    array = np.random.default_rng(seed).uniform(0, 5, size=(channels, *shape)).astype(np.float32)
    return Volume(array, oblique_grid(shape))


def thresholded(array):
    return np.select([array > 3, array > 1], [7, 2], 0)


@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 8), st.integers(1, 7)),
    weights=st.sampled_from(["gaussian", "constant"]),
    halo=st.integers(0, 2),
)
@settings(max_examples=20, deadline=None)
def test_a_pointwise_model_labels_every_voxel_as_if_there_were_no_tiles(make_package, shape, weights, halo):
    tile = TileInfo(tile_voxels=(5, 6, 7), weights=weights, halo_voxels=(halo, 0, halo))
    volume = noise(shape)
    label_map = Predictor(make_package(tile=tile), device="cpu").predict(volume).label_map
    assert label_map.grid == volume.grid
    assert label_map.labels.values == (2, 7)
    assert np.array_equal(label_map.array, thresholded(volume.array[0]))


def test_a_2d_model_goes_the_same_way(make_package):
    package = make_package(
        architecture={"name": "test_thresholds", "dimensions": 2}, tile=TileInfo(tile_voxels=(4, 4, 1))
    )
    volume = noise()
    assert np.array_equal(
        Predictor(package, device="cpu").predict(volume).label_map.array, thresholded(volume.array[0])
    )


def test_bright_points_are_found_where_they_are_in_the_world(make_package):
    grid = oblique_grid((12, 14, 9))
    points_mm = grid.index_to_world([[3, 10, 2], [8, 4, 6]])
    array = np.zeros(grid.shape, np.float32)
    for i, j, k in ([3, 10, 2], [8, 4, 6]):
        array[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2] = 4
    package = make_package(
        preprocess=[{"name": "orient", "codes": "ASR"}, {"name": "crop_nonzero", "margin_voxels": 1}],
        tile=TileInfo(tile_voxels=(4, 6, 8)),
    )
    label_map = Predictor(package, device="cpu").predict(Volume(array, grid)).label_map
    assert label_map.grid == grid
    assert np.array_equal(label_map.array == 7, array == 4)
    for point in points_mm:
        i, j, k = np.rint(label_map.grid.world_to_index(point)).astype(int)
        assert label_map.array[i, j, k] == 7


def test_another_spacing_for_the_model_comes_back_on_the_sources_grid(make_package):
    grid = oblique_grid((16, 14, 9))
    array = np.zeros(grid.shape, np.float32)
    array[4:12, 3:10, 2:7] = 4
    package = make_package(preprocess=[{"name": "respace", "spacing_mm": [1.1, 0.8, 1.9]}])
    label_map = Predictor(package, device="cpu").predict(Volume(array, grid)).label_map
    inside, found = array == 4, label_map.array > 0
    assert label_map.grid == grid
    assert 2 * np.count_nonzero(inside & found) / (inside.sum() + found.sum()) > 0.85


def test_probabilities_sum_to_one_and_agree_with_the_labels(make_package):
    array = np.zeros((9, 8, 7), np.float32)
    array[2:6, 1:5, 3:6] = np.random.default_rng(0).uniform(0.5, 5, (4, 4, 3))
    volume = Volume(array, oblique_grid(array.shape))
    package = make_package(preprocess=[{"name": "crop_nonzero", "margin_voxels": 0}])
    prediction = Predictor(package, device="cpu").predict(volume, keep_probabilities=True)
    assert prediction.probabilities is not None
    probabilities = prediction.probabilities.array
    assert probabilities.shape == (3, 9, 8, 7)
    assert np.allclose(probabilities.sum(axis=0), 1, atol=1e-6)
    assert np.array_equal(np.array([0, 2, 7])[probabilities.argmax(axis=0)], prediction.label_map.array)
    outside = np.ones(array.shape, bool)
    outside[2:6, 1:5, 3:6] = False
    assert probabilities[0][outside].min() > 0.999999
    assert Predictor(package, device="cpu").predict(volume).probabilities is None


def test_postprocessing_runs_on_the_sources_grid(make_package):
    array = np.zeros((9, 8, 7), np.float32)
    array[1:4, 1:4, 1:4] = 4
    array[7, 6, 5] = 4
    volume = Volume(array, oblique_grid(array.shape))
    package = make_package(postprocess=[{"name": "keep_largest"}])
    label_map = Predictor(package, device="cpu").predict(volume).label_map
    assert np.count_nonzero(label_map.array) == 27


def test_integer_volumes_are_read_as_they_are(make_package):
    volume = Volume(np.arange(210, dtype=np.int16).reshape(5, 6, 7) % 6, oblique_grid())
    label_map = Predictor(make_package(), device="cpu").predict(volume).label_map
    assert np.array_equal(label_map.array == 7, volume.array[0] > 3)


def test_a_wrong_number_of_channels_is_refused_with_their_names(make_package):
    channels = [{"name": "FLAIR", "modality": "MR"}, {"name": "T1", "modality": "MR"}]
    with pytest.raises(InputError, match=r"found 1 channel.*expects 2.*FLAIR, T1"):
        Predictor(make_package(channels=channels), device="cpu").predict(noise())


def test_what_a_preprocess_step_refuses_is_refused(make_package):
    package = make_package(preprocess=[{"name": "zscore", "region": "all"}])
    volume = Volume(np.ones((5, 6, 7), np.float32), oblique_grid())
    with pytest.raises(IntensityError):
        Predictor(package, device="cpu").predict(volume)


def test_an_unknown_step_is_the_packages_fault(make_package):
    with pytest.raises(PackageError, match="Did you mean 'zscore'"):
        Predictor(make_package(preprocess=[{"name": "zscor"}]), device="cpu")


def test_a_model_tests_itself(make_package, tmp_path):
    golden = golden_case(make_package(), noise())
    make_package(golden=golden).write(tmp_path / "tiny.volseg")
    assert check_golden(load_package(tmp_path / "tiny.volseg"), device="cpu") == 1.0
    wrong = GoldenCase(golden.volume, np.flip(golden.labels, 0))
    with pytest.raises(PackageError, match="golden case"):
        check_golden(make_package(golden=wrong), device="cpu")
    with pytest.raises(PackageError, match="no golden case"):
        check_golden(make_package(), device="cpu")


def test_a_scan_larger_than_the_model_is_for_is_refused_along_the_bodys_axes(make_package):
    volume = Volume(
        noise((5, 6, 7)).array,
        Grid((5, 6, 7), [[0, 0, 2.5, 0], [0.7, 0, 0, 0], [0, 0.9, 0, 0], [0, 0, 0, 1]]),
    )
    fitting = make_package(largest_mm=(17.5, 3.5, 5.4))  # k runs to the right, i to the front, j upwards
    assert Predictor(fitting, device="cpu").predict(volume).label_map.array.any()
    smaller = make_package(largest_mm=(17.5, 3.4, 5.4))
    with pytest.raises(InputError, match=r"18 x 4 x 5 mm.*for scans up to 18 x 3 x 5 mm.*Cut the scan"):
        Predictor(smaller, device="cpu").predict(volume)


REGIONS = [
    {"name": "whole", "values": [2, 7], "paint": 2},
    {"name": "core", "values": [7], "paint": 7},
]


def region_package(make_info, **fields):
    """The whole from 1 upwards, the core from 3; the network has no background channel."""
    weights = {"scale": np.float32([2, 1]), "offset": np.float32([-2, -3])}
    info = make_info(regions=REGIONS, **fields)
    return Package.pack(info, weights=weights, card="", golden=None)


def test_a_model_of_regions_paints_them_over_each_other(make_info):
    volume = noise()
    prediction = Predictor(region_package(make_info), device="cpu").predict(volume, keep_probabilities=True)
    assert np.array_equal(prediction.label_map.array, thresholded(volume.array[0]))
    assert prediction.label_map.labels.values == (2, 7)
    assert prediction.channel_names == ("whole", "core")
    assert prediction.probabilities is not None
    expected = 1 / (1 + np.exp(-np.stack([2 * volume.array[0] - 2, volume.array[0] - 3])))
    assert np.allclose(prediction.probabilities.array, expected, atol=1e-5)
    streamed = Predictor(region_package(make_info), device="cpu").predict(volume)
    assert np.array_equal(streamed.label_map.array, prediction.label_map.array)
    assert streamed.channel_names == ()


def test_a_package_of_regions_tests_itself(make_info):
    package = region_package(make_info)
    golden = golden_case(package, noise())
    packed = Package.pack(package.info, weights=package.weights(), card="", golden=golden)
    assert check_golden(packed, device="cpu") == 1.0


@pytest.mark.parametrize(
    ("architecture", "tile", "steps"),
    [
        (  # low resolution: isotropic, much coarser than the scan
            {"widths": [4, 6, 8]},
            (16, 12, 8),
            [
                {"name": "orient", "codes": "LAS"},
                {"name": "respace", "spacing_mm": [2.1, 2.2, 3.0]},
            ],
        ),
        (  # anisotropic: thick slices are neither halved nor looked across on the first level
            {
                "widths": [4, 6, 8],
                "kernel_sizes": [[3, 3, 1], [3, 3, 3], [3, 3, 3]],
                "strides": [[2, 2, 1], [2, 1, 2]],
            },
            (12, 10, 6),
            [
                {"name": "orient", "codes": "PSR"},
                {"name": "respace", "spacing_mm": [0.8, 2.4, 0.9]},
            ],
        ),
    ],
    ids=["low resolution", "anisotropic"],
)
def test_coarse_and_anisotropic_models_run_end_to_end(make_info, architecture, tile, steps):
    torch.manual_seed(0)
    fields = {"name": "unetpp", **architecture}
    module = MODELS.build(fields).build(1, 3)
    weights = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    info = make_info(architecture=fields, tile=TileInfo(tile_voxels=tile, overlap=0.25), preprocess=steps)
    package = Package.pack(info, weights=weights, card="", golden=None)
    grid = oblique_grid((21, 24, 9))
    array = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    predictor = Predictor(package, device="cpu")
    found = predictor.predict(Volume(array, grid), keep_probabilities=True)
    assert found.label_map.grid == grid
    assert found.probabilities is not None
    assert np.allclose(found.probabilities.array.sum(axis=0), 1, atol=1e-5)
    labels = found.label_map.array
    assert len(np.unique(labels)) > 1
    # the same scan, its voxels listed in another order, is labelled alike but where logits are nearly equal
    turned_grid = grid.reoriented("IPR")
    order, flips = grid.axes_towards("IPR")
    axes = tuple(axis for axis in range(3) if flips[axis])
    turned = predictor.predict(Volume(np.flip(array.transpose(order), axes), turned_grid)).label_map
    back = np.flip(turned.array, axes).transpose(np.argsort(order))
    assert (back == labels).mean() > 0.99
