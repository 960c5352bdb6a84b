import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional

from tests.models.encoders.levels import plan
from volseg.errors import ConfigError
from volseg.models.encoders import ENCODERS
from volseg.models.unetpp import UNetPlusPlus

PLANES = (64, 128, 256, 512)


def published_shapes(counts, *, expansion, groups=1, width_per_group=64):
    """The names and shapes of a torchvision resnet, written out from the paper's table."""
    shapes = {"conv1.weight": (64, 3, 7, 7), "bn1": (64,)}
    inputs = 64
    for level, (count, planes) in enumerate(zip(counts, PLANES, strict=True), start=1):
        width, outputs = planes * width_per_group // 64 * groups, planes * expansion
        for number in range(count):
            block = f"layer{level}.{number}"
            if expansion == 1:
                kernels = [(planes, inputs, 3, 3), (planes, planes, 3, 3)]
            else:
                kernels = [(width, inputs, 1, 1), (width, width // groups, 3, 3), (outputs, width, 1, 1)]
            for place, kernel in enumerate(kernels, start=1):
                shapes |= {f"{block}.conv{place}.weight": kernel, f"{block}.bn{place}": kernel[:1]}
            if number == 0 and (level > 1 or inputs != outputs):
                shapes |= {
                    f"{block}.downsample.0.weight": (outputs, inputs, 1, 1),
                    f"{block}.downsample.1": (outputs,),
                }
            inputs = outputs
    return shapes


def published_weights(shapes):
    weights = {"fc.weight": torch.zeros(2, 2), "fc.bias": torch.zeros(2)}
    for name, shape in shapes.items():
        if name.endswith("weight"):
            weights[name] = torch.randn(shape) / (shape[1] * shape[2] * shape[3]) ** 0.5
            continue
        for part in ("weight", "running_var"):
            weights[f"{name}.{part}"] = torch.rand(shape) + 0.5
        for part in ("bias", "running_mean"):
            weights[f"{name}.{part}"] = torch.randn(shape)
        weights[f"{name}.num_batches_tracked"] = torch.tensor(7)
    return weights


def published_features(weights, x, *, groups):
    """What torchvision computes, from its names and the papers alone."""

    def norm(x, name):
        mean, var, weight, bias = (
            weights[f"{name}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    x = norm(functional.conv2d(x, weights["conv1.weight"], stride=2, padding=3), "bn1").relu()
    features = [x]
    x = functional.max_pool2d(x, 3, 2, 1)
    blocks = dict.fromkeys(".".join(name.split(".")[:2]) for name in weights if name.startswith("layer"))
    for block in blocks:
        stride = 2 if block.endswith(".0") and not block.startswith("layer1") else 1
        y, count = x, 3 if f"{block}.conv3.weight" in weights else 2
        for place in range(1, count + 1):
            kernel = weights[f"{block}.conv{place}.weight"]
            is_strided = place == (2 if count == 3 else 1)
            options = {"stride": stride if is_strided else 1, "padding": kernel.shape[-1] // 2}
            y = functional.conv2d(y, kernel, groups=groups if place == 2 else 1, **options)
            y = norm(y, f"{block}.bn{place}")
            y = y.relu() if place < count else y
        if f"{block}.downsample.0.weight" in weights:
            x = functional.conv2d(x, weights[f"{block}.downsample.0.weight"], stride=stride)
            x = norm(x, f"{block}.downsample.1")
        x = (x + y).relu()
        level = int(block[5])
        features[level:] = [x]
    return features


@pytest.mark.parametrize(
    ("fields", "counts", "form"),
    [
        ({"name": "resnet", "layers": 18}, (2, 2, 2, 2), {"expansion": 1}),
        ({"name": "resnet", "layers": 50}, (3, 4, 6, 3), {"expansion": 4}),
        ({"name": "resnext"}, (3, 4, 6, 3), {"expansion": 4, "groups": 32, "width_per_group": 4}),
    ],
)
@torch.no_grad()
def test_converted_weights_give_the_published_networks_features(fields, counts, form):
    torch.manual_seed(2)
    weights = published_weights(published_shapes(counts, **form))
    encoder = ENCODERS.build(fields).build(3, plan(2, 5)).eval()
    encoder.load_state_dict(encoder.convert_torchvision(weights))
    batch = torch.randn(1, 3, 45, 70)
    state = batch
    for level, reference in enumerate(published_features(weights, batch, groups=form.get("groups", 1))):
        state = encoder.stages[level](state)
        assert encoder.widths[level] == state.shape[1]
        torch.testing.assert_close(state, reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "millions"),
    [
        ({"name": "resnet", "layers": 34}, 21.797672),
        ({"name": "resnet", "layers": 152}, 60.192808),
        ({"name": "resnext", "layers": 101, "width_per_group": 8}, 88.791336),
    ],
)
def test_parameter_counts_are_those_that_torchvision_states(fields, millions):
    with torch.device("meta"):
        encoder = ENCODERS.build(fields).build(3, plan(2, 5))
    classifier = 1000 * (encoder.widths[-1] + 1)
    assert sum(parameter.numel() for parameter in encoder.parameters()) + classifier == round(millions * 1e6)


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
@pytest.mark.parametrize("fields", [{"name": "resnet", "layers": 18}, {"name": "resnext"}])
def test_every_parameter_learns_in_3d_and_a_fresh_block_is_its_shortcut(fields, norm):
    parameters = UNetPlusPlus(widths=(8, 8), encoder={**fields, "norm": norm}, align="pad")
    network = parameters.build(2, 3)
    (head,) = network(torch.randn(2, 2, 17, 22, 13))
    assert head.shape == (2, 3, 17, 22, 13)
    head.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    kinds = {"batch": nn.BatchNorm3d, "instance": nn.InstanceNorm3d, "group": nn.GroupNorm}
    assert any(isinstance(module, kinds[norm]) for module in network.encoder.modules())
    assert network.encoder.stages[1].layer1[1].conv2.groups == (32 if fields["name"] == "resnext" else 1)
    state = network.encoder.stages[0](torch.randn(2, 2, 16, 16, 16))
    pooled = network.encoder.stages[1].maxpool(state)
    block = network.encoder.stages[1].layer1[0]
    shortcut = pooled if block.downsample is None else block.downsample(pooled)
    assert torch.equal(block(pooled), shortcut.relu())


def test_shallow_heads_build_fewer_stages():
    parameters = UNetPlusPlus(widths=(8,) * 4, encoder={"name": "resnet", "layers": 18})
    assert [len(parameters.build(1, 2, head=head).encoder.stages) for head in (1, 2, 3)] == [2, 3, 4]


def test_impossible_forms_are_refused():
    for fields, found in [
        ({"name": "resnet", "layers": 20}, "18, 34, 50, 101 or 152"),
        ({"name": "resnext", "groups": 3, "norm": "group"}, "multiple of 8, found 12"),
    ]:
        with pytest.raises(ValidationError, match=found):
            UNetPlusPlus(encoder=fields)
    encoder = ENCODERS.build({"name": "resnet"}).build(3, plan(2, 2))
    with pytest.raises(ConfigError, match=r"features\.0\.weight is none of torchvision's resnets"):
        encoder.convert_torchvision({"features.0.weight": torch.zeros(1)})
