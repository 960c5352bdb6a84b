import math

import numpy as np
import pytest
import torch

from tests.train.losses.conftest import CODES, numpy_losses, numpy_probabilities, random_logits, truth_of
from volseg.errors import ConfigError
from volseg.train.losses.cross_entropy import CrossEntropy, Focal, TopK, class_balance


def test_cross_entropy_is_the_mean_over_voxels(code, labels, logits):
    target = code.encode(labels)
    expected = numpy_losses(target, logits).mean()
    assert CrossEntropy()(logits, target).item() == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_equals_torch_on_label_indices(labels):
    code = CODES["softmax"]
    logits = random_logits(code)
    expected = torch.nn.functional.cross_entropy(logits, labels)
    assert CrossEntropy()(logits, code.encode(labels)).item() == pytest.approx(expected.item(), rel=1e-6)


def test_inverse_frequency_is_the_mean_of_the_classes_means():
    code = CODES["softmax"]
    labels = torch.zeros(1, 4, 5, 3, dtype=torch.long)
    labels[0, 1, 2, :2] = 1  # label 2 is absent
    logits, target = random_logits(code, (1, 4, 5, 3)), code.encode(labels)
    losses = numpy_losses(target, logits)[:, 0]
    expected = (losses[labels.numpy() == 0].mean() + losses[labels.numpy() == 1].mean()) / 2
    found = CrossEntropy(class_weights="inverse_frequency")(logits, target)
    assert found.item() == pytest.approx(expected, rel=1e-6)
    assert class_balance(target).mean().item() == pytest.approx(1)


def test_inverse_frequency_of_regions_balances_inside_and_outside(labels):
    code = CODES["sigmoid"]
    logits, target = random_logits(code), code.encode(labels)
    losses, truth = numpy_losses(target, logits), truth_of(target)
    sides = [losses[:, n][truth[:, n] == side].mean() for n in range(2) for side in (0, 1)]
    found = CrossEntropy(class_weights="inverse_frequency")(logits, target)
    assert found.item() == pytest.approx(np.mean(sides), rel=1e-6)


def test_given_weights(code, labels, logits):
    numbers = (0.5, 2.0, 3.0)[: code.channels]
    target = code.encode(labels)
    weights = truth_of(target) if target.exclusive else np.ones_like(truth_of(target))
    weights = weights * np.reshape(numbers, (1, -1, 1, 1, 1))
    weights = weights.sum(1, keepdims=True) if target.exclusive else weights
    expected = (weights * numpy_losses(target, logits)).sum() / weights.sum()
    assert CrossEntropy(class_weights=numbers)(logits, target).item() == pytest.approx(expected, rel=1e-6)


def test_wrong_number_of_weights_is_told(code, labels, logits):
    with pytest.raises(ConfigError, match=f"has 5 numbers, but the network has {code.channels} channels"):
        CrossEntropy(class_weights=(1, 1, 1, 1, 1))(logits, code.encode(labels))


@pytest.mark.parametrize("gamma", [0, 0.5, 2])
def test_focal_by_its_formula(code, labels, logits, gamma):
    target = code.encode(labels)
    p, g = numpy_probabilities(target, logits), truth_of(target)
    of_truth = (p * g).sum(1) if target.exclusive else np.where(g > 0, p, 1 - p)
    expected = (-((1 - of_truth) ** gamma) * np.log(of_truth)).mean()
    assert Focal(gamma=gamma)(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_focal_example_of_the_paper():
    """A well classified example with p = 0.9 has a loss 100 times lower than with cross-entropy (gamma = 2)."""
    code = CODES["sigmoid"]
    logits = torch.full((1, 2, 1, 1, 1), math.log(9.0), dtype=torch.float64)
    target = code.encode(torch.full((1, 1, 1, 1), 2))
    ratio = CrossEntropy()(logits, target) / Focal()(logits, target)
    assert ratio.item() == pytest.approx(100, rel=1e-5)


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.25, 1.0])
def test_top_k_is_the_mean_of_the_hardest(code, labels, logits, fraction):
    target = code.encode(labels)
    losses = np.sort(numpy_losses(target, logits).ravel())[::-1]
    count = max(1, round(fraction * len(losses)))
    assert TopK(fraction=fraction)(logits, target).item() == pytest.approx(losses[:count].mean(), rel=1e-6)


def test_top_k_moves_only_the_hardest(code, labels, logits):
    target = code.encode(labels)
    leaf = logits.requires_grad_()
    TopK(fraction=0.1)(leaf, target).backward()
    axis = 1 if target.exclusive else 2
    touched = (leaf.grad.abs().sum(1) if axis == 1 else leaf.grad.abs()) > 0
    assert touched.sum().item() == max(1, round(0.1 * touched.numel()))
