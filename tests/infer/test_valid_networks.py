"""Networks whose logits are smaller than their input: overlap-tile gives what one pass over the whole volume gives."""

from itertools import chain, combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from volseg.errors import ConfigError, PackageError
from volseg.geometry import Grid
from volseg.infer.engines import Engine, package_engine
from volseg.infer.ensemble import Ensemble, load_ensemble
from volseg.infer.predictor import Predictor
from volseg.infer.sliding import check_tile, logit_slabs, plan_boxes
from volseg.models import MODELS
from volseg.models.extents import ExtentRule
from volseg.package import Package, TileInfo
from volseg.volume import Volume

PAPER = {"name": "unet", "norm": "none", "negative_slope": 0, "padding": "valid", "deep_supervision": False}
"""Ronneberger et al. 2015, but for widths and dimensions."""

RULE_OF_2015 = ExtentRule((16, 16), (12, 12), (92, 92), (188, 188))


def built(seed=0, channels=2, **fields):
    torch.manual_seed(seed)
    return MODELS.build({**PAPER, **fields}).build(channels, 3).double().eval()


def noise(*shape):
    return np.random.default_rng(7).normal(size=shape)


def in_one_pass(module, array, mirror_axes=()):
    """Logits [N, I, J, K] of the whole volume [C, I, J, K], mirrored by the margins and up to extents that suit."""
    rule, dims = module.extents, len(module.extents.margins)
    shape = array.shape[1 : 1 + dims]
    fitting = rule.fitting(tuple(n + 2 * m for n, m in zip(shape, rule.margins, strict=True)))
    pads = [(m, f - n - m) for n, m, f in zip(shape, rule.margins, fitting, strict=True)]
    padded = torch.from_numpy(np.pad(array, [(0, 0), *pads, *[(0, 0)] * (3 - dims)], mode="reflect"))[None]

    def run(batch):
        with torch.inference_mode():
            return module(batch) if dims == 3 else torch.stack([module(k) for k in batch.unbind(-1)], dim=-1)

    flips = chain.from_iterable(combinations(mirror_axes, n) for n in range(len(mirror_axes) + 1))
    views = [[axis + 2 for axis in axes] for axes in flips]
    mean = torch.stack([run(padded.flip(axes)).flip(axes) for axes in views]).mean(dim=0)[0].numpy()
    return mean[(slice(None), *(slice(n) for n in array.shape[1:]))]


def in_tiles(module, array, tile, mirror_axes=()):
    engine = Engine(
        module,
        dimensions=len(module.extents.margins),
        tile_voxels=tile.tile_voxels,
        mirror_axes=mirror_axes,
        device=torch.device("cpu"),
    )
    slabs = list(logit_slabs(array, engine, tile, 3))
    assert [slab.start for slab in slabs] == [0, *(slab.stop for slab in slabs[:-1])]
    return np.concatenate([slab.logits for slab in slabs], axis=1)


def assert_same(found, expected):
    """Equal but for the rounding of float64 logits to float32, and of their blend."""
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 3e-7 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["unet", "unetpp"])
@pytest.mark.parametrize("shape", [(37, 50, 3), (9, 150, 2)])
@pytest.mark.parametrize("tile", [(44, 44), (48, 84), (120, 60)])
def test_a_2d_network(name, shape, tile):
    """Two levels down: margins of 20 pixels, more than the smaller volumes have."""
    module = built(name=name, dimensions=2, widths=[3, 4, 5])
    assert module.extents.margins == (20, 20)
    array = noise(2, *shape)
    tile = TileInfo(tile_voxels=(*tile, 1), overlap=0, weights="constant")
    assert_same(in_tiles(module, array, tile), in_one_pass(module, array))


@pytest.mark.parametrize(
    ("shape", "tile", "overlap"),
    [
        ((37, 50, 23), (38, 34, 26), 0),
        ((3, 25, 1), (18, 30, 26), 0.5),
        ((9, 12, 7), (18, 18, 18), 0),
        ((7, 12, 9), (22, 20, 26), 0.5),
    ],
)
def test_a_3d_network(shape, tile, overlap):
    """One level down: margins of 8 voxels; 18 is the least that a tile may have."""
    module = built(dimensions=3, widths=[3, 4])
    assert module.extents.least == (18, 18, 18)
    tile = TileInfo(tile_voxels=tile, overlap=overlap)
    array = noise(2, *shape)
    assert_same(in_tiles(module, array, tile), in_one_pass(module, array))


