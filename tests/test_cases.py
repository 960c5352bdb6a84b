"""The voxels of a case: one grid, one order of axes, one set of values, whatever its files are."""

from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dicom_files import SeriesSpec, write_series
from tests.grids import SHAPE, affine_of, oblique_grid
from tests.io.dicom.labelled import LABELS, random_labels
from volseg.cases import ROUNDING_MM, fit_to_grid, read_case, read_image, read_reference, rounding_mm
from volseg.datasets import Case
from volseg.errors import FileFormatError, GeometryError, InputError, SeriesError
from volseg.geometry import Grid
from volseg.io.dicom.index import index_series
from volseg.io.dicom.reading import read_series
from volseg.io.dicom.rtstruct import write_rtstruct
from volseg.io.dicom.seg import write_seg
from volseg.volume import LabelMap

AFFINE = oblique_grid().affine
LABEL_ARRAY = np.random.default_rng(4).choice([0, 1, 2, 4], SHAPE).astype(np.uint8)
IMAGE_ARRAY = np.random.default_rng(5).normal(size=SHAPE).astype(np.float32)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


@pytest.fixture
def make_case(tmp_path: Path):
    def make(labels: np.ndarray = LABEL_ARRAY, affine: np.ndarray = AFFINE, **fields) -> Case:
        image = save(tmp_path / "a.nii.gz", IMAGE_ARRAY)
        return Case("a", (image,), save(tmp_path / "a_seg.nii.gz", labels, affine), **fields)

    return make


def moved(mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[:3, 3] += np.array([0.6, 0.0, 0.8]) * mm
    return affine


def test_image_and_labels_of_one_grid(make_case):
    image, label_map = read_case(make_case())
    assert np.array_equal(image.array[0], IMAGE_ARRAY)
    assert np.array_equal(label_map.array, LABEL_ARRAY)
    assert label_map.grid == image.grid


@pytest.mark.parametrize("mm", [1e-3, 0.05, 0.17])
def test_a_label_map_that_differs_by_rounding_is_put_on_the_image_grid_exactly(make_case, mm):
    image, label_map = read_case(make_case(affine=moved(mm)))
    assert label_map.grid == image.grid
    assert np.array_equal(label_map.array, LABEL_ARRAY)


@pytest.mark.parametrize("mm", [0.18, 3.0, 250.0])
def test_a_label_map_further_away_is_refused_with_the_mm(make_case, mm):
    with pytest.raises(
        GeometryError, match=rf"case a: .*a\.nii\.gz and .*_seg.* are {mm:.2f} mm apart \(at most 0\.1"
    ):
        read_case(make_case(affine=moved(mm)))


def test_what_counts_as_rounding_depends_on_the_voxels_up_to_a_limit():
    assert rounding_mm(Grid.from_spacing((9, 9, 9), (0.4, 3, 3))) == pytest.approx(0.1)
    assert rounding_mm(Grid.from_spacing((9, 9, 9), (4, 5, 6))) == ROUNDING_MM


def test_rounding_as_headers_do_it_is_tolerated():
    grid = Grid((512, 512, 90), affine_of(spacing_mm=(0.703125, 0.703125, 2.5), degrees=(1.0, 2.0, 178.0)))
    spacing = Grid((512, 512, 90), affine_of(spacing_mm=(0.7031, 0.7031, 2.5), degrees=(1.0, 2.0, 178.0)))
    header = nib.Nifti1Header()
    header.set_qform(grid.affine, 1)  # float32, where the quaternion's first number is nearly 0
    for other in (spacing, Grid(grid.shape, header.get_qform())):
        assert 0 < other.distance_mm(grid) <= rounding_mm(grid)


@pytest.mark.parametrize(
    ("affine", "cause"),
    [
        (affine_of(spacing_mm=(0.7, 0.9, 2.7), flip=(False, True, False)), r"spacings are 0\.7 x 0\.9 x 2\.5 and 0\.7 x 0\.9 x 2\.7"),
        (affine_of(flip=(False, True, True)), "axes point ... and ..."),
        (affine_of(degrees=(22.0, -15.0, 40.0), flip=(False, True, False)), "axes point in other directions"),
        (moved(4.0), r"origins are \(-31\.25, 42\.50, 17\.00\) and \(-28\.85, 42\.50, 20\.20\) mm"),
    ],
)  # fmt: skip
def test_the_message_says_what_of_the_header_differs(make_case, affine, cause):
    with pytest.raises(GeometryError, match=cause):
        read_case(make_case(affine=affine))


def test_another_shape_is_refused_with_both_shapes(make_case):
    with pytest.raises(GeometryError, match=r"of shapes \(5, 6, 7\) and \(5, 6, 6\)"):
        read_case(make_case(LABEL_ARRAY[:, :, :6]))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(list(permutations(range(3)))), st.tuples(*[st.booleans()] * 3))
