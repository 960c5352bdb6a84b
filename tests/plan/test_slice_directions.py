"""Scans whose slices run in several directions, and slices that the spacing does not tell."""

import numpy as np
import pytest

from tests.plan.fingerprints import Imagined
from volseg.datasets import Case
from volseg.geometry import Grid
from volseg.io import write_label_map, write_volume
from volseg.plan.fingerprint import measure_fingerprint
from volseg.plan.planner import plan_training
from volseg.plan.request import PlanRequest
from volseg.preprocess.spatial import Orient, Respace, slice_axis
from volseg.volume import LabelMap, Volume

CPU = PlanRequest(device="cpu", max_ram=2 << 30)
DATASET = Imagined(names=("LV", "RV", "MYO"), channels=("cine",))


def _turned(shape, spacing, codes):
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, letter in enumerate(codes):
        affine["RAS".index(letter), axis] = spacing[axis]
    return Grid(shape, affine)


@pytest.fixture
def write_case(tmp_path):
    def write(name, shape, spacing, codes):
        place = _turned(shape, spacing, codes)
        labels = np.zeros(shape, np.uint8)
        labels[4:20, 5:15, :], labels[22:30, 5:15, :], labels[22:30, 20:24, :] = 1, 2, 3
        image = (labels * 40 + np.random.default_rng(0).integers(1, 9, shape)).astype(np.int16)
        write_volume(Volume(image, place), tmp_path / f"{name}.nii.gz")
        write_label_map(LabelMap(labels, place), tmp_path / f"{name}_seg.nii.gz")
        return Case(name, (tmp_path / f"{name}.nii.gz",), tmp_path / f"{name}_seg.nii.gz")

    return write


def test_slices_across_the_long_axis_of_hearts_stay_slices(write_case):
    cases = [write_case(codes, (40, 44, 9), (1.4, 1.5, 9.0), codes) for codes in ("RAS", "ASR", "RSA")]
    measured = measure_fingerprint(cases, DATASET)
    assert measured.slices_last
    assert [axis.median for axis in measured.spacing_mm] == pytest.approx([1.4, 1.5, 9.0], rel=1e-5)
    assert [axis.most for axis in measured.shape] == [40, 44, 9]
    config = plan_training(DATASET, measured, CPU).config
    orient, respace = config.preprocess[:2]
    assert isinstance(orient, Orient)
    assert orient.slices_last
    assert isinstance(respace, Respace)
    assert respace.spacing_mm == pytest.approx((1.4, 1.5, 9.0), rel=1e-4)
    assert config.patch_voxels[2] < 16 < config.patch_voxels[0]
    assert config.mirror_axes == ()


@pytest.mark.parametrize("codes", ["RAS", "ASR", "RSA"])
@pytest.mark.parametrize("thickness", [0.2, 1.0, 8.0])
def test_single_slices_are_planned_as_slices_however_thick_and_turned(write_case, codes, thickness):
    cases = [write_case(f"{n}", (40, 44, 1), (1.0, 1.0, thickness), codes) for n in range(2)]
    config = plan_training(DATASET, measure_fingerprint(cases, DATASET), CPU).config
    assert config.architecture.dimensions == 2
    assert config.patch_voxels[0] >= 40
    assert config.patch_voxels[1] >= 40


def test_slices_that_run_alike_keep_the_directions_of_the_body(write_case):
    cases = [write_case(f"{n}", (40, 44, 9), (1.4, 1.5, 9.0), "ASR") for n in range(2)]
    measured = measure_fingerprint(cases, DATASET)
    assert not measured.slices_last
    (orient, *_) = plan_training(DATASET, measured, CPU).config.preprocess
    assert orient == Orient(codes="ASR")


@pytest.mark.parametrize("codes", ["RAS", "ASR", "RSA", "SRA"])
def test_orienting_with_slices_last_moves_no_voxel(codes):
    place = _turned((7, 6, 5), (0.7, 0.9, 2.5), codes)
    volume = Volume(np.arange(210, dtype=np.int16).reshape(1, 7, 6, 5), place)
    turned = Orient(slices_last=True)(volume)
    assert turned.grid.spacing_mm[2] == pytest.approx(2.5)
    assert turned.grid.axis_codes[2] == codes[2]
    for index in np.ndindex(*turned.grid.shape):
        there = np.rint(place.world_to_index(turned.grid.index_to_world(index))).astype(int)
        assert turned.array[0, *index] == volume.array[0, *there]


def test_which_axis_runs_from_slice_to_slice():
    assert slice_axis(Grid.from_spacing((1, 40, 40), (1.0, 1.0, 1.0))) == 0
    assert slice_axis(Grid.from_spacing((40, 40, 40), (1.0, 3.0, 1.0))) == 1
    assert slice_axis(Grid.from_spacing((40, 40, 40), (1.1, 1.0, 1.0))) == 2
    assert slice_axis(Grid.from_spacing((2, 3, 4), (1.0, 1.0, 1.0))) == 2