ANISOTROPIC = {
    "dimensions": 3,
    "widths": [2, 3, 4],
    "strides": [[2, 2, 1], [2, 3, 2]],
    "kernel_sizes": [[3, 3, 1], [3, 1, 3], [1, 3, 3]],
}


@pytest.mark.parametrize("mirror_axes", [(), (0,), (1, 2)])
def test_thick_slices_and_flips(mirror_axes):
    module = built(**ANISOTROPIC)
    rule = module.extents
    assert rule.divisors == (4, 6, 2)
    assert len(set(rule.margins)) == 3
    extents = rule.fitting(tuple(d + 2 * m + 5 for d, m in zip(rule.divisors, rule.margins, strict=True)))
    tile = TileInfo(tile_voxels=extents, overlap=0.3)
    array = noise(2, 13, 23, 9)
    assert_same(in_tiles(module, array, tile, mirror_axes), in_one_pass(module, array, mirror_axes))


sizes = st.sampled_from([1, 3])
levels = st.lists(st.tuples(sizes, sizes), min_size=2, max_size=3)


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_any_network_tile_and_image(data):
    kernels = data.draw(levels)
    kernels[0] = (3, kernels[0][1])
    steps = st.tuples(st.integers(1, 3), st.integers(1, 3))
    strides = [data.draw(steps) for _ in kernels[1:]]
    upsample = data.draw(st.sampled_from(["transposed", "pixelshuffle", "nearest"]))
    widths = [2] * len(kernels)
    module = built(dimensions=2, widths=widths, kernel_sizes=kernels, strides=strides, upsample=upsample)
    rule = module.extents
    more = data.draw(st.tuples(st.integers(0, 20), st.integers(0, 20)))
    needed = zip(rule.divisors, rule.margins, more, strict=True)
    extents = rule.fitting(tuple(divisor + 2 * margin + extra for divisor, margin, extra in needed))
    tile = TileInfo(tile_voxels=(*extents, 1), overlap=data.draw(st.sampled_from([0, 0.25, 0.5, 0.8])))
    array = noise(2, *data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40))), 1)
    assert_same(in_tiles(module, array, tile), in_one_pass(module, array))


@pytest.mark.parametrize("name", ["unet", "unetpp"])
@pytest.mark.parametrize("output", ["average", "fuse"])
def test_all_heads_together(name, output):
    module = built(name=name, dimensions=2, widths=[3, 4, 5], deep_supervision=True, output=output)
    array = noise(2, 37, 50, 1)
    tile = TileInfo(tile_voxels=(52, 48, 1), overlap=0)
    assert_same(in_tiles(module, array, tile), in_one_pass(module, array))


def test_the_network_of_2015_at_its_extents():
    """572 -> 388: boxes of logits start at multiples of 16, so that two of 388 pixels cover 600."""
    module = built(dimensions=2, widths=[1, 1, 1, 1, 1], channels=1)
    assert module.extents == RULE_OF_2015
    tile = TileInfo(tile_voxels=(572, 572, 1), overlap=0)
    boxes = plan_boxes((600, 700, 1), tile, module.extents)
    assert [box.start[:2] for box in boxes] == [(0, 0), (0, 320), (224, 0), (224, 320)]
    assert {box.stop[0] - box.start[0] for box in boxes} == {388}
    array = noise(1, 600, 700, 1)
    assert_same(in_tiles(module, array, tile), in_one_pass(module, array))


@pytest.mark.slow
def test_the_network_of_2015():
    module = built(dimensions=2, widths=[64, 128, 256, 512, 1024], channels=1).float()
    array = noise(1, 600, 700, 1).astype(np.float32)
    found = in_tiles(module, array, TileInfo(tile_voxels=(572, 572, 1), overlap=0))
    expected = in_one_pass(module, array)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_neighbour_slices_of_a_tile_grown_by_its_margins():
    module = built(dimensions=2, widths=[2, 3], channels=3)
    array = noise(1, 23, 31, 4)
    around = np.pad(array, [(0, 0), (0, 0), (0, 0), (1, 1)], mode="reflect")[0]
    stacked = np.stack([around[..., n : n + 4] for n in range(3)])
    tile = TileInfo(tile_voxels=(22, 26, 1), overlap=0, slices_around=1)
    assert_same(in_tiles(module, array, tile), in_one_pass(module, stacked))