def test_the_same_voxels_in_another_order_are_turned_to_the_image(order, flips):
    step = np.zeros((4, 4))
    step[3, 3] = 1
    for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
        step[old, new] = -1 if flip else 1
        step[old, 3] = SHAPE[old] - 1 if flip else 0
    stored = LABEL_ARRAY.transpose(order)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    grid = Grid(SHAPE, AFFINE)
    label_map = LabelMap(stored, Grid(stored.shape, AFFINE @ step))
    fitted = fit_to_grid(label_map, grid, case=Case("a", (Path("a.nii"),)))
    assert np.array_equal(fitted.array, LABEL_ARRAY)
    assert fitted.grid == grid
    for value in (1, 2, 4):  # at the same points of the patient
        before = label_map.grid.index_to_world(np.argwhere(stored == value))
        after = grid.index_to_world(np.argwhere(fitted.array == value))
        assert np.allclose(before[np.lexsort(before.T)], after[np.lexsort(after.T)], atol=1e-6)


def test_every_order_of_axes_of_a_small_cube_is_told_apart():
    """Equal extents: only the affine says which axis is which."""
    array = np.arange(27).reshape(3, 3, 3).astype(np.uint8)
    grid = Grid.from_spacing((3, 3, 3), (1, 1, 1))
    for order, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        codes = "".join(
            "RAS"[axis] if not flip else "LPI"[axis] for axis, flip in zip(order, flips, strict=True)
        )
        stored = array.transpose(order)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
        label_map = LabelMap(stored, grid.reoriented(codes))
        assert np.array_equal(fit_to_grid(label_map, grid, case=Case("a", (Path("a"),))).array, array)


def test_values_are_remapped_all_at_once_and_the_others_stay(make_case):
    label_map = read_case(make_case(remap={1: 2, 2: 1, 4: 300}))[1]
    expected = np.select(
        [LABEL_ARRAY == 1, LABEL_ARRAY == 2, LABEL_ARRAY == 4], [2, 1, 300], LABEL_ARRAY.astype(int)
    )
    assert np.array_equal(label_map.array, expected)
    assert label_map.array.dtype == np.uint16
    assert sorted(np.unique(read_case(make_case(remap={4: 3}))[1].array)) == [0, 1, 2, 3]


def test_files_are_channels_in_their_order(make_case, tmp_path):
    case = make_case()
    pair = save(tmp_path / "pair.nii.gz", np.stack([IMAGE_ARRAY + 1, IMAGE_ARRAY + 2], axis=-1))
    image = read_image(replace(case, images=(pair, *case.images)))
    assert np.array_equal(image.array, np.stack([IMAGE_ARRAY + 1, IMAGE_ARRAY + 2, IMAGE_ARRAY]))


def test_channels_that_lie_elsewhere_and_missing_files_are_refused(make_case, tmp_path):
    case = make_case()
    away = save(tmp_path / "away.nii.gz", IMAGE_ARRAY, moved(0.5))
    with pytest.raises(GeometryError, match="cannot be channels of one case"):
        read_image(replace(case, images=(*case.images, away)))
    with pytest.raises(InputError, match="no such file"):
        read_image(replace(case, images=(tmp_path / "none.nii.gz",)))
    with pytest.raises(InputError, match="case a has no label map"):
        read_case(replace(case, label=None))


@pytest.fixture
def export(tmp_path: Path) -> tuple[Path, list[str]]:
    """Two series in one folder, the second with other voxels and another grid."""
    write_series(tmp_path / "export" / "one", SeriesSpec(shape=SHAPE, orientation="oblique"))
    write_series(
        tmp_path / "export" / "two",
        SeriesSpec(shape=(4, 5, 6), orientation="coronal", series_uid="1.2.826.0.1.999.1.2"),
    )
    return tmp_path / "export", [summary.key for summary in index_series(tmp_path / "export")]


def test_the_very_series_is_read(export):
    root, keys = export
    shapes = [read_image(Case(key, (root,), series=(key,))).grid.shape for key in keys]
    assert sorted(shapes) == [(4, 5, 6), SHAPE]
    with pytest.raises(SeriesError):
        read_image(Case("a", (root,), series=("1.2.3",)))
    with pytest.raises(SeriesError):
        read_image(Case("a", (root,)))  # two could be meant


@pytest.mark.parametrize("write", [write_seg, write_rtstruct])
def test_dicom_labels_lie_on_the_image_and_take_the_values_of_the_table(tmp_path, write):
    write_series(tmp_path / "scan", SeriesSpec(shape=SHAPE, orientation="oblique"))
    source = read_series(tmp_path / "scan")
    drawn = random_labels(source, labels=LABELS)
    drawn = drawn.with_array(np.where(np.arange(SHAPE[2]) < 2, 0, drawn.array))  # empty slices are left out
    write(drawn, tmp_path / "labels.dcm", source=source)
    numbers = {1: 1, 2: 4, 3: 7} if write is write_seg else {}
    case = Case("a", (tmp_path / "scan",), tmp_path / "labels.dcm", remap=numbers)
    image, label_map = read_case(case)
    assert label_map.grid == image.grid
    assert np.array_equal(label_map.array, drawn.array)


def test_dicom_that_is_no_label_map_is_refused(tmp_path):
    written = write_series(tmp_path / "scan", SeriesSpec(shape=SHAPE))
    with pytest.raises(FileFormatError):
        read_reference(Case("a", (tmp_path / "scan",), written.files[0]), written.grid)
