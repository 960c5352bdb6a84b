import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.locate.heads import SAMPLES, pose, scan_of
from volseg.errors import PackageError
from volseg.geometry import Grid
from volseg.io import read_volume
from volseg.locate import LOCATE
from volseg.locate.guard import Limits, Measures, doubts_about, doubts_about_grid
from volseg.volume import Volume

BOXES = [
    {
        "name": "right",
        "centre_mm": [26, -23, -12],
        "size_mm": [38, 54, 40],
        "mirrored": True,
        "values": [1, 2],
    },
    {"name": "left", "centre_mm": [-26, -23, -12], "size_mm": [38, 54, 40], "values": [3, 4]},
]
GOOD = Measures(
    information=0.7,
    correlation=0.78,
    overlap=1.0,
    disagreement_mm=0.1,
    scale=0.9,
    least_scale=0.85,
    greatest_scale=0.95,
    rotation_degrees=14,
    white_grey=3.0,
    grey_fluid=1.5,
)


@pytest.fixture(scope="module")
def atlas():
    return LOCATE.build({"name": "atlas", "boxes": BOXES, "crop_mm": [80, 100, 80]})


def test_a_head_is_accepted_and_its_boxes_hold_the_hippocampi(atlas, template, head):
    affine = pose(degrees=(8, -10, 12), scale=0.9, shift_mm=(40, 10, -30))
    location = atlas(scan_of(head, affine), template)
    assert location.doubts == ()
    assert [region.name for region in location.regions] == ["right", "left"]
    for region, box in zip(location.regions, BOXES, strict=True):
        centre = region.grid.corners().mean(axis=0)
        assert np.linalg.norm(centre - (affine[:3, :3] @ box["centre_mm"] + affine[:3, 3])) < 1.5
        assert region.grid.spacing_mm == pytest.approx((1, 1, 1))
        assert region.grid.shape == (38, 54, 40)
    right, left = (np.linalg.det(region.grid.affine[:3, :3]) for region in location.regions)
    assert right < 0 < left


def test_crops_pass_without_a_search_and_a_missing_template_is_told(atlas, template):
    crop = read_volume(SAMPLES / "mni152_t1_hippocampus_right.nii.gz")
    assert atlas(crop, template).regions == ()
    assert atlas(crop, template).measures is None
    with pytest.raises(PackageError, match="needs a template"):
        atlas(crop, None)
    assert LOCATE.build({"name": "crop"})(crop, None).regions == ()


def _noise(head):
    return np.random.default_rng(0).normal(100, 20, head.array.shape[1:])


def _ball(head):
    indices = np.moveaxis(np.indices(head.grid.shape), 0, -1) - (np.array(head.grid.shape) - 1) / 2
    return np.where((indices**2).sum(-1) < 26**2, 100.0, 0) + np.random.default_rng(0).normal(
        0, 3, head.grid.shape
    )


def _inverted(head):
    """Dark white matter and bright fluid, as in T2."""
    brain = head.array[0]
    return np.where(brain > 30, 270 - brain, brain)


def _ct(head):
    """Hounsfield units: air, a nearly even brain, bright bone."""
    values = np.where(head.array[0] > 0, 35.0, -1000.0)
    values[head.array[0] == 20] = 900
    return values + np.random.default_rng(0).normal(0, 4, values.shape)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_ct, "contrast"),
        pytest.param(_noise, "brain that lies in the scan", marks=pytest.mark.slow),
        pytest.param(_ball, "results of two searches|contrast", marks=pytest.mark.slow),
        (_inverted, "contrast of white over grey matter"),
        pytest.param(
            lambda head: head.array[0, :, :, ::-1], "contrast|two searches|mutual", marks=pytest.mark.slow
        ),
    ],
    ids=["ct", "noise", "ball", "t2-like", "upside down"],
)
def test_what_is_no_t1_head_is_refused_with_what_was_measured(atlas, template, head, make, reason):
    volume = Volume(np.ascontiguousarray(make(head)).astype(np.float32), head.grid)
    doubts = "; ".join(atlas(volume, template).doubts)
    assert doubts
    assert re.search(reason, doubts), doubts


@pytest.mark.slow
@pytest.mark.parametrize("name", ["BraTS_phantom/phantom_1/phantom_1_t1", "LiTS_phantom/volume-0"])
def test_phantoms_are_refused(atlas, template, name):
    assert atlas(read_volume(SAMPLES / f"{name}.nii.gz"), template).doubts


def test_thick_slices_are_refused_in_a_head_and_in_a_crop():
    for shape in ((180, 210, 30), (40, 50, 8)):
        (doubt,) = doubts_about_grid(Grid.from_spacing(shape, (1.0, 1.0, 5.0)), Limits())
        assert "1.0 x 1.0 x 5.0 mm, a 2-D-like scan with slices every 5.0 mm, expected at most 3 mm" in doubt
    assert doubts_about_grid(Grid.from_spacing((180, 210, 60), (1.0, 1.0, 3.0)), Limits()) == []


