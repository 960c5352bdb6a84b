import numpy as np
import pytest
import torch
from scipy import ndimage

from tests.train.losses.conftest import CODES, numpy_losses, numpy_probabilities, random_logits, truth_of
from volseg.train.losses.distance import Boundary, UNetWeightedCrossEntropy

SHAPE = (9, 8, 7)


def blobs():
    """Two boxes of label 1 and one of label 2, apart from each other."""
    labels = np.zeros(SHAPE, int)
    labels[0:3, 1:4, 2:5] = 1
    labels[5:8, 1:3, 0:6] = 1
    labels[4:9, 5:8, 3:6] = 2
    return torch.from_numpy(labels)[None]


def border_voxels(mask):
    """Voxels of the mask with a face neighbour, inside the patch, that is not in it; voxel by voxel."""
    found = []
    for index in np.argwhere(mask):
        for axis in range(3):
            for side in (-1, 1):
                near = index.copy()
                near[axis] += side
                inside = 0 <= near[axis] < mask.shape[axis]
                if inside and not mask[tuple(near)]:
                    found.append(index)
    return np.array(found)


def brute_signed(mask, spacing):
    border = border_voxels(mask)
    if len(border) == 0:
        return np.zeros(mask.shape)
    grid = np.argwhere(np.ones(mask.shape)) * spacing
    distance = np.linalg.norm(grid[:, None] - border[None] * spacing, axis=-1).min(1).reshape(mask.shape)
    return np.where(mask, -distance, distance)


@pytest.mark.parametrize("spacing", [None, (0.7, 0.9, 2.5)])
def test_boundary_by_brute_force(code, spacing):
    target = code.encode(blobs())
    logits = random_logits(code, (1, *SHAPE))
    p, g = numpy_probabilities(target, logits), truth_of(target)
    channels = [1, 2] if target.exclusive else [0, 1]
    products = [brute_signed(g[0, n] > 0, np.array(spacing or (1, 1, 1))) * p[0, n] for n in channels]
    found = Boundary(spacing_mm=spacing)(logits, target)
    assert found.item() == pytest.approx(np.mean(products), rel=1e-5)


def test_boundary_costs_more_far_away():
    code = CODES["softmax"]
    target = code.encode(torch.where(blobs() == 1, 1, 0))
    near, far = (torch.zeros(1, 3, *SHAPE) for _ in range(2))
    near[:, 0] = far[:, 0] = 50
    near[0, 1, 3, 2, 3] = far[0, 1, 4, 7, 6] = 100
    assert Boundary()(near, target) < Boundary()(far, target)


def brute_gap_weight(mask, w0, sigma):
    cells, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count < 2:
        return np.zeros(mask.shape)
    every = np.sort([ndimage.distance_transform_edt(cells != n) for n in range(1, count + 1)], axis=0)
    return w0 * np.exp(-((every[0] + every[1]) ** 2) / (2 * sigma**2))


@pytest.mark.parametrize(("w0", "sigma"), [(10.0, 5.0), (3.0, 0.7)])
def test_unet_weights_by_brute_force(code, w0, sigma):
    target = code.encode(blobs())
    logits = random_logits(code, (1, *SHAPE))
    truth = truth_of(target)
    counts = truth.sum((0, 2, 3, 4)).reshape(1, -1, 1, 1, 1)
    voxels = np.prod(SHAPE)
    if target.exclusive:
        balance = (truth * voxels / (3 * counts)).sum(1, keepdims=True)
        gaps = brute_gap_weight(truth[0, 0] == 0, w0, sigma)[None, None]
    else:
        balance = truth * voxels / (2 * counts) + (1 - truth) * voxels / (2 * (voxels - counts))
        gaps = np.stack([brute_gap_weight(mask > 0, w0, sigma) for mask in truth[0]])[None]
    expected = ((balance + gaps) * numpy_losses(target, logits)).mean()
    found = UNetWeightedCrossEntropy(w0=w0, sigma_voxels=sigma)(logits, target)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_unet_weight_at_a_one_voxel_gap_by_hand():
    """Between two cells one voxel apart d1 = d2 = 1: the gap weighs 10 exp(-4 / 50)."""
    labels = torch.zeros(1, 5, 6, 7, dtype=torch.long)
    labels[:, :2], labels[:, 3:] = 1, 1
    target = CODES["softmax"].encode(labels)
    weights = UNetWeightedCrossEntropy()._gap_weight((labels[0] > 0).numpy())
    assert weights[2, 3, 3] == pytest.approx(10 * np.exp(-4 / 50), rel=1e-6)
    assert weights[1, 3, 3] == pytest.approx(10 * np.exp(-4 / 50), rel=1e-6)  # in one cell, 2 from the other
    assert target.exclusive


def test_far_cells_add_what_the_formula_gives_to_a_millionth():
    mask = np.zeros((90, 4, 5), bool)
    mask[2, 1, 1] = mask[40, 2, 3] = mask[88, 2, 0] = True
    found = UNetWeightedCrossEntropy()._gap_weight(mask)
    assert np.abs(found - brute_gap_weight(mask, 10, 5)).max() < 1e-6


def test_the_maps_of_two_losses_are_kept_apart():
    target = CODES["softmax"].encode(blobs())
    logits = random_logits(CODES["softmax"], (1, *SHAPE))
    in_voxels, in_mm = Boundary(), Boundary(spacing_mm=(2, 2, 2))
    assert in_mm(logits, target).item() == pytest.approx(2 * in_voxels(logits, target).item(), rel=1e-6)
