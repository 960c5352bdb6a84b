import pytest

from tests.train.losses.conftest import random_logits
from volseg.train.losses.cross_entropy import CrossEntropy
from volseg.train.losses.dice import SoftDice
from volseg.train.losses.heads import head_weights, training_loss
from volseg.train.settings import HeadsConfig, LossConfig

SHIFT = HeadsConfig(schedule="shift", decay=0.5)


def test_fixed_weights_halve_towards_the_first_head():
    for progress in (0.0, 0.3, 1.0):
        assert head_weights(3, HeadsConfig(decay=0.5), progress) == pytest.approx([1 / 7, 2 / 7, 4 / 7])
    assert head_weights(4, HeadsConfig(decay=1), 0.5) == pytest.approx([0.25] * 4)


def test_shifting_weights_begin_shallow_and_end_at_the_last_head():
    assert head_weights(3, SHIFT, 0.0) == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert head_weights(3, SHIFT, 1.0) == pytest.approx([1 / 7, 2 / 7, 4 / 7])
    assert head_weights(3, SHIFT, 0.25) == pytest.approx([(3 * 4 + 1) / 28, 2 / 7, (3 * 1 + 4) / 28])


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("progress", [0, 0.1, 0.5, 1])
def test_weights_sum_to_one(count, progress):
    assert sum(head_weights(count, SHIFT, progress)) == pytest.approx(1)
    assert len(head_weights(count, SHIFT, progress)) == count


def test_the_sum_over_heads_and_terms(code, labels):
    target = code.encode(labels)
    heads = [random_logits(code, seed=n) for n in range(3)]
    terms = ({"name": "dice", "weight": 2}, {"name": "cross_entropy", "weight": 0.5})
    loss = LossConfig.model_validate({"terms": terms, "heads": {"schedule": "shift"}})
    single = [2 * SoftDice()(h, target).item() + 0.5 * CrossEntropy()(h, target).item() for h in heads]
    early = training_loss(heads, target, loss, progress=0).item()
    late = training_loss(heads, target, loss, progress=1).item()
    assert early == pytest.approx((4 * single[0] + 2 * single[1] + single[2]) / 7, rel=1e-5)
    assert late == pytest.approx((single[0] + 2 * single[1] + 4 * single[2]) / 7, rel=1e-5)


def test_default_is_dice_and_cross_entropy(code, labels, logits):
    target = code.encode(labels)
    expected = SoftDice()(logits, target) + CrossEntropy()(logits, target)
    found = training_loss([logits], target, LossConfig(), progress=0.5)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_dice_and_focal_and_a_term_without_weight(code, labels, logits):
    target = code.encode(labels)
    loss = LossConfig.model_validate(
        {"terms": [{"name": "dice"}, {"name": "focal"}, {"name": "boundary", "weight": 0}]}
    )
    found = training_loss([logits], target, loss, progress=0.5)
    expected = loss.terms[0](logits, target) + loss.terms[1](logits, target)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    assert "boundary" not in "".join(target._derived)
