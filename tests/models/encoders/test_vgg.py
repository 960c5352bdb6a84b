import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tests.models.encoders.levels import plan
from volseg.errors import ConfigError
from volseg.models.encoders import ENCODERS
from volseg.models.unetpp import UNetPlusPlus

COLUMN_D = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]
CONVOLUTIONS = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
CONVOLUTIONS_BN = [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40]


def published(*, norm):
    """The feature layers in one list, as torchvision numbers them."""
    layers, channels = [], 3
    for width in COLUMN_D:
        if width == "M":
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [
            nn.Conv2d(channels, width, 3, padding=1),
            *([nn.BatchNorm2d(width)] if norm else []),
            nn.ReLU(),
        ]
        channels = width
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            layer.running_mean.uniform_(-1, 1)
            layer.running_var.uniform_(0.5, 2)
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize(("norm", "first_level"), [("none", 0), ("batch", 2)])
@torch.no_grad()
def test_converted_weights_give_the_published_networks_features(norm, first_level):
    torch.manual_seed(1)
    network = published(norm=norm == "batch")
    numbers = CONVOLUTIONS_BN if norm == "batch" else CONVOLUTIONS
    assert [number for number, layer in enumerate(network) if isinstance(layer, nn.Conv2d)] == numbers
    weights = {f"features.{name}": tensor for name, tensor in network.state_dict().items()}
    weights |= {"classifier.6.weight": torch.zeros(2, 2)}
    step = ENCODERS.build({"name": "vgg16", "norm": norm, "first_level": first_level})
    encoder = step.build(3, plan(2, 6 - first_level)).eval()
    encoder.load_state_dict(encoder.convert_torchvision(weights))
    batch = torch.randn(1, 3, 37, 50)
    expected, x = [], batch
    for layer in network:
        if isinstance(layer, nn.MaxPool2d):
            expected.append(x)
        x = layer(x)
    state = batch
    for level, (stage, reference) in enumerate(
        zip(encoder.stages, [*expected, x][first_level:], strict=True)
    ):
        state = stage(state)
        assert encoder.feature(level, state).shape[1] == encoder.widths[level]
        torch.testing.assert_close(state, reference)


def test_levels_are_those_of_the_paper_in_3d_and_only_those_asked_for_are_built():
    encoder = ENCODERS.build({"name": "vgg16", "norm": "instance"}).build(1, plan(3, 3))
    assert encoder.widths == (64, 128, 256)
    assert encoder.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2))
    convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv3d)]
    assert [module.out_channels for module in convolutions] == [64, 64, 128, 128, 256, 256, 256]
    state, shapes = torch.zeros(1, 1, 8, 12, 20), []
    for stage in encoder.stages:
        state = stage(state)
        shapes.append(tuple(state.shape[2:]))
    assert shapes == [(8, 12, 20), (4, 6, 10), (2, 3, 5)]


@pytest.mark.parametrize("first_level", [0, 1, 4])
def test_every_parameter_learns_and_shallow_heads_build_less(first_level):
    fields = {"name": "vgg16", "norm": "group", "first_level": first_level}
    parameters = UNetPlusPlus(dimensions=2, widths=(8, 8), encoder=fields, align="pad")
    network = parameters.build(2, 3)
    heads = network(torch.randn(1, 2, 33, 46))
    assert [tuple(head.shape) for head in heads] == [(1, 3, 33, 46)]
    heads[0].square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    deeper = UNetPlusPlus(dimensions=2, widths=(8,) * 3, encoder={"name": "vgg16"})
    assert [len(deeper.build(1, 2, head=head).encoder.stages) for head in (1, 2)] == [2, 3]


def test_joined_levels_leave_fewer():
    with pytest.raises(ValidationError, match="5 levels, found 6 widths"):
        UNetPlusPlus(widths=(8,) * 6, encoder={"name": "vgg16", "first_level": 1})


@pytest.mark.parametrize("name", ["features.34.weight", "layer1.0.conv1.weight", "weights"])
def test_tensors_of_another_network_are_refused(name):
    encoder = ENCODERS.build({"name": "vgg16"}).build(3, plan(2, 2))
    with pytest.raises(ConfigError, match=f"{name} is none of torchvision's vgg16"):
        encoder.convert_torchvision({name: torch.zeros(1)})
