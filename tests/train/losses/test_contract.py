"""What every loss by name must do, for labels (softmax) and nested regions (sigmoid)."""

import numpy as np
import pytest
import torch

from tests.train.losses.conftest import CODES, random_labels, random_logits
from volseg.train.losses import LOSSES
from volseg.train.settings import HeadsConfig, LossConfig

NAMES = LOSSES.names()
SIGNED = {"boundary"}


@pytest.fixture(params=NAMES)
def loss(request):
    return LOSSES.build({"name": request.param})


def test_the_losses_that_ship():
    assert set(NAMES) == {
        *("cross_entropy", "focal", "top_k", "dice", "tversky", "focal_tversky"),
        *("boundary", "unet_weighted_cross_entropy"),
    }


def test_documented_with_its_source(loss):
    assert "20" in (type(loss).__doc__ or "")


def test_scalar_of_float32_and_gradient_of_the_logits_type(loss, code, labels):
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        logits = random_logits(code, dtype=dtype).requires_grad_()
        value = loss(logits, code.encode(labels))
        assert value.shape == ()
        assert value.dtype == torch.float32
        value.backward()
        assert logits.grad is not None
        assert logits.grad.dtype == dtype
        assert logits.grad.isfinite().all()
        assert logits.grad.abs().sum() > 0


def test_half_precision_logits_are_summed_in_float32(loss, code):
    labels = random_labels((1, 40, 40, 50))  # a sum of 80 000 ones does not fit float16's 65 504
    logits = random_logits(code, (1, 40, 40, 50), dtype=torch.float16)
    target = code.encode(labels)
    assert loss(logits, target).item() == pytest.approx(loss(logits.float(), target).item(), rel=1e-6)


@pytest.mark.parametrize("size", [1e4, -1e4, 3e38])
def test_never_nan_for_extreme_logits(loss, code, labels, size):
    truth = code.encode(labels)
    signs = torch.where(random_logits(code) > 0, 1.0, -1.0)
    for logits in (signs * size, (truth.one_hot * 2 - 1) * size, torch.full_like(truth.one_hot, size)):
        if size > 1e38 and loss.name in {"top_k", "cross_entropy", "focal", "unet_weighted_cross_entropy"}:
            continue  # infinity is their true value
        leaf = logits.float().requires_grad_()
        value = loss(leaf, truth)
        value.backward()
        assert value.isfinite()
        assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("fill", [0, 1, 2])
def test_absent_and_filling_labels(loss, code, fill):
    target = code.encode(torch.full((2, 5, 6, 7), fill))
    logits = random_logits(code, dtype=torch.float32).requires_grad_()
    value = loss(logits, target)
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


def test_2d_patches(loss, code):
    labels = random_labels((3, 9, 8, 1))
    logits = random_logits(code, (3, 9, 8, 1), dtype=torch.float32).requires_grad_()
    value = loss(logits, code.encode(labels))
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


def test_the_truth_scores_less_than_chance_and_chance_less_than_the_opposite(loss, code, labels):
    target = code.encode(labels)
    sure = (target.one_hot * 2 - 1) * 30
    right, chance, wrong = (loss(logits, target).item() for logits in (sure, sure * 0, -sure))
    assert right < chance < wrong
    if loss.name not in SIGNED:
        assert right == pytest.approx(0, abs=1e-3)


def test_a_step_along_the_gradient_lowers_it(loss, code, labels):
    target = code.encode(labels)
    logits = random_logits(code).requires_grad_()
    value = loss(logits, target)
    value.backward()
    step = 1e-3 / logits.grad.norm()
    assert loss(logits.detach() - step * logits.grad, target) < value


def test_gradient_equals_finite_differences(loss, code):
    labels = random_labels((2, 3, 2, 4))
    target = code.encode(labels)
    logits = random_logits(code, (2, 3, 2, 4)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, target).double(), (logits,), atol=1e-6)


def test_axes_are_not_confused(loss, code, labels):
    """Permuting the axes of truth and logits together permutes nothing else."""
    logits = random_logits(code)
    turned = loss(logits.permute(0, 1, 4, 2, 3), code.encode(labels.permute(0, 3, 1, 2)))
    assert turned.item() == pytest.approx(loss(logits, code.encode(labels)).item(), rel=1e-6)


def test_maps_are_made_once_for_all_heads(monkeypatch):
    code = CODES["softmax"]
    made = []
    edt = __import__("scipy.ndimage", fromlist=["x"]).distance_transform_edt
    monkeypatch.setattr(
        "scipy.ndimage.distance_transform_edt", lambda *a, **k: made.append(1) or edt(*a, **k)
    )
    target = code.encode(random_labels((2, 5, 6, 7)))
    loss = LOSSES.build({"name": "boundary"})
    heads = [random_logits(code, seed=n) for n in range(3)]
    values = [loss(head, target).item() for head in heads]
    assert len(made) == 4  # patches times labels
    assert len(set(values)) == 3


def test_terms_read_from_a_file_keep_their_parameters():
    config = LossConfig.model_validate(
        {
            "terms": [{"name": "dice", "squared": True}, {"name": "focal", "gamma": 1, "weight": 0.5}],
            "heads": {"schedule": "shift"},
        }
    )
    assert LossConfig.model_validate(config.model_dump(mode="json")) == config
    assert config.heads == HeadsConfig(schedule="shift")
    assert np.isclose(config.terms[1].weight, 0.5)
