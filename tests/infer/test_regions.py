"""Located regions through the predictor: a network of thresholds, regions placed by hand."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from tests.locate.heads import read_template
from volseg.errors import InputError, PackageError
from volseg.geometry import Grid
from volseg.infer.predictor import Predictor
from volseg.infer.regions import Canvas, box_in, cut_region, grown, touched_sides
from volseg.locate import LOCATE, LocateStep, Location, Region
from volseg.package import LabelInfo, TileInfo, load_package, write_package
from volseg.volume import Volume

LOCATED = [
    LabelInfo(value=value, name=name, colour=(value, 0, 0))
    for value, name in ((1, "right dim"), (3, "right bright"), (4, "left dim"), (9, "left bright"))
]
PLACED: dict[str, Location] = {}


@LOCATE.add
class Placed(LocateStep):
    """Regions a test has put into PLACED."""

    name: Literal["test_placed"] = "test_placed"

    def __call__(self, volume, template):
        return PLACED["here"]


def scan_grid():
    """Oblique, anisotropic, left-handed, off the origin."""
    angle = 0.5
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.0, 1.2, 1.5])
    affine[:3, 3] = 40, -55, 12
    return Grid((44, 40, 30), affine)


def region_at(centre_mm, shape=(14, 16, 12), *, degrees=20, mirrored=False, name="right", values=(1, 3)):
    angle = np.deg2rad(degrees)
    linear = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    if mirrored:
        linear = linear @ np.diag([-1, 1, 1])
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = np.array(centre_mm) - linear @ ((np.array(shape) - 1) / 2)
    return Region(name, Grid(shape, affine), values)


def blobs(grid, *placed):
    """Balls (centre mm, radius mm, value) on air."""
    points = grid.index_to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    array = np.zeros(grid.shape, np.float32)
    for centre, radius, value in placed:
        array[np.linalg.norm(points - centre, axis=-1) <= radius] = value
    return Volume(array, grid)


@pytest.fixture
def predictor(make_package):
    def make(location, *, force=False, **fields):
        PLACED["here"] = location
        package = make_package(
            locate={"name": "test_placed"},
            located_labels=LOCATED,
            tile=TileInfo(tile_voxels=(8, 8, 8)),
            **fields,
        )
        return Predictor(package, device="cpu", force=force)

    return make


def centres(grid):
    return grid.index_to_world([[12, 20, 15], [32, 20, 15]])


@pytest.mark.parametrize("mirrored", [False, True])
def test_labels_come_back_where_they_are_with_the_names_of_their_region(predictor, mirrored):
    grid = scan_grid()
    right, left = centres(grid)
    above = left + np.array([0, 0, 1])
    volume = blobs(grid, (right, 4, 4.0), (above, 4, 2.0))
    regions = (
        region_at(right, mirrored=mirrored),
        region_at(left, degrees=-15, name="left", values=(4, 9)),
    )
    prediction = predictor(Location(regions)).predict(volume)
    label_map = prediction.label_map
    assert label_map.grid == grid
    assert [label.name for label in label_map.labels] == [
        "right dim",
        "right bright",
        "left dim",
        "left bright",
    ]
    # the shell of a bright ball is dim where it was interpolated; its core is bright, and the left ball is dim
    for value, centre in ((3, right), (4, above)):
        found = grid.index_to_world(np.argwhere(label_map.array == value)).mean(axis=0)
        assert np.linalg.norm(found - centre) < 0.7
    assert set(np.unique(label_map.array)) == {0, 1, 3, 4}
    assert prediction.regions == regions
    assert prediction.warnings == ()


def test_the_model_sees_the_region_upright_and_mirrored(predictor):
    grid = scan_grid()
    centre = grid.index_to_world([22, 20, 15])
    volume = blobs(grid, (centre, 3, 4.0))
    beside = centre + np.array([4, 0, 0])
    shifted = region_at(beside, degrees=0)
    plain = cut_region(volume, shifted)
    mirrored = cut_region(volume, region_at(beside, degrees=0, mirrored=True))
    assert plain is not None
    assert mirrored is not None
    assert plain.grid.axis_codes == mirrored.grid.axis_codes == "RAS"
    assert np.array_equal(plain.array[:, ::-1], mirrored.array)
    first = np.argwhere(plain.array[0] > 2).mean(axis=0)
    assert first[0] < 4.5  # the ball lies to the left of the box's middle


def test_a_label_at_the_border_makes_the_box_grow_once(predictor):
    grid = scan_grid()
    centre = grid.index_to_world([22, 20, 15])
    volume = blobs(grid, (centre, 5, 4.0))
    region = region_at(centre + np.array([0, 9, 0]), (18, 16, 20), degrees=0)
    found = predictor(Location((region,))).predict(volume)
    (used,) = found.regions
    assert used.grid.shape == (18, 24, 20)
    assert "back side" in used.notes[0]
    truth = np.count_nonzero(volume.array > 0)
    assert np.count_nonzero(found.label_map.array) == pytest.approx(truth, rel=0.1)
    long = blobs(grid, (centre, 9, 4.0))
    assert "still touches" in predictor(Location((region_at(centre, (4, 4, 4)),))).predict(long).warnings[0]


def test_where_regions_overlap_the_more_certain_one_wins():
    canvas = Canvas.blank((3, 1, 1), (1, 3), keep_probabilities=True)

    def paste(start, foreground, value):
        probabilities = np.zeros((2, len(foreground), 1, 1), np.float32)
        probabilities[1, :, 0, 0] = foreground
        probabilities[0] = 1 - probabilities[1]
        canvas.paste((start, 0, 0), (probabilities[1] > 0.5).astype(int), probabilities, {1: value})

    paste(0, [0.9, 0.6], 1)
    paste(1, [0.8, 0.7], 3)
    assert canvas.labels.ravel().tolist() == [1, 3, 3]
    assert canvas.probabilities is not None
    assert np.allclose(canvas.probabilities.sum(axis=0), 1)
    assert np.allclose(canvas.probabilities[:, 1, 0, 0], [0.2, 0, 0.8])


def test_probabilities_of_a_located_scan_sum_to_one_and_agree(predictor):
    grid = scan_grid()
    right, left = centres(grid)
    volume = blobs(grid, (right, 4, 4.0), (left, 4, 2.0))
    regions = (region_at(right), region_at(left, name="left", values=(4, 9)))
    found = predictor(Location(regions)).predict(volume, keep_probabilities=True)
    assert found.probabilities is not None
    array = found.probabilities.array
    assert array.shape == (5, *grid.shape)
    assert np.allclose(array.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(np.array([0, 1, 3, 4, 9])[array.argmax(axis=0)], found.label_map.array)


def test_doubts_refuse_and_force_turns_them_into_warnings(predictor):
    grid = scan_grid()
    right, _ = centres(grid)
    volume = blobs(grid, (right, 4, 4.0))
    location = Location((region_at(right),), ("white matter is dark",))
    with pytest.raises(InputError, match=r"'tiny'.*white matter is dark.*--force"):
        predictor(location).predict(volume)
    forced = predictor(location, force=True).predict(volume)
    assert forced.warnings == ("forced: white matter is dark",)
    assert forced.label_map.array.any()


def test_force_also_overrides_the_largest_size(make_package):
    volume = blobs(scan_grid())
    package = make_package(largest_mm=(10, 10, 10))
    with pytest.raises(InputError, match="Cut the scan"):
        Predictor(package, device="cpu").predict(volume)
    assert "Cut the scan" in Predictor(package, device="cpu", force=True).predict(volume).warnings[0]


def test_a_region_beside_the_scan_is_told(predictor):
    volume = blobs(scan_grid())
    found = predictor(Location((region_at((500, 0, 0)),))).predict(volume)
    assert not found.label_map.array.any()
    assert found.warnings == ("the region 'right' lies outside the scan or in its empty part",)
    assert box_in(volume.grid, region_at((500, 0, 0)).grid) is None


def test_a_location_without_regions_takes_the_scan_as_a_whole(predictor):
    grid = scan_grid()
    found = predictor(Location()).predict(blobs(grid, (centres(grid)[0], 4, 4.0)))
    assert found.label_map.labels.values == (2, 7)
    assert found.regions == ()


def test_regions_that_name_unknown_labels_are_the_packages_fault(predictor):
    grid = scan_grid()
    for values in ((1, 5), (1,)):
        location = Location((region_at(centres(grid)[0], values=values),))
        with pytest.raises(PackageError, match="located_labels"):
            predictor(location).predict(blobs(grid))


def test_a_region_of_empty_space_is_told_when_forced(predictor):
    grid = scan_grid()
    right, left = centres(grid)
    regions = (region_at(right), region_at(left, name="left", values=(4, 9)))
    location = Location(regions, doubts=("nothing fits",))
    steps = [{"name": "zscore"}]
    found = predictor(location, force=True, preprocess=steps).predict(blobs(grid, (right, 4, 4.0)))
    assert "forced: nothing fits" in found.warnings
    assert any("'left' lies outside the scan or in its empty part" in text for text in found.warnings)
    assert set(np.unique(found.label_map.array)) <= {0, 1, 3}


def test_what_is_far_brighter_or_darker_than_the_tissue_is_clipped():
    grid = Grid.from_spacing((20, 20, 20), (1.0, 1.0, 1.0))
    tissue = np.random.default_rng(0).uniform(90, 110, grid.shape).astype(np.float32)
    spoilt = tissue.copy()
    spoilt[:, :, :2] = 0
    spoilt[4:6, 4:6] = 5000
    region = Region("right", grid, (1, 3), fences=1.5)
    clean, fenced = cut_region(Volume(tissue, grid), region), cut_region(Volume(spoilt, grid), region)
    assert clean is not None
    assert fenced is not None
    assert np.array_equal(clean.array[0], tissue)  # nothing of a crop of tissue alone is changed
    assert fenced.array.min() > 60
    assert fenced.array.max() < 140
    assert np.array_equal(fenced.array[0, 10:, :, 2:], tissue[10:, :, 2:])
    unfenced = cut_region(Volume(spoilt, grid), replace(region, fences=None))
    assert unfenced is not None
    assert unfenced.array.max() == 5000
    mostly_empty = np.where(np.arange(20) < 4, tissue, 0)
    kept = cut_region(Volume(mostly_empty, grid), region)
    assert kept is not None
    assert np.array_equal(kept.array[0], mostly_empty)


@pytest.mark.parametrize(("usual", "warned"), [((0.1, 0.5), False), ((0.4, 2.0), True)])
def test_an_unusual_volume_in_a_crop_is_worth_a_warning_too(predictor, usual, warned):
    grid = scan_grid()
    volume = blobs(grid, (centres(grid)[0], 4, 4.0))  # 0.3 ml
    found = predictor(Location(plausible_ml=usual)).predict(volume)
    assert any("taken as a crop, measure 0.3 ml" in text for text in found.warnings) == warned


def test_sides_and_growth():
    labels = np.zeros((5, 6, 7), int)
    labels[0, 2, 2] = labels[3, 5, 3] = 1
    sides = touched_sides(labels)
    assert sides == ((True, False), (False, True), (False, False))
    region = region_at((0, 0, 0), (5, 6, 7))
    larger = grown(region, sides, 3.0)
    assert larger.grid.shape == (8, 9, 7)
    assert np.allclose(larger.grid.index_to_world([3, 0, 0]), region.grid.index_to_world([0, 0, 0]))
    assert larger.notes


def test_an_unusual_volume_is_worth_a_warning(predictor):
    grid = scan_grid()
    right, _ = centres(grid)
    volume = blobs(grid, (right, 4, 4.0))  # 0.3 ml
    for usual, warned in (((0.1, 0.5), False), ((0.4, 2.0), True), ((0.0, 0.1), True)):
        region = replace(region_at(right), plausible_ml=usual)
        warnings = predictor(Location((region,))).predict(volume).warnings
        assert any("measure 0.3 ml, usual are" in text for text in warnings) == warned


def test_the_template_travels_in_the_package_and_is_checked_like_any_member(make_info, tmp_path):
    template = read_template()
    path = tmp_path / "tiny.volseg"
    info = make_info(locate={"name": "crop"}, located_labels=LOCATED)
    write_package(path, info=info, weights={}, card="# Card", golden=None, template=template)
    package = load_package(path)
    assert package.info.located_table.values == (1, 3, 4, 9)
    found = package.template()
    assert found is not None
    assert np.array_equal(found.array, template.array)
    assert found.notice == template.notice
    whole = path.read_bytes()
    spot = whole.index(b"Copyright (C) 1993-2009")
    path.write_bytes(whole[:spot] + b"c" + whole[spot + 1 :])
    with pytest.raises(PackageError, match=r"template\.safetensors"):
        load_package(path)


@pytest.mark.parametrize("locate", [{"name": "atlass", "boxes": []}, {"name": "atlas", "boxes": []}])
def test_a_locate_step_that_does_not_exist_or_fit_is_the_packages_fault(make_package, locate):
    with pytest.raises(PackageError, match="atlas"):
        Predictor(make_package(locate=locate), device="cpu")
