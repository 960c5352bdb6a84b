import numpy as np
import pytest
import torch

from volseg.labels import LabelRegion, LabelTable
from volseg.train.targets import TargetCode

TABLE = LabelTable.from_names(["organ", "lesion"])
REGIONS = (LabelRegion("whole", (1, 2), 1), LabelRegion("core", (2,), 2))
CODES = {"softmax": TargetCode.of(TABLE), "sigmoid": TargetCode.of(TABLE, REGIONS)}


@pytest.fixture(params=["softmax", "sigmoid"])
def code(request):
    return CODES[request.param]


def random_labels(shape=(2, 5, 6, 7), highest=2, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, highest + 1, shape))


def random_logits(code, shape=(2, 5, 6, 7), seed=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape[0], code.channels, *shape[1:], generator=generator, dtype=torch.float64).to(
        dtype
    )


@pytest.fixture
def labels():
    return random_labels()


@pytest.fixture
def logits(code):
    return random_logits(code)


def truth_of(target):
    return target.one_hot.double().numpy()


def numpy_probabilities(target, logits):
    values = logits.double().numpy()
    if not target.exclusive:
        return 1 / (1 + np.exp(-values))
    powers = np.exp(values - values.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def numpy_losses(target, logits):
    """Per voxel: [B, 1, ...] or [B, N, ...]."""
    p, g = numpy_probabilities(target, logits), truth_of(target)
    if target.exclusive:
        return -np.log((p * g).sum(1, keepdims=True))
    return -np.log(np.where(g > 0, p, 1 - p))


def foreground(target, channels):
    return channels[:, 1:] if target.exclusive else channels
