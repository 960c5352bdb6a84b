import pytest
import torch
from torch import nn

from tests.models.encoders.levels import features, plan
from volseg.errors import ConfigError
from volseg.models.encoders.efficientnet import EfficientNet
from volseg.models.unetpp import UNetPlusPlus


def built(dims, levels=5, channels=3, **fields):
    torch.manual_seed(1)
    return EfficientNet(**fields).build(channels, plan(dims, levels))


# The published counts, 5,288,548 and 9,109,994, less the classifier and the 1x1 convolution (with norm) before it.
@pytest.mark.parametrize(
    ("version", "count"),
    [("b0", 5_288_548 - 1_281_000 - 412_160), ("b2", 9_109_994 - 1_409_000 - 498_432)],
)
def test_parameters_are_those_of_the_published_network(version, count):
    assert sum(p.numel() for p in built(2, version=version).parameters()) == count


@pytest.mark.parametrize("extents", [(33, 70), (35, 18, 41)])
def test_features_have_their_widths_and_extents_rounded_up(extents):
    dims, widths = len(extents), (16, 24, 40, 112, 320)
    encoder = built(dims).eval()
    assert encoder.widths == widths
    assert encoder.strides == ((2,) * dims,) * 5
    with torch.no_grad():
        maps = features(encoder, torch.randn(1, 3, *extents))
    for level, feature in enumerate(maps, start=1):
        assert feature.shape == (1, widths[level - 1], *(-(-extent // 2**level) for extent in extents))


@pytest.mark.parametrize("change", [lambda x: x.transpose(2, 3), lambda x: x.flip(2), lambda x: x.flip(3)])
def test_no_axis_or_direction_is_preferred(change):
    encoder, other = built(2).eval(), built(2).eval()
    state = encoder.state_dict()
    other.load_state_dict(
        {name: change(tensor) if tensor.ndim > 2 else tensor for name, tensor in state.items()}
    )
    image = torch.randn(1, 3, 33, 65)
    with torch.no_grad():
        changed = features(other, change(image))
        for feature, found in zip(features(encoder, image), changed, strict=True):
            torch.testing.assert_close(change(found), feature, rtol=1e-4, atol=1e-5)


def test_training_drops_no_block_and_gives_the_same_twice():
    encoder = built(2, norm="instance").train()
    image = torch.randn(1, 3, 40, 56)
    first, second = (features(encoder, image)[-1] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(("version", "epsilon"), [("b0", 1e-5), ("b5", 1e-3)])
def test_epsilon_is_that_of_the_published_weights(version, epsilon):
    norms = [m for m in built(2, levels=1, version=version).modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert {norm.eps for norm in norms} == {epsilon}


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
def test_every_norm_trains_in_3d_and_gradients_reach_all_parameters(norm):
    encoder = {"name": "efficientnet", "norm": norm}
    network = UNetPlusPlus(widths=(8, 8, 8), encoder=encoder, align="pad").build(2, 3).train()
    logits = network(torch.randn(2, 2, 21, 16, 13))
    assert [tuple(head.shape) for head in logits] == [(2, 3, 21, 16, 13)] * 2
    torch.stack([head.square().mean() for head in logits]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_published_names_are_taken_and_others_refused():
    encoder = built(2)
    names = {
        "stages.0.stem.0.weight": "features.0.0.weight",
        "stages.0.stack1.0._depthwise_conv.weight": "features.1.0.block.0.0.weight",
        "stages.0.stack1.0._se_expand.bias": "features.1.0.block.1.fc2.bias",
        "stages.1.stack2.1._expand_conv.weight": "features.2.1.block.0.0.weight",
        "stages.3.stack5.2._bn1.running_var": "features.5.2.block.1.1.running_var",
        "stages.4.stack7.0._bn2.bias": "features.7.0.block.3.1.bias",
    }
    own = encoder.state_dict()
    published = {encoder.published_name(name): torch.randn(tensor.shape) for name, tensor in own.items()}
    assert len(published) == len(own)
    converted = encoder.convert_torchvision(published)
    assert all(converted[name] is published[source] for name, source in names.items())
    encoder.load_state_dict(converted)
    with pytest.raises(ConfigError, match=r"no 'features\.1\.1\..*efficientnet_b0 to _b7"):
        built(2, version="b1").convert_torchvision(published)
