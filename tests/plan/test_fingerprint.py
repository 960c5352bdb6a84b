import numpy as np
import pytest

from tests.grids import affine_of
from tests.plan.fingerprints import Imagined
from volseg.datasets import Case
from volseg.errors import InputError
from volseg.geometry import Grid
from volseg.io import write_label_map, write_volume
from volseg.labels import LabelTable
from volseg.plan.fingerprint import components_ml, measure_fingerprint, spread
from volseg.volume import LabelMap, Volume

SPACING = (0.7, 0.9, 2.5)


@pytest.fixture
def write_case(tmp_path):
    """A case whose array axes run S, L, A (left-handed, slightly oblique), of two labels."""

    def write(name, shape=(12, 20, 16), offset=0, air=True):
        linear = np.zeros((3, 3))
        linear[2, 0], linear[0, 1], linear[1, 2] = 2.5, -0.7, 0.9
        turn = affine_of(spacing_mm=(1, 1, 1), degrees=(3, -4, 5))[:3, :3]
        affine = np.eye(4)
        affine[:3, :3] = turn @ linear
        affine[:3, 3] = (10, -20, 30)
        grid = Grid(shape, affine)
        labels = np.zeros(shape, np.uint8)
        labels[2:5, 3:9, 2:10] = 1
        labels[8, 2:4, 2:4], labels[8, 10, 10], labels[9, 11, 11] = 2, 2, 2
        image = np.where(labels > 0, 100 * labels.astype(np.int16) + offset, -1000 if air else 0).astype(
            np.int16
        )
        image[0, 0, 0] = 900
        write_volume(Volume(image, grid), tmp_path / f"{name}.nii.gz")
        write_label_map(LabelMap(labels, grid), tmp_path / f"{name}_seg.nii.gz")
        return Case(name, (tmp_path / f"{name}.nii.gz",), tmp_path / f"{name}_seg.nii.gz")

    return write


DATASET = Imagined(names=("organ", "lesion"), channels=("0",))


def test_geometry_is_measured_along_ras_axes(write_case):
    measured = measure_fingerprint([write_case("a"), write_case("b", (14, 20, 16))], DATASET)
    assert [axis.median for axis in measured.spacing_mm] == pytest.approx(SPACING, rel=1e-4)
    assert [axis.least for axis in measured.shape] == [20, 16, 12]
    assert [axis.most for axis in measured.shape] == [20, 16, 14]
    assert [axis.median for axis in measured.size_mm] == pytest.approx([14, 14.4, 32.5], rel=1e-4)
    assert measured.cases == measured.patients == 2


def test_intensities_are_those_of_the_foreground(write_case):
    measured = measure_fingerprint([write_case("a"), write_case("b", offset=10)], DATASET)
    (channel,) = measured.channels
    count = {1: 3 * 6 * 8, 2: 6}
    values = np.concatenate([np.repeat([100 + o, 200 + o], [count[1], count[2]]) for o in (0, 10)])
    assert channel.mean == pytest.approx(values.mean(), rel=1e-5)
    assert channel.deviation == pytest.approx(values.std(), rel=1e-5)
    assert channel.median == pytest.approx(np.median(values))
    assert channel.integer
    assert channel.lowest.most == -1000
    assert channel.highest.least == 900
    assert channel.modality == measured.modality == "CT"


def test_labels_and_their_pieces(write_case):
    measured = measure_fingerprint([write_case("a")], DATASET)
    voxel_ml = np.prod(SPACING) / 1000
    organ, lesion = measured.labels
    assert (organ.name, organ.value, organ.present) == ("organ", 1, 1)
    assert organ.volume_ml.median == pytest.approx(144 * voxel_ml, rel=1e-4)
    assert organ.components.median == 1
    assert lesion.components.median == 2, "voxels that touch at a corner are one piece"
    assert lesion.component_ml.most == pytest.approx(4 * voxel_ml, rel=1e-4)
    assert lesion.largest_share.median == pytest.approx(4 / 6, rel=1e-4)


def test_the_box_of_what_is_not_zero(write_case):
    measured = measure_fingerprint([write_case("a", air=False)], DATASET)
    assert [axis.median for axis in measured.nonzero_mm] == pytest.approx(
        [12 * 0.7, 12 * 0.9, 10 * 2.5], rel=1e-4
    )
    assert measured.nonzero_fraction.median == pytest.approx(12 * 12 * 10 / (20 * 16 * 12), rel=1e-4)


def test_it_is_the_same_every_time_and_tells_how_far_it_is(write_case):
    cases = [write_case("a"), write_case("b")]
    told = []
    first = measure_fingerprint(cases, DATASET, progress=lambda done, total: told.append((done, total)))
    assert measure_fingerprint(cases, DATASET) == first
    assert told == [(1, 2), (2, 2)]


def test_a_label_that_is_nowhere(write_case):
    wide = Imagined(names=("organ", "lesion", "stone"), channels=("0",))
    stone = measure_fingerprint([write_case("a")], wide).labels[2]
    assert stone.present == 0
    assert stone.volume_ml is None


def test_mistakes_name_the_case_and_the_way_out(write_case):
    case = write_case("a")
    with pytest.raises(
        InputError, match=r"case a cannot be measured.*1 channel; the collection has 2.*volseg check"
    ):
        measure_fingerprint([case], Imagined(names=("organ", "lesion"), channels=("0", "1")))
    with pytest.raises(InputError, match=r"case a cannot be measured.*2.*volseg check"):
        measure_fingerprint([case], Imagined(names=("organ",), channels=("0",)))
    case.images[0].write_bytes(b"no image")
    with pytest.raises(InputError, match=r"case a cannot be measured.*volseg check"):
        measure_fingerprint([case], DATASET)
    with pytest.raises(InputError, match="no labelled case"):
        measure_fingerprint([], DATASET)


def test_components_equal_a_search_in_the_whole_array():
    from scipy import ndimage

    array = (np.random.default_rng(3).random((12, 13, 14)) > 0.8).astype(np.uint8)
    array[:, :, 7:] *= 3
    grid = Grid.from_spacing(array.shape, (1.0, 2.0, 5.0))
    found = components_ml(LabelMap(array, grid), LabelTable.from_names(["a", "b", "c"]))
    for value in (1, 3):
        numbered, count = ndimage.label(array == value, structure=np.ones((3, 3, 3)))
        expected = np.bincount(numbered.ravel())[1:] * 0.01
        assert len(found[value]) == count
        np.testing.assert_allclose(sorted(found[value]), sorted(expected))
    assert 2 not in found


def test_spread():
    numbers = spread(range(101))
    assert (numbers.least, numbers.low, numbers.median, numbers.high, numbers.most) == (0, 10, 50, 90, 100)