def test_tiles_that_would_leave_gaps_or_have_a_halo_are_refused():
    with pytest.raises(ConfigError, match=r"logits of \[4, 4, 1\].*use tile.tile_voxels \[204, 204, 1\]"):
        check_tile(TileInfo(tile_voxels=(188, 188, 1)), RULE_OF_2015)
    with pytest.raises(ConfigError, match=r"use tile.tile_voxels \[572, 204, 1\]"):
        check_tile(TileInfo(tile_voxels=(572, 188, 1)), RULE_OF_2015)
    check_tile(TileInfo(tile_voxels=(204, 204, 1)), RULE_OF_2015)
    with pytest.raises(ConfigError, match=r"\[92, 92, 0\] voxels beyond each face.*leave the halo out"):
        check_tile(TileInfo(tile_voxels=(572, 572, 1), halo_voxels=(4, 4, 0)), RULE_OF_2015)


def packed(make_info, tile, *, bias=0.0, **fields):
    architecture = {**PAPER, "widths": [2, 3], "dimensions": 2, **fields}
    torch.manual_seed(0)
    state = MODELS.build(architecture).build(1, 3).state_dict()
    weights = {name: value.numpy() + np.float32(bias) for name, value in state.items()}
    return Package.pack(
        make_info(architecture=architecture, tile=tile), weights=weights, card="", golden=None
    )


def test_a_package_predicts_through_the_same_path(make_info):
    package = packed(make_info, TileInfo(tile_voxels=(26, 22, 1), overlap=0))
    volume = Volume(noise(1, 21, 30, 3).astype(np.float32), Grid((21, 30, 3), np.diag([1, 2, 3, 1.0])))
    module = MODELS.build(package.info.architecture).build(1, 3)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in package.weights().items()})
    indices = in_one_pass(module.eval(), volume.array).argmax(axis=0)
    found = Predictor(package, device="cpu").predict(volume).label_map.array
    values = np.array([0, *package.info.label_table.values])
    assert len(np.unique(found)) > 1
    assert (found == values[indices]).mean() > 0.999  # ties within rounding


@pytest.mark.parametrize(
    ("tile", "word"),
    [
        (TileInfo(tile_voxels=(25, 22, 1)), r"\(25, 22, 1\) do not suit.*\(26, 22\)"),
        (TileInfo(tile_voxels=(26, 22, 1), halo_voxels=(1, 0, 0)), "leave the halo out"),
    ],
)
def test_packages_whose_tiles_do_not_fit_are_refused(make_info, tile, word):
    with pytest.raises(PackageError, match=word):
        package_engine(packed(make_info, tile), device="cpu")


def test_an_ensemble_agrees_on_the_voxels_it_answers_for(make_info):
    tile = TileInfo(tile_voxels=(26, 22, 1), overlap=0)
    alike = [packed(make_info, tile), packed(make_info, tile, bias=0.1)]
    array = noise(1, 21, 30, 2).astype(np.float32)
    both = np.concatenate(
        [s.logits for s in logit_slabs(array, load_ensemble(alike, device="cpu"), tile, 3)], 1
    )
    alone = [
        np.concatenate([s.logits for s in logit_slabs(array, package_engine(one, device="cpu"), tile, 3)], 1)
        for one in alike
    ]
    assert np.allclose(both, np.mean(alone, axis=0), atol=1e-5)
    padded = packed(make_info, tile, padding="same")
    with pytest.raises(PackageError, match=r"margins of \[8, 8, 0\] and \[0, 0, 0\] voxels.*\[2, 2, 1\] and"):
        load_ensemble([alike[0], padded], device="cpu")


def test_padded_networks_of_other_depths_still_answer_together(make_info):
    tile = TileInfo(tile_voxels=(24, 24, 1))
    packages = [packed(make_info, tile, padding="same", widths=widths) for widths in ([2, 3], [2, 3, 4])]
    assert isinstance(load_ensemble(packages, device="cpu"), Ensemble)
