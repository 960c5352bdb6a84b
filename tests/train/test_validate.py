import numpy as np
import pytest
import torch
from torch import nn

from volseg.evaluate import Score
from volseg.labels import NO_LABELS, LabelRegion, LabelTable
from volseg.metrics import dice
from volseg.models.extents import ExtentRule
from volseg.train.distributed import Ranks
from volseg.train.outcome.previews import draw_worst
from volseg.train.samples.cache import build_cache
from volseg.train.targets import TargetCode, channel_rule
from volseg.train.validate import index_rule, region_dice, validation_dice

TABLE = LabelTable.from_names(["edema", "core", "enhancing", "cyst"])
REGIONS = (
    LabelRegion("whole", (1, 2, 3), paint=1),
    LabelRegion("centre", (2, 3), paint=2),
    LabelRegion("bright", (3,), paint=3),
)


@pytest.mark.parametrize("regions", [(), REGIONS])
def test_dice_of_unions_of_labels_is_that_of_their_masks(regions):
    code = TargetCode.of(TABLE, regions)
    found, true = np.random.default_rng(0).integers(0, 4, (2, 5, 6, 7)).astype(np.uint8)  # label 4 is absent
    groups = [region.values for region in regions] or [(1,), (2,), (3,), (4,)]
    expected = [dice(np.isin(found, group), np.isin(true, group)) for group in groups]
    assert region_dice(found, true, code) == pytest.approx(expected)
    assert expected[-1] == 1 or regions


def test_a_rule_in_label_indices():
    table = LabelTable((*LabelTable.from_names(["a"]).labels,))
    assert index_rule(channel_rule(table), table.values).values == (0, 1)
    painted = index_rule(channel_rule(TABLE, REGIONS), (1, 2, 3, 4))
    assert (painted.values, painted.exclusive) == ((1, 2, 3), False)
    sparse = [LabelRegion("whole", (2, 7), paint=7)]
    assert index_rule(channel_rule(TABLE, sparse), (2, 7)).values == (2,)


class Threshold(nn.Module):
    """Knows the intensities of the cases: labels 1 and 4 are 10 and 40 bright (indices 1 and 2)."""

    extents = ExtentRule.multiples_of((1, 1, 1))

    def __init__(self, regions):
        super().__init__()
        self.regions = regions

    def forward(self, batch):
        image = batch[:, :1]
        if self.regions:
            return torch.cat([image - 5, image - 25], dim=1)
        low, high = 5 - image, image - 25
        return torch.cat([low, torch.minimum(-low, -high), high], dim=1)


@pytest.mark.parametrize("with_regions", [False, True])
def test_whole_cases_are_scored_through_the_rule_and_shared_by_the_processes(
    make_case, phantom_config, tmp_path, with_regions
):
    """A network that is right scores 1; where it is made wrong by a known number of voxels, what numpy says."""
    table = LabelTable(tuple(label for label in TABLE if label.value in (1, 4)))
    regions = (
        (LabelRegion("both", (1, 4), paint=1), LabelRegion("inner", (4,), paint=4)) if with_regions else ()
    )
    cases = build_cache([make_case("a"), make_case("b", shape=(12, 11, 8))], [], (1, 4), tmp_path / "cache")
    code, rule = TargetCode.of(table, regions), index_rule(channel_rule(table, regions), (1, 4))
    config = phantom_config("tile.tile_voxels=[6, 8, 4]", "patch_voxels=[6, 8, 4]")

    def score(network, ranks):
        return validation_dice(
            network, cases, config, code=code, rule=rule, device=torch.device("cpu"), ranks=ranks
        )

    right = score(Threshold(with_regions).eval(), Ranks())
    assert right == pytest.approx([1, 1])
    wrong = Threshold(with_regions)
    wrong.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 0.5,))  # 40 looks like 20, 10 like 5
    expected = []
    for case in cases:
        image, true = case.image[0] * 0.5, case.labels[:]
        found = np.where(image > 25, 2, np.where(image > 5, 1, 0))
        found[image - 5 <= 0] = 0
        groups = [(1, 2), (2,)] if with_regions else [(1,), (2,)]
        expected.append([dice(np.isin(found, group), np.isin(true, group)) for group in groups])
    assert score(wrong.eval(), Ranks()) == pytest.approx(np.mean(expected, axis=0), abs=1e-6)

    parts = []
    for rank in (0, 1):

        class Half(Ranks):
            def sum(self, numbers):
                parts.append(np.asarray(numbers))
                return parts[-1]

        score(wrong.eval(), Half(rank, 2))
    assert parts[0][1].tolist() == [0, 0]
    assert parts[1][0].tolist() == [0, 0]
    assert (parts[0] + parts[1]).mean(axis=0) == pytest.approx(np.mean(expected, axis=0), abs=1e-6)


def scores(case, *dices):
    return [Score(case, n, f"l{n}", value, 0, 0, 0, 0, 0, 0, 1) for n, value in enumerate(dices, start=1)]


def test_the_worst_cases_are_drawn_worst_first(make_case, tmp_path):
    cases = [make_case(name) for name in "abc"]
    found = scores("a", 0.9, 0.8) + scores("b", 0.1, 0.9) + scores("c", 0.7, 0.7) + scores("elsewhere", 0, 0)
    maps = {case.id: cases[0].label for case in cases}
    pictures = draw_worst(
        found, cases, maps, tmp_path / "previews", labels=LabelTable.from_names(("a", "b")), count=2
    )
    assert [path.name for path in pictures] == [
        "worst_1_b_found.png",
        "worst_1_b_true.png",
        "worst_2_c_found.png",
        "worst_2_c_true.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_no_pictures_asked_for_makes_no_folder(make_case, tmp_path):
    assert draw_worst(scores("a", 1), [make_case("a")], {}, tmp_path / "no", labels=NO_LABELS, count=0) == []
    assert not (tmp_path / "no").exists()
