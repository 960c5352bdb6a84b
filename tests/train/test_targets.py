import numpy as np
import pytest
import torch

from volseg.labels import ChannelRule, Label, LabelRegion, LabelTable
from volseg.train.targets import TargetCode, answered, channel_rule, widened

TABLE = LabelTable(
    (Label(1, "core", (1, 2, 3)), Label(2, "oedema", (1, 2, 3)), Label(7, "active", (1, 2, 3)))
)
REGIONS = (LabelRegion("whole", (1, 2, 7), 2), LabelRegion("solid", (1, 7), 1))
LABELS = torch.from_numpy(np.random.default_rng(0).integers(0, 4, (2, 5, 6, 7)))


def test_labels_become_one_channel_each_background_first():
    code = TargetCode.of(TABLE)
    target = code.encode(LABELS)
    assert (code.channels, code.names, target.exclusive) == (4, ("core", "oedema", "active"), True)
    assert target.one_hot.dtype == torch.float32
    assert torch.equal(target.one_hot.argmax(1), LABELS)
    assert torch.equal(target.one_hot.sum(1), torch.ones(LABELS.shape))


def test_what_has_logits_is_all_but_the_margins():
    assert torch.equal(answered(LABELS, (1, 0, 3)), LABELS[:, 1:4, :, 3:4])
    assert torch.equal(answered(LABELS, (0, 0, 0)), LABELS)


def test_regions_become_one_channel_each_by_value():
    code = TargetCode.of(TABLE, REGIONS)
    target = code.encode(LABELS.to(torch.uint8))
    assert (code.channels, code.names, target.exclusive) == (2, ("whole", "solid"), False)
    values = torch.tensor([0, 1, 2, 7])[LABELS]
    for n, region in enumerate(REGIONS):
        assert torch.equal(target.one_hot[:, n] > 0, torch.isin(values, torch.tensor(region.values)))


def test_the_rule_back_paints_what_was_encoded():
    assert channel_rule(TABLE) == ChannelRule((0, 1, 2, 7))
    assert channel_rule(TABLE, REGIONS) == ChannelRule((2, 1), exclusive=False)


def test_probabilities_and_foreground():
    logits = torch.randn(2, 4, 5, 6, 7, generator=torch.Generator().manual_seed(0)).bfloat16()
    softmax = TargetCode.of(TABLE).encode(LABELS)
    assert torch.allclose(softmax.probabilities(logits), logits.float().softmax(1))
    assert softmax.foreground(torch.arange(4)).tolist() == [1, 2, 3]
    sigmoid = TargetCode.of(TABLE, REGIONS).encode(LABELS)
    assert torch.allclose(sigmoid.probabilities(logits), logits.float().sigmoid())
    assert sigmoid.foreground(torch.arange(2)).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("given", "wide"), [("float16", "float32"), ("bfloat16", "float32"), ("float64", "float64")]
)
def test_logits_are_widened_never_narrowed(given, wide):
    assert widened(torch.zeros(1, dtype=getattr(torch, given))).dtype == getattr(torch, wide)


def test_what_is_derived_is_made_once_and_without_gradient():
    target, made = TargetCode.of(TABLE).encode(LABELS), []

    def derive():
        made.append(1)
        return target.one_hot * torch.ones(1, requires_grad=True)

    assert target.derived("a", derive) is target.derived("a", derive)
    assert not target.derived("a", derive).requires_grad
    target.derived("b", derive)
    assert len(made) == 2
    TargetCode.of(TABLE).encode(LABELS).derived("a", derive)
    assert len(made) == 3
