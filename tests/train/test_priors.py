import torch

from volseg.labels import LabelRegion, LabelTable
from volseg.models.unetpp import UNetPlusPlus
from volseg.train.priors import channel_shares, start_at_shares
from volseg.train.samples.cache import build_cache
from volseg.train.targets import TargetCode

LABELS = LabelTable.from_names(("a", "b"))
REGIONS = (LabelRegion("both", (1, 2), 1), LabelRegion("inner", (2,), 2))


def test_shares_are_those_of_the_voxels(make_case, tmp_path):
    cases = build_cache([make_case("a"), make_case("b")], [], (1, 4), tmp_path / "cache")
    voxels, first, second = 9 * 12 * 7, 3 * 6 * 3, 2 * 6 * 3
    shares = channel_shares(cases, TargetCode.of(LABELS))
    torch.testing.assert_close(shares, torch.tensor([voxels - first - second, first, second]) / voxels)
    nested = channel_shares(cases, TargetCode.of(LABELS, REGIONS))
    torch.testing.assert_close(nested, torch.tensor([first + second, second]) / voxels)


def test_a_network_of_no_features_starts_by_saying_the_shares():
    for exclusive in (True, False):
        shares = torch.tensor([0.9, 0.08, 0.02])
        module = UNetPlusPlus(widths=(4, 4)).build(1, 3).eval()
        torch.nn.init.zeros_(module.heads["1"].weight)
        start_at_shares(module, shares, exclusive=exclusive)
        logits = module(torch.zeros(1, 1, 4, 6, 2))
        probabilities = logits.softmax(dim=1) if exclusive else logits.sigmoid()
        torch.testing.assert_close(probabilities[0, :, 1, 2, 1], shares)
