from math import prod

import pytest
import torch

from tests.plan.fingerprints import KINDS, Imagined
from volseg.models.unet import UNet
from volseg.package import TileInfo
from volseg.plan.planner import plan_training
from volseg.plan.request import PlanRequest
from volseg.plan.throughput import in_channels, measure_step, step_flops, surroundings

REQUEST = PlanRequest(device="cpu", max_ram=4 << 30, dims="3")


def config_of(kind, *, request=REQUEST, **changes):
    return plan_training(Imagined(), KINDS[kind], request).config.model_copy(update=changes)


def small(**changes):
    config = config_of("hippocampus")
    widths = (8,) * len(config.architecture.widths)
    architecture = config.architecture.model_copy(update={"widths": widths})
    return config.model_copy(update={"architecture": architecture, "batch_size": 1} | changes)


def test_operations_by_hand():
    """A multiplication and an addition per weight and voxel: of the output, or of a transposed convolution's input."""
    config = small()
    module, counted = config.architecture.build(1, 2), []

    def count(layer, inputs, output):
        per = inputs[0] if "Transpose" in type(layer).__name__ else output
        counted.append(2 * layer.weight.numel() * prod(per.shape[2:]))

    for layer in module.modules():
        if type(layer).__name__ in {"Conv2d", "Conv3d", "ConvTranspose2d", "ConvTranspose3d"}:
            layer.register_forward_hook(count)
    module(torch.zeros(1, 1, *config.patch_voxels))
    assert step_flops(config) == 3 * sum(counted)


def test_operations_grow_with_patches_in_a_step():
    assert step_flops(small(batch_size=3, accumulate=2)) == 6 * step_flops(small())


def test_channels_of_neighbouring_slices():
    config = config_of("prostate", request=REQUEST.model_copy(update={"dims": "2.5"}))
    assert in_channels(config) == 2 * config.tile.slices_around + 1 == 3
    assert step_flops(config) > 0


@pytest.mark.parametrize("dims", ["2", "3"])
def test_a_step_is_timed(dims):
    config = config_of("hippocampus", request=REQUEST.model_copy(update={"dims": dims}))
    architecture = config.architecture.model_copy(update={"widths": (4,) * len(config.architecture.widths)})
    divisors = architecture.build(1, 2).extents.divisors
    patch = (*(2 * divisor for divisor in divisors), 1)[:3]
    seconds = measure_step(
        config.model_copy(update={"architecture": architecture, "patch_voxels": patch, "batch_size": 1}),
        device="cpu",
    )
    assert 0 < seconds < 10


def test_prediction_of_a_case_follows_tiles_and_views():
    config = config_of("lits")
    tile = TileInfo(tile_voxels=config.patch_voxels, overlap=0.0)
    plain = config.model_copy(update={"tile": tile, "mirror_axes": ()})
    fingerprint = KINDS["lits"]
    one = surroundings(plain, fingerprint, 1.0)
    assert surroundings(plain, fingerprint, 2.0).case == pytest.approx(2 * one.case)
    views = surroundings(plain.model_copy(update={"mirror_axes": (0,)}), fingerprint, 1.0)
    assert views.case == pytest.approx(2 * one.case)
    lapped = plain.model_copy(update={"tile": tile.model_copy(update={"overlap": 0.5})})
    assert 2 < surroundings(lapped, fingerprint, 1.0).case / one.case < 8
    assert one.held_out == 27  # of 131 in five folds
    assert one.end == pytest.approx(27 * one.case)


def test_tiles_whose_logits_are_smaller_are_as_many_as_their_logits_need():
    config = small()
    architecture = UNet(widths=(4, 4), padding="valid", norm="none")
    tile = TileInfo(tile_voxels=(26, 26, 26), overlap=0.0)
    valid = config.model_copy(update={"architecture": architecture, "tile": tile, "mirror_axes": ()})
    smaller = TileInfo(tile_voxels=(10, 10, 10), overlap=0.0)
    padded = valid.model_copy(update={"tile": smaller, "architecture": UNet(widths=(4, 4))})
    found = surroundings(valid, KINDS["hippocampus"], 1.0).case
    assert found == pytest.approx(surroundings(padded, KINDS["hippocampus"], 1.0).case * 26**3 / 10**3)


def test_preparation_follows_cases_voxels_and_channels():
    config = config_of("brats")
    four = surroundings(config, KINDS["brats"], 1.0).preparation
    assert four == pytest.approx(484 * 4 * 240 * 240 * 155 * (4e-8 + 1.2e-7), rel=1e-6)
