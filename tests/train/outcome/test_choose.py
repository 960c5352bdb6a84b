import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.grids import affine_of
from volseg.geometry import Grid
from volseg.labels import LabelRegion, LabelTable
from volseg.metrics import dice
from volseg.postprocess.components import KeepLargest, RemoveSmall
from volseg.train.outcome.choose import choose_postprocess
from volseg.train.outcome.components import count_components
from volseg.volume import LabelMap

SHAPE = (12, 14, 9)
GRID = Grid(SHAPE, affine_of(shear=0.2, flip=(False, True, False)))
VOXEL_MM3 = GRID.voxel_volume_mm3
LABELS = LabelTable.from_names(["liver", "lesion"])
WHOLE = LabelRegion("whole liver", (1, 2), 1)


def label_map(*parts: tuple[int, tuple[slice, slice, slice]]) -> LabelMap:
    array = np.zeros(SHAPE, np.uint8)
    for value, box in parts:
        array[box] = value
    return LabelMap(array, GRID)


LIVER = (1, np.s_[1:8, 1:8, 1:8])
LESION = (2, np.s_[2:5, 2:5, 2:5])
SECOND_LESION = (2, np.s_[6:8, 6:8, 6:8])
SPECK_FAR_AWAY = (1, np.s_[10:12, 11:14, 0:2])
SMALL_FALSE_LESION = (2, np.s_[6, 2, 6:8])


def noise(seed: int) -> LabelMap:
    random = np.random.default_rng(seed).normal(size=(3, *SHAPE))
    smooth = ndimage.gaussian_filter(random, (0, 0.8, 0.8, 0.8))
    smooth[0] += 0.15
    return LabelMap(np.array([0, 1, 4])[smooth.argmax(axis=0)].astype(np.uint16), GRID)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([3, 8, 20]))
def test_the_table_of_components_knows_the_dice_after_every_step(seed, voxels):
    found, reference, values = noise(seed), noise(seed + 1), (1, 3, 4)
    table = count_components(found, reference, values)
    everything = np.ones(len(table.voxels), bool)
    size_mm3 = voxels * VOXEL_MM3
    small = table.voxels < voxels
    whole = np.bincount(table.whole, table.voxels).argmax()
    of_four = np.where(table.label == 2, table.voxels, 0)
    for step, kept in (
        (RemoveSmall(min_volume_mm3=size_mm3), ~small),
        (RemoveSmall(min_volume_mm3=size_mm3, labels=(4,)), ~(small & (table.label == 2))),
        (KeepLargest(united=True), table.whole == whole),
        (KeepLargest(labels=(4,)), (table.label != 2) | (np.arange(len(of_four)) == of_four.argmax())),
    ):
        result = step(found).array
        for labels in ([0], [1], [2], [0, 2]):
            masks = [np.isin(array, [values[n] for n in labels]) for array in (result, reference.array)]
            assert table.dice(everything & kept, labels) == pytest.approx(dice(*masks), abs=1e-12)
        touched = 0
        for value in values:
            numbers, _ = ndimage.label(reference.array == value, np.ones((3, 3, 3)))
            touched += len(np.unique(numbers[(result == value) & (numbers > 0)]))
        assert len(table.touched(kept, range(3))) == touched


def test_a_false_island_is_removed_where_it_is_alone_in_every_case():
    reference = label_map(LIVER, LESION)
    found = label_map(LIVER, LESION, SPECK_FAR_AWAY)
    choice = choose_postprocess([(found, reference)] * 4 + [(reference, reference)], LABELS, (WHOLE,))
    assert choice.steps == (KeepLargest(united=True),)
    result = choice.steps[0](found).array
    assert (result == reference.array).all()
    assert "keep_largest of all labels as one: yes" in choice.notes[0]
    before = dice(found.array == 1, reference.array == 1)
    assert f"liver {(4 * before + 1) / 5:.4f} to 1.0000" in choice.notes[0]
    assert "4 of 5 cases change" in choice.notes[0]
    assert "no, it would change no case" in choice.notes[1]


