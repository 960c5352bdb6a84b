import numpy as np
import pytest
import torch

from tests.train.losses.conftest import CODES, foreground, numpy_probabilities, random_logits, truth_of
from volseg.train.losses.dice import FocalTversky, SoftDice, Tversky


def index(target, logits, *, alpha, beta, over):
    """Mean over voxels sums by numpy: [B or 1, N']."""
    p, g = (foreground(target, a) for a in (numpy_probabilities(target, logits), truth_of(target)))
    axes = (2, 3, 4) if over == "sample" else (0, 2, 3, 4)
    both = (p * g).sum(axes)
    return both / (both + alpha * (p * (1 - g)).sum(axes) + beta * ((1 - p) * g).sum(axes))


@pytest.mark.parametrize("over", ["batch", "sample"])
@pytest.mark.parametrize("squared", [False, True])
def test_dice_by_its_formula(code, labels, logits, over, squared):
    target = code.encode(labels)
    p, g = (foreground(target, a) for a in (numpy_probabilities(target, logits), truth_of(target)))
    axes = (2, 3, 4) if over == "sample" else (0, 2, 3, 4)
    below = (p**2 if squared else p).sum(axes) + (g**2 if squared else g).sum(axes)
    expected = 1 - (2 * (p * g).sum(axes) / below).mean()
    assert SoftDice(over=over, squared=squared)(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_dice_of_hard_labels():
    code = CODES["softmax"]
    truth = torch.tensor([1, 1, 1, 0, 0, 0]).view(1, 1, 2, 3)
    found = torch.tensor([1, 1, 0, 1, 0, 0]).view(1, 1, 2, 3)
    logits = torch.nn.functional.one_hot(found, 3).movedim(-1, 1).float() * 200
    loss = SoftDice()(logits, code.encode(truth)).item()
    assert loss == pytest.approx(1 - (2 * 2 / 6 + 1) / 2, abs=1e-4)  # label 2 is in neither: 1


def test_batch_and_sample_differ_where_a_label_is_in_one_patch_only():
    code = CODES["softmax"]
    labels = torch.zeros(2, 3, 4, 5, dtype=torch.long)
    labels[0, :2] = 1
    labels[0, 2] = 2
    target = code.encode(labels)
    logits = target.one_hot * 8
    batch, sample = SoftDice()(logits, target).item(), SoftDice(over="sample")(logits, target).item()
    assert batch < 0.01
    assert sample == pytest.approx(
        0.5, abs=0.01
    )  # nothing to find in the second patch, and a trace of it found


@pytest.mark.parametrize("over", ["batch", "sample"])
def test_tversky_by_its_formula(code, labels, logits, over):
    target = code.encode(labels)
    expected = 1 - index(target, logits, alpha=0.2, beta=0.9, over=over).mean()
    found = Tversky(alpha=0.2, beta=0.9, over=over)(logits, target)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_tversky_of_halves_is_dice(code, labels, logits):
    target = code.encode(labels)
    halves = Tversky(alpha=0.5, beta=0.5)(logits, target).item()
    assert halves == pytest.approx(SoftDice()(logits, target).item(), rel=1e-5)


def test_beta_punishes_misses_and_alpha_false_alarms():
    code = CODES["softmax"]
    truth = torch.ones(1, 2, 3, 4, dtype=torch.long)
    truth[0, 0] = 0
    missed, alarmed = torch.zeros_like(truth), torch.ones_like(truth)
    missed[0, 1, :, :2] = 1
    logits = [torch.nn.functional.one_hot(x, 3).movedim(-1, 1).float() * 100 for x in (missed, alarmed)]
    loss = Tversky(alpha=0.1, beta=0.9)
    assert loss(logits[0], code.encode(truth)) > loss(logits[1], code.encode(truth))


@pytest.mark.parametrize("gamma", [1, 4 / 3, 3])
def test_focal_tversky_by_its_formula(code, labels, logits, gamma):
    target = code.encode(labels)
    expected = ((1 - index(target, logits, alpha=0.3, beta=0.7, over="batch")) ** (1 / gamma)).mean()
    assert FocalTversky(gamma=gamma)(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_a_label_absent_but_found_scores_zero():
    code = CODES["softmax"]
    logits = random_logits(code)
    target = code.encode(torch.zeros(2, 5, 6, 7, dtype=torch.long))
    assert SoftDice()(logits, target).item() == pytest.approx(1, abs=1e-3)
    assert np.isfinite(SoftDice(squared=True)(logits, target).item())
