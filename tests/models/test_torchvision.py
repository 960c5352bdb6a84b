"""Encoders against torchvision: the same features from the same weights, under torchvision's names.

The recorded features are those of record_peers.py.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.models.seeded import assert_recorded, seeded_image, seeded_tensor, unpacked
from volseg.models.blocks import BlockStyle
from volseg.models.encoders import ENCODERS, LevelPlan

FIXTURES = Path(__file__).parent / "fixtures"
CLASSIFIERS = ("classifier.", "fc.", "head.")
RESNET = ("relu", "layer1", "layer2", "layer3", "layer4")
EFFICIENTNET = ("features.1", "features.2", "features.3", "features.5", "features.7")
NETWORKS = {
    "vgg16": ({"name": "vgg16"}, [f"features.{n}" for n in (3, 8, 15, 22, 29, 30)]),
    "vgg16_bn": ({"name": "vgg16", "norm": "batch"}, [f"features.{n}" for n in (5, 12, 22, 32, 42, 43)]),
    "resnet18": ({"name": "resnet", "layers": 18}, RESNET),
    "resnet50": ({"name": "resnet", "layers": 50}, RESNET),
    "resnext50_32x4d": ({"name": "resnext", "layers": 50}, RESNET),
    "mobilenet_v3_small": (
        {"name": "mobilenetv3", "size": "small"},
        [f"features.{n}" for n in (0, 1, 3, 8, 12)],
    ),
    "mobilenet_v3_large": (
        {"name": "mobilenetv3", "size": "large"},
        [f"features.{n}" for n in (1, 3, 6, 12, 16)],
    ),
    "efficientnet_b0": ({"name": "efficientnet", "version": "b0"}, EFFICIENTNET),
    "efficientnet_b1": ({"name": "efficientnet", "version": "b1"}, EFFICIENTNET),
    "swin_t": ({"name": "swin"}, ["features.1", "features.3", "features.5", "norm"]),
}
"""Encoders, and torchvision's modules whose outputs are their features."""
FAST = {"vgg16_bn", "resnet18", "mobilenet_v3_small", "efficientnet_b0", "swin_t"}


def encoder(fields):
    step = ENCODERS.build(fields)
    levels = step.most_levels
    plan = LevelPlan(
        dimensions=2,
        levels=levels,
        widths=(8,) * levels,
        kernel_sizes=((3, 3),) * levels,
        strides=((2, 2),) * (levels - 1),
        style=BlockStyle(dimensions=2),
    )
    return step.build(3, plan).eval()


def published(stored):
    """The state dict of torchvision's network; what its classifier holds does not matter."""
    return {
        name: torch.zeros(()).expand(shape) if name.startswith(CLASSIFIERS) else seeded_tensor(name, shape)
        for name, shape in unpacked(stored["tensors"]).items()
    }


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in NETWORKS]
)
def test_features_are_those_of_torchvision_with_its_weights(name):
    fields, nodes = NETWORKS[name]
    stored = np.load(FIXTURES / f"torchvision_{name}.npz")
    ours, weights = encoder(fields), published(stored)
    own = ours.convert_torchvision(weights)
    assert set(own) == set(ours.state_dict())
    ours.load_state_dict(own)
    state, states = seeded_image((1, 3, 64, 96)), []
    with torch.no_grad():
        for stage in ours.stages:
            state = stage(state)
            states.append(state)
        # After all stages, so that one that changed the state it was given would be found.
        features = [ours.feature(level, state) for level, state in enumerate(states)]
    assert [feature.shape[1] for feature in features] == list(ours.widths)
    for node, feature in zip(nodes, features, strict=True):
        assert_recorded(stored, node, feature, rtol=1e-4, atol=5e-5 * root_mean_square(stored, node))


def root_mean_square(stored, node):
    """Of a recorded map: in residual networks they grow from block to block, as norms do not know their own statistics."""
    return float(stored[f"{node} sums"][1] / stored[f"{node} shape"].prod()) ** 0.5