def test_a_true_second_lesion_is_not_given_up_for_a_better_mean():
    """Keeping the largest lesion removes the false one of three cases, and the true second one of the fourth."""
    one, two = label_map(LIVER, LESION), label_map(LIVER, LESION, SECOND_LESION)
    pairs = [(label_map(LIVER, LESION, (2, np.s_[6:8, 1:7, 6:8])), one)] * 3
    alone = choose_postprocess(pairs, LABELS)
    assert KeepLargest(labels=(2,)) in alone.steps
    with_two = choose_postprocess([*pairs, (two, two)], LABELS)
    assert KeepLargest(labels=(2,)) not in with_two.steps
    assert any("keep_largest of lesion: no, one case loses more than 0.05" in note for note in with_two.notes)
    assert pairs[0][0].array.max() == 2


def test_a_true_speck_that_is_lost_speaks_against_a_step_that_costs_no_dice():
    speck = (2, np.s_[7, 7, 7])
    true = label_map(LIVER, LESION, speck)
    pairs = [(label_map(LIVER, LESION, (2, np.s_[6:8, 1:5, 5:8])), label_map(LIVER, LESION))] * 3
    choice = choose_postprocess([*pairs, (true, true)], LABELS)
    assert not any(isinstance(step, KeepLargest) and step.labels == (2,) for step in choice.steps)
    assert any("1 of 5 true components" in note for note in choice.notes)


def test_small_components_go_where_the_size_clearly_helps():
    reference = label_map(LIVER, LESION, SECOND_LESION)
    found = label_map(LIVER, LESION, SECOND_LESION, SMALL_FALSE_LESION)
    choice = choose_postprocess([(found, reference)] * 4, LABELS)
    assert choice.steps == (RemoveSmall(min_volume_mm3=10.0, labels=(2,)),), "8 voxels of 1.5 mm3 stay, 2 go"
    assert choice.steps[0](found).array[SECOND_LESION[1]].min() == 2
    few = choose_postprocess([(found, reference)] * 2, LABELS)
    assert few.steps == ()


def test_a_small_gain_is_not_enough_for_a_size():
    array = np.zeros((40, 41, 20), np.uint8)
    grid = Grid(array.shape, GRID.affine)
    array[2:30, 2:30, 2:18] = 1
    found = array.copy()
    found[35, 38, 0:3] = 1
    pairs = [(LabelMap(found, grid), LabelMap(array, grid))] * 4
    choice = choose_postprocess(pairs, LabelTable.from_names(["organ"]))
    assert choice.steps == ()
    assert all("does not rise by more than" in note for note in choice.notes)


def test_steps_build_on_those_before_and_are_one_per_label():
    """The lesion outside of the liver goes with all labels as one; the false liver in touch goes label by label."""
    reference = label_map(LIVER, LESION)
    found = label_map(LIVER, LESION, (1, np.s_[8, 8, 8]), (2, np.s_[6:8, 6:8, 1:3]), SPECK_FAR_AWAY)
    choice = choose_postprocess([(found, reference)] * 3, LABELS)
    assert choice.steps[:2] == (KeepLargest(united=True), KeepLargest(labels=(2,)))
    result = found
    for step in choice.steps:
        result = step(result)
    assert (result.array == 2).sum() == 27
    last = [note for note in choice.notes if note.startswith("keep_largest of lesion")]
    assert "to 1.0000" in last[0]


def test_nothing_is_chosen_on_nothing():
    choice = choose_postprocess([], LABELS)
    assert choice.steps == ()
    assert "no held-out case" in choice.notes[0]
    empty = label_map()
    assert choose_postprocess([(empty, empty)] * 3, LABELS).steps == ()
    missed = choose_postprocess([(empty, label_map(LIVER))] * 3, LABELS)
    assert missed.steps == ()


def test_pairs_are_let_go_one_by_one():
    import weakref

    seen = []

    def pairs():
        for _ in range(3):
            found = label_map(LIVER, LESION)
            assert all(reference() is None for reference in seen[:-1])
            seen.append(weakref.ref(found.array))
            yield found, label_map(LIVER)
            del found

    choose_postprocess(pairs(), LABELS)
    assert len(seen) == 3
