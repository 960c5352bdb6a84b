"""The bundled model on the samples: both hemispheres, any orientation, another grid; refusal of what it is not for."""

from pathlib import Path

import numpy as np
import pytest

import volseg
from volseg.errors import InputError, PackageError
from volseg.geometry import Grid
from volseg.infer.predictor import Predictor, check_golden
from volseg.metrics import dice
from volseg.resample import resample_label_map, resample_volume
from volseg.zoo import find

SAMPLES = Path(__file__).parents[1] / "data_samples"
ANTERIOR, POSTERIOR = 1, 2


@pytest.fixture(scope="module")
def predictor():
    return Predictor(volseg.load_model("hippocampus"), device="cpu")


@pytest.fixture(scope="module")
def right():
    return volseg.read_volume(SAMPLES / "mni152_t1_hippocampus_right.nii.gz")


@pytest.fixture(scope="module")
def right_labels(predictor, right):
    return predictor.predict(right).label_map


def centre_mm(label_map, value):
    return label_map.grid.index_to_world(np.argwhere(label_map.array == value)).mean(axis=0)


def test_the_package_is_small_says_what_it_is_and_passes_its_own_test():
    path = find("hippocampus")
    assert path.stat().st_size <= 6_000_000
    package = volseg.load_model(path)
    assert check_golden(package, device="cpu") > 0.99
    info = package.info
    assert info.data_licence == "CC-BY-SA-4.0"
    assert all(label.code is not None for label in (*info.labels, *info.located_labels))
    assert info.channels[0].contrast == "T1"
    assert "not a medical device" in package.card.lower()
    assert {score.label for score in info.scores} == {"Anterior", "Posterior"}
    assert all({"dice", "hd95_mm"} <= set(score.means) and score.case_count > 30 for score in info.scores)


def test_anatomy_of_the_right_side(right_labels):
    volumes_ml = right_labels.volumes_ml()
    assert all(1 < volume_ml < 4 for volume_ml in volumes_ml.values())
    anterior, posterior = (centre_mm(right_labels, value) for value in (ANTERIOR, POSTERIOR))
    assert anterior[1] > posterior[1] + 10
    assert 15 < anterior[0] < 35


def test_the_left_side_is_the_exact_mirror_image(predictor, right, right_labels):
    left = volseg.read_volume(SAMPLES / "mni152_t1_hippocampus_left.nii.gz")
    assert np.array_equal(left.array, right.array[:, ::-1])  # the template is symmetric
    labels = predictor.predict(left).label_map
    assert np.array_equal(labels.array, right_labels.array[::-1])
    assert centre_mm(labels, ANTERIOR)[0] < -15


@pytest.mark.parametrize("codes", ["LPS", "PIR", "SAL", "IRA"])
def test_the_order_of_the_axes_does_not_matter(predictor, right, right_labels, codes):
    order, flips = right.grid.axes_towards(codes)
    axes = tuple(axis for axis in range(3) if flips[axis])

    def turned(array):
        return np.flip(array.transpose(order), axes)

    volume = volseg.Volume(turned(right.array[0]), right.grid.reoriented(codes))
    assert np.array_equal(predictor.predict(volume).label_map.array, turned(right_labels.array))


def test_an_oblique_sheared_anisotropic_scan_gives_the_same_hippocampus(predictor, right, right_labels):
    angle = np.deg2rad(12)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    shear = np.array([[1, 0, 0], [0, 1, 0.15], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ shear @ np.diag([-0.9, 0.8, 1.4])
    shape = (40, 62, 25)
    affine[:3, 3] = right.grid.corners().mean(axis=0) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    grid = Grid(shape, affine)
    margin = 15  # a real oblique scan has no empty corners: go on by mirroring
    stop = tuple(extent + margin for extent in right.grid.shape)
    continued = volseg.Volume(
        np.pad(right.array[0], margin, mode="reflect"), right.grid.box((-margin, -margin, -margin), stop)
    )
    found = predictor.predict(resample_volume(continued, grid)).label_map
    assert found.grid == grid
    expected = resample_label_map(right_labels, grid)
    for value in (ANTERIOR, POSTERIOR):
        assert dice(found.array == value, expected.array == value) > 0.87
    assert dice(found.array > 0, expected.array > 0) > 0.9


@pytest.fixture(scope="module")
def brain():
    """The whole sample at 2 mm, on a grid of its own."""
    volume = volseg.read_volume(SAMPLES / "mni152_t1_brain.nii.gz")
    return resample_volume(volume, volume.grid.with_spacing((2.0, 2.0, 2.0)))


def test_both_hippocampi_are_found_in_a_head(predictor, brain):
    prediction = predictor.predict(brain)
    label_map = prediction.label_map
    assert label_map.grid == brain.grid
    volumes_ml = label_map.volumes_ml()
    assert all(1 < volume_ml < 4 for volume_ml in volumes_ml.values())
    for part, (right, left) in {"anterior": (1, 3), "posterior": (2, 4)}.items():
        one, other = volumes_ml[f"Right {part} hippocampus"], volumes_ml[f"Left {part} hippocampus"]
        assert one == pytest.approx(other, rel=0.15), "the template is symmetric"
        assert 15 < centre_mm(label_map, right)[0] < 40
        assert -40 < centre_mm(label_map, left)[0] < -15
    assert centre_mm(label_map, 1)[1] > centre_mm(label_map, 2)[1] + 10
    assert prediction.warnings == ()


@pytest.mark.slow
def test_a_head_and_a_crop_of_it_get_the_same_labels(predictor, right, right_labels):
    head = volseg.read_volume(SAMPLES / "mni152_t1_brain.nii.gz")
    found = resample_label_map(predictor.predict(head).label_map, right.grid)
    for located, own in ((1, ANTERIOR), (2, POSTERIOR)):
        assert dice(found.array == located, right_labels.array == own) > 0.9


@pytest.fixture
def no_head():
    noise = np.random.default_rng(0).normal(100, 10, size=(60, 72, 60))
    return volseg.Volume(noise, Grid.from_spacing((60, 72, 60), (3, 3, 3)))


def test_what_is_no_head_is_refused(predictor, no_head):
    with pytest.raises(InputError, match=r"template's brain.*--force"):
        predictor.predict(no_head)


@pytest.mark.slow
def test_force_labels_what_is_no_head_and_says_so(predictor, no_head):
    forced = Predictor(predictor.package, device="cpu", force=True).predict(no_head)
    assert any("forced" in warning for warning in forced.warnings)


def test_a_pruned_head_finds_nearly_the_same(predictor, right, right_labels):
    pruned = Predictor(predictor.package, device="cpu", head=2).predict(right).label_map
    assert not np.array_equal(pruned.array, right_labels.array)
    assert dice(pruned.array > 0, right_labels.array > 0) > 0.9
    with pytest.raises(PackageError, match="heads 1 to 3"):
        Predictor(predictor.package, device="cpu", head=4)
