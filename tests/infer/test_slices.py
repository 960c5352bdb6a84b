"""2.5D: a network of slices that also sees its neighbours, in the documented order of channels."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pytest
import torch

from tests.grids import affine_of
from volseg.errors import PackageError
from volseg.geometry import Grid
from volseg.infer.engines import package_engine
from volseg.infer.predictor import Predictor
from volseg.infer.sliding import logit_slabs
from volseg.infer.tiles import Tile, read_slices
from volseg.models import MODELS, Architecture
from volseg.models.extents import ExtentRule
from volseg.package import ChannelInfo, Package, TileInfo
from volseg.train.samples.augment_settings import AugmentConfig
from volseg.train.samples.sampling import PatchSampler
from volseg.train.settings import SamplingConfig
from volseg.volume import Volume


class Picked(torch.nn.Module):
    """The logit of channel n is the sum of given input channels; background is 0."""

    def __init__(self, in_channels, picks):
        super().__init__()
        self.extents = ExtentRule.multiples_of((1, 1))
        self.picks = picks
        self.anchor = torch.nn.Parameter(torch.zeros(in_channels))

    def forward(self, batch):
        assert batch.ndim == 4
        assert batch.shape[1] == len(self.anchor)
        sums = [batch[:, list(channels)].sum(dim=1) for channels in self.picks]
        return torch.stack([torch.zeros_like(batch[:, 0]), *sums], dim=1)


@MODELS.add
class PickedArchitecture(Architecture):
    name: Literal["test_picked"] = "test_picked"
    picks: tuple[tuple[int, ...], ...] = ()

    def build(self, in_channels, label_count, *, head=None):
        return Picked(in_channels, self.picks)


def reflected(index, extent):
    """The mirror that stands on the outermost slice, counted on foot."""
    while not 0 <= index < extent:
        index = -index if index < 0 else 2 * (extent - 1) - index
    return index


def package_of(make_info, picks, *, around, channels=2, tile=(4, 5, 1)):
    info = make_info(
        architecture={"name": "test_picked", "dimensions": 2, "picks": picks},
        channels=[ChannelInfo(name=f"T{n}", modality="MR") for n in range(channels)],
        tile=TileInfo(tile_voxels=tile, slices_around=around),
    )
    weights = {"anchor": np.zeros(info.in_channels, np.float32)}
    return Package.pack(info, weights=weights, card="", golden=None)


@pytest.mark.parametrize("around", [1, 2, 5])
def test_each_network_channel_is_the_slice_its_number_says(make_info, around):
    array = np.random.default_rng(4).normal(size=(2, 5, 6, 4)).astype(np.float32)
    width = 2 * around + 1
    for channel in range(2):
        for offset in range(-around, around + 1):
            number = channel * width + offset + around
            package = package_of(make_info, [[number], [number]], around=around)
            engine = package_engine(package, device="cpu")
            slabs = logit_slabs(array, engine, package.info.tile, package.info.channel_count)
            logits = np.concatenate([slab.logits[1] for slab in slabs])
            wanted = [array[channel, ..., reflected(k + offset, 4)] for k in range(4)]
            assert np.allclose(logits, np.stack(wanted, axis=-1), atol=1e-6), (channel, offset)


def test_a_single_slice_is_its_own_neighbour(make_info):
    array = np.random.default_rng(4).normal(size=(2, 5, 6, 1)).astype(np.float32)
    package = package_of(make_info, [[0, 2], [3]], around=1)
    slabs = logit_slabs(array, package_engine(package, device="cpu"), package.info.tile, 3)
    logits = np.concatenate([slab.logits for slab in slabs], axis=1)
    assert np.allclose(logits[1], 2 * array[0], atol=1e-6)
    assert np.allclose(logits[2], array[1], atol=1e-6)


def test_slices_of_a_tile_that_reaches_beyond_the_volume_are_mirrored_in_its_plane_too():
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    tile = Tile((-1, 2, 4), (3, 6, 5), (3, 4, 5))
    found = read_slices(array, tile, 1)
    assert found.shape == (6, 4, 4, 1)
    padded = np.pad(array, ((0, 0), (1, 0), (0, 2), (1, 1)), mode="reflect")
    for channel in range(2):
        for offset in (-1, 0, 1):
            wanted = padded[channel, 0:4, 2:6, 5 + offset]
            assert np.array_equal(found[channel * 3 + offset + 1, ..., 0], wanted)


def test_a_whole_prediction_finds_the_slice_before(make_info):
    grid = Grid((5, 6, 7), affine_of(flip=(False, True, False)))
    array = np.zeros((1, *grid.shape), np.float32)
    array[0, 2, 3, 4] = 5
    package = package_of(make_info, [[0], [2]], around=1, channels=1)
    found = Predictor(package, device="cpu").predict(Volume(array, grid)).label_map.array
    # channel 0 is the slice before (k - 1), channel 2 the one after: the point shines into its neighbours
    assert np.argwhere(found == 2).tolist() == [[2, 3, 5]]
    assert np.argwhere(found == 7).tolist() == [[2, 3, 3]]


def test_slices_around_are_for_2d_networks_only(make_info):
    tile = TileInfo(tile_voxels=(4, 5, 1), slices_around=1)
    with pytest.raises(ValueError, match=r"slices_around is 1.*dimensions: 2"):
        make_info(tile=tile)
    with pytest.raises(ValueError, match="axis 2, along which a 2D network"):
        make_info(architecture={"name": "test_picked", "dimensions": 2}, tile=tile, mirror_axes=[0, 2])
    info = make_info(architecture={"name": "test_picked", "dimensions": 2}, tile=tile)
    assert (info.in_channels, info.channel_count) == (3, 3)


def test_weights_for_another_number_of_slices_are_refused(make_info):
    package = package_of(make_info, [[0], [1]], around=1)
    wrong = Package.pack(package.info, weights={"anchor": np.zeros(2, np.float32)}, card="", golden=None)
    with pytest.raises(PackageError, match="not those of its architecture"):
        package_engine(wrong, device="cpu")


@dataclass(frozen=True)
class ArrayCase:
    """What a patch is drawn from, in memory."""

    image: np.ndarray
    labels: np.ndarray
    grid: Grid
    places: dict[int, object] = field(default_factory=dict)

    @property
    def shape(self):
        return self.grid.shape


@pytest.mark.parametrize("around", [1, 2])
def test_training_lists_the_slices_in_the_same_order(around):
    """An unchanged training patch is a tile of the same place, channel by channel, at the ends of the volume too."""
    grid = Grid((5, 6, 3), affine_of())
    image = np.random.default_rng(0).normal(size=(2, *grid.shape)).astype(np.float32)
    labels = (np.arange(90) % 3).astype(np.uint8).reshape(grid.shape)
    sampler = PatchSampler(
        [ArrayCase(image, labels, grid)],
        (4, 5, 1),
        SamplingConfig(),
        AugmentConfig(spatial_probability=0, intensity_probability=0),
        label_weights=(1, 1),
        slices_around=around,
    )
    starts = [(i, j, k) for i in range(2) for j in range(2) for k in range(3)]
    tiles = [Tile((i, j, k), (i + 4, j + 5, k + 1), grid.shape) for i, j, k in starts]
    known = {read_slices(image, tile, around).tobytes(): tile for tile in tiles}
    assert len(known) == len(tiles)
    seen = set()
    for step in range(80):
        patch, truth = sampler.patch(step, 0)
        tile = known[patch.numpy().tobytes()]
        assert np.array_equal(truth.numpy(), labels[tile.slices])
        seen.add(tile.start[2])
    assert seen == {0, 1, 2}
