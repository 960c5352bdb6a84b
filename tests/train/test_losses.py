import math

import pytest
import torch

from volseg.train.losses import deep_supervision, dice_cross_entropy, soft_dice
from volseg.train.settings import LossConfig


def certain(labels, label_count):
    """Logits that are sure of the given labels."""
    return torch.nn.functional.one_hot(labels, label_count).movedim(-1, 1).float() * 200


def test_soft_dice_of_hard_labels_is_dice():
    truth = torch.tensor([1, 1, 1, 0, 2, 0]).view(1, 1, 2, 3)
    found = torch.tensor([1, 1, 0, 1, 0, 0]).view(1, 1, 2, 3)
    dice = soft_dice(certain(found, 4), truth)
    assert dice.tolist() == pytest.approx(
        [2 * 1 / 5, 2 * 2 / 6, 0, 1], abs=1e-4
    )  # label 3 is absent from both


def test_soft_dice_of_probabilities_by_hand():
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]]).view(1, 2, 1, 1, 2)  # label 1: 0.75 and 0.5
    truth = torch.tensor([1, 0]).view(1, 1, 1, 2)
    assert soft_dice(logits, truth)[1].item() == pytest.approx(2 * 0.75 / (0.75 + 0.5 + 1), abs=1e-4)


def test_loss_of_a_right_answer_is_near_zero_and_falls_along_its_gradient():
    truth = torch.randint(0, 3, (2, 4, 5, 3), generator=torch.Generator().manual_seed(0))
    assert dice_cross_entropy(certain(truth, 3), truth, LossConfig()).item() < 1e-3
    logits = torch.zeros(2, 3, 4, 5, 3, requires_grad=True)
    loss = dice_cross_entropy(logits, truth, LossConfig())
    loss.backward()
    assert dice_cross_entropy(logits - logits.grad, truth, LossConfig()) < loss


def test_weights_of_the_two_parts():
    truth = torch.randint(0, 3, (1, 4, 5, 3), generator=torch.Generator().manual_seed(0))
    logits = torch.randn(1, 3, 4, 5, 3, generator=torch.Generator().manual_seed(1))
    dice = dice_cross_entropy(logits, truth, LossConfig(cross_entropy_weight=0))
    cross = dice_cross_entropy(logits, truth, LossConfig(dice_weight=0))
    both = dice_cross_entropy(logits, truth, LossConfig(dice_weight=2, cross_entropy_weight=0.5))
    assert both.item() == pytest.approx(2 * dice.item() + 0.5 * cross.item(), rel=1e-5)


def test_deep_supervision_weighs_the_last_head_most():
    truth = torch.randint(0, 2, (1, 4, 5, 3), generator=torch.Generator().manual_seed(0))
    heads = [torch.randn(1, 2, 4, 5, 3, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    single = [dice_cross_entropy(head, truth, LossConfig()).item() for head in heads]
    halving = deep_supervision(heads, truth, LossConfig(head_decay=0.5)).item()
    assert halving == pytest.approx((single[0] + 2 * single[1] + 4 * single[2]) / 7, rel=1e-5)
    equal = deep_supervision(heads, truth, LossConfig(head_decay=1)).item()
    assert equal == pytest.approx(sum(single) / 3, rel=1e-5)