@pytest.mark.parametrize("shape", [(181, 217, 1), (3, 60, 60), (40, 8, 40)], ids=["2-D", "slab", "thin crop"])
def test_a_2d_image_and_a_few_slices_are_refused(atlas, template, shape):
    volume = Volume(
        np.random.default_rng(0).normal(100, 20, shape).astype(np.float32),
        Grid(shape, np.diag([-1, 1, 1, 1])),
    )
    doubts = atlas(volume, template).doubts
    assert f"({' x '.join(map(str, shape))} voxels), expected at least 20 mm along every axis" in doubts[0]


def test_an_image_of_one_value_is_refused(atlas, template):
    grid = Grid.from_spacing((120, 130, 110), (1.5, 1.5, 1.5))
    for value in (0.0, 7.0):
        volume = Volume(np.full(grid.shape, value, np.float32), grid)
        assert atlas(volume, template).doubts == (f"every voxel of it has the value {value:g}",)


def test_a_head_cut_through_the_temporal_lobes_is_refused_for_nothing_else(atlas, template, head):
    cut = Volume(head.array[:, :, :, 30:], head.grid.box((0, 0, 30), head.grid.shape))
    right, left = atlas(cut, template).doubts
    assert "of the box 'right' lies in the scan (at least 90%)" in right
    assert "of the box 'left' lies in the scan (at least 90%)" in left


@pytest.mark.slow
@pytest.mark.parametrize(
    ("voxels_mm", "reason"), [((1.8, 1.8, 1.8), "size of the head"), ((3.0, 3.0, 4.2), "greatest size")]
)
def test_a_wrong_voxel_size_in_the_header_is_refused(template, head, voxels_mm, reason):
    atlas = LOCATE.build(
        {"name": "atlas", "boxes": BOXES, "crop_mm": [80, 100, 80], "limits": {"largest_spacing_mm": 5}}
    )
    volume = Volume(head.array, Grid(head.grid.shape, np.diag([*voxels_mm, 1])))
    assert any(reason in doubt for doubt in atlas(volume, template).doubts)


def test_where_the_brain_lies_outside_nothing_else_is_told():
    (doubt,) = doubts_about(replace(GOOD, overlap=0.1, correlation=0.0, white_grey=0.0), Limits())
    assert "brain that lies in the scan is 0.10" in doubt


def test_a_crop_says_what_it_may_hold(template):
    boxes = [{**BOXES[0], "plausible_ml": [1.5, 6.0]}, {**BOXES[1], "plausible_ml": [2.0, 7.0]}]
    atlas = LOCATE.build({"name": "atlas", "boxes": boxes, "crop_mm": [80, 100, 80]})
    crop = read_volume(SAMPLES / "mni152_t1_hippocampus_right.nii.gz")
    assert atlas(crop, template).plausible_ml == (1.5, 7.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"information": 0.2}, "mutual information"),
        ({"correlation": 0.3}, "correlation"),
        ({"overlap": 0.3}, "lies in the scan is 0.30, expected at least 0.4"),
        ({"disagreement_mm": 9.0}, "two searches is 9.00, expected at most 4"),
        ({"scale": 1.3}, "size of the head beside the template is 1.30, expected 0.8 to 1.25"),
        ({"least_scale": 0.5}, "least size"),
        ({"greatest_scale": 1.35}, "greatest size"),
        ({"rotation_degrees": 90.0}, "turn of the head"),
        ({"white_grey": 0.3}, "white over grey"),
        ({"grey_fluid": -0.5}, "grey matter over fluid"),
    ],
)
def test_every_limit_is_a_refusal_of_its_own(change, words):
    assert doubts_about(GOOD, Limits()) == []
    (doubt,) = doubts_about(replace(GOOD, **change), Limits())
    assert words in doubt


DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.mark.data
@pytest.mark.skipif(not DATA.exists(), reason="the shared data are not there")
@pytest.mark.parametrize("kind", ["t1", "t2", "flair"])
def test_gliomas_without_skull_pass_in_t1_only(atlas, template, kind):
    for path in sorted((DATA / "BraTS18").glob(f"*/*_{kind}.nii.gz")):
        assert bool(atlas(read_volume(path), template).doubts) == (kind != "t1"), path.name


@pytest.mark.data
@pytest.mark.skipif(not DATA.exists(), reason="the shared data are not there")
def test_abdominal_ct_is_refused(atlas, template):
    for path in sorted((DATA / "LiTS").glob("volume-*")):
        volume = read_volume(path)
        spaced = Volume(volume.array, Grid.from_spacing(volume.grid.shape, (0.75, 0.75, 1.5)))
        assert atlas(spaced, template).doubts, path.name
