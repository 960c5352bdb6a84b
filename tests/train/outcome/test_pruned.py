"""A network that is trained in full and packed with the nodes of one head."""

import numpy as np
import pytest
import torch

from volseg.errors import ConfigError
from volseg.geometry import Grid
from volseg.infer.predictor import Predictor
from volseg.package import Package
from volseg.train.outcome.export import describe_model, packed_weights
from volseg.train.run import run_training
from volseg.volume import Volume

WIDTHS = "architecture.widths=[8, 8, 8]"


@pytest.fixture(scope="module")
def trained(phantom_config):
    """The state of a network of the smoke training, here at random."""
    torch.manual_seed(0)
    module = phantom_config(WIDTHS).architecture.build(1, 3)
    return {name: value.numpy() for name, value in module.state_dict().items()}


def packed(config, trained):
    info = describe_model(config, ["a"], 0)
    weights = packed_weights(config, info, trained)
    return Package.pack(info, weights=weights, card="", golden=None)


def test_a_pruned_package_is_smaller_and_answers_as_the_full_one_does_at_that_head(phantom_config, trained):
    full, pruned = (packed(phantom_config(WIDTHS, *more), trained) for more in ((), ("head=1",)))
    assert pruned.info.head == 1
    sizes = [len(package.members["weights.safetensors"]) for package in (pruned, full)]
    assert sizes[0] < 0.5 * sizes[1]
    shape = (24, 20, 16)
    scan = Volume(np.random.default_rng(0).normal(size=shape).astype(np.float32), Grid(shape, np.eye(4)))
    whole = Predictor(full, device="cpu").predict(scan, keep_probabilities=True)
    stopped = Predictor(full, device="cpu", head=1).predict(scan, keep_probabilities=True)
    found = Predictor(pruned, device="cpu").predict(scan, keep_probabilities=True)
    assert np.array_equal(found.probabilities.array, stopped.probabilities.array)
    assert not np.allclose(found.probabilities.array, whole.probabilities.array, atol=1e-3)
    assert "stopped at head 1" in " ".join(stopped.warnings)
    assert not found.warnings


def test_a_head_that_the_network_lacks_is_told_before_training(phantom_config, tmp_path):
    with pytest.raises(ConfigError, match="has no head 3; it has heads 1 to 2"):
        run_training(phantom_config(WIDTHS, "head=3"), tmp_path, device="cpu", report=print)
