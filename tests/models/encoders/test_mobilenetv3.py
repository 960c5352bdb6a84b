import pytest
import torch

from tests.models.encoders.levels import features, plan
from volseg.errors import ConfigError
from volseg.models.encoders.mobilenetv3 import HardExcitation, MobileNetV3
from volseg.models.unetpp import UNetPlusPlus


def built(dims, levels=5, channels=3, **fields):
    torch.manual_seed(1)
    return MobileNetV3(**fields).build(channels, plan(dims, levels))


def transposed_kernels(encoder):
    return {
        name: tensor.transpose(2, 3) if tensor.ndim > 2 else tensor
        for name, tensor in encoder.state_dict().items()
    }


def flipped_kernels(encoder):
    return {
        name: tensor.flip(2) if tensor.ndim > 2 else tensor for name, tensor in encoder.state_dict().items()
    }


# The published counts, 2,542,856 and 5,483,032, less two linear layers of (576, 1024, 1000) and (960, 1280, 1000).
@pytest.mark.parametrize(("size", "count"), [("small", 927_008), ("large", 2_971_952)])
def test_parameters_are_those_of_the_published_network(size, count):
    assert sum(p.numel() for p in built(2, size=size).parameters()) == count


@pytest.mark.parametrize(
    ("size", "widths"), [("small", (16, 16, 24, 48, 576)), ("large", (16, 24, 40, 112, 960))]
)
@pytest.mark.parametrize("extents", [(33, 70), (35, 18, 41)])
def test_features_have_their_widths_and_extents_rounded_up(size, widths, extents):
    dims = len(extents)
    encoder = built(dims, size=size).eval()
    assert encoder.widths == widths
    assert encoder.strides == ((2,) * dims,) * 5
    with torch.no_grad():
        maps = features(encoder, torch.randn(1, 3, *extents))
    for level, feature in enumerate(maps, start=1):
        assert feature.shape == (1, widths[level - 1], *(-(-extent // 2**level) for extent in extents))


def test_no_axis_or_direction_is_preferred():
    encoder, other = built(2, size="small").eval(), built(2, size="small").eval()
    image = torch.randn(1, 3, 33, 65)
    with torch.no_grad():
        maps = features(encoder, image)
        other.load_state_dict(transposed_kernels(encoder))
        for feature, turned in zip(maps, features(other, image.transpose(2, 3)), strict=True):
            torch.testing.assert_close(turned.transpose(2, 3), feature, rtol=1e-4, atol=1e-5)
        other.load_state_dict(flipped_kernels(encoder))
        for feature, mirrored in zip(maps, features(other, image.flip(2)), strict=True):
            torch.testing.assert_close(mirrored.flip(2), feature, rtol=1e-4, atol=1e-5)


def test_excitation_is_that_of_its_formula():
    torch.manual_seed(0)
    module, x = HardExcitation(3, 72), torch.randn(2, 72, 2, 3, 4)
    assert module.fc1.out_channels == 24
    means = x.flatten(2).mean(2)
    squeezed = (means @ module.fc1.weight.flatten(1).T + module.fc1.bias).clamp(min=0)
    gates = ((squeezed @ module.fc2.weight.flatten(1).T + module.fc2.bias + 3) / 6).clamp(0, 1)
    torch.testing.assert_close(module(x), x * gates[:, :, None, None, None])


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
def test_every_norm_trains_in_3d_and_gradients_reach_all_parameters(norm):
    encoder = {"name": "mobilenetv3", "size": "small", "norm": norm}
    network = UNetPlusPlus(widths=(8, 8, 8), encoder=encoder, align="pad").build(2, 3).train()
    logits = network(torch.randn(2, 2, 21, 16, 13))
    assert [tuple(head.shape) for head in logits] == [(2, 3, 21, 16, 13)] * 2
    torch.stack([head.square().mean() for head in logits]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_pruned_network_builds_only_its_levels_and_gives_the_same():
    parameters = UNetPlusPlus(
        dimensions=2, widths=(8, 8, 8, 8), encoder={"name": "mobilenetv3"}, norm="batch"
    )
    full, pruned = parameters.build(1, 2).train(), parameters.build(1, 2, head=1).train()
    assert len(pruned.encoder.stages) == 2
    pruned.load_state_dict({name: full.state_dict()[name] for name in pruned.state_dict()})
    image = torch.randn(2, 1, 32, 48)
    torch.testing.assert_close(pruned(image)[0], full(image)[0])


def test_published_names_are_taken_and_others_refused():
    encoder = built(2, levels=3, size="large")
    published = {
        "features." + name.split(".", 2)[2]: torch.randn(tensor.shape)
        for name, tensor in built(2, size="large").state_dict().items()
    }
    assert {"features.0.0.weight", "features.4.block.2.fc1.bias", "features.16.1.running_var"} <= set(
        published
    )
    converted = encoder.convert_torchvision({**published, "classifier.0.bias": torch.zeros(3)})
    encoder.load_state_dict(converted)
    assert torch.equal(converted["stages.2.4.block.1.0.weight"], published["features.4.block.1.0.weight"])
    with pytest.raises(ConfigError, match=r"no 'features\.1\.block\.1\.fc1\.weight'.*mobilenet_v3_small"):
        built(2, size="small").convert_torchvision(published)
