"""The network around an encoder: any encoder, 2D and 3D, awkward extents; the encoder is that of the training."""

import pytest
import torch

from volseg.errors import ConfigError
from volseg.models import MODELS
from volseg.pretrain.network import build_network, total_stride


def architecture(**fields):
    return MODELS.build({"name": "unetpp", "dimensions": 3, "widths": [4, 6, 8], **fields})


FORMS = [
    ({}, (1, 12, 8, 20)),
    ({"align": "pad"}, (2, 13, 10, 7)),
    ({"name": "unet", "padding": "valid"}, (1, 12, 8, 4)),
    ({"block": "residual", "strides": [[1, 2, 2], [2, 2, 2]], "attention": "se"}, (1, 6, 12, 8)),
    ({"dimensions": 2}, (3, 12, 20)),
    ({"encoder": {"name": "plain", "downsample": "strided"}, "norm": "batch"}, (1, 8, 12, 12)),
    ({"encoder": {"name": "resnet"}, "dimensions": 2, "widths": [8, 8, 8]}, (1, 32, 48)),
]


@pytest.mark.parametrize(("fields", "shape"), FORMS)
def test_a_patch_comes_back_with_its_extents_and_every_weight_of_the_encoder_learns(fields, shape):
    channels = shape[0]
    torch.manual_seed(0)
    network = build_network(architecture(**fields), channels, masked=True, contrastive_width=5)
    images = torch.randn(2, *shape)
    said = network(images)
    assert said.reconstruction.shape == images.shape
    assert said.descriptions.shape == (2, 5)
    (said.reconstruction.square().mean() + said.descriptions.square().mean()).backward()
    assert all(weight.grad is not None for weight in network.encoder.parameters())


@pytest.mark.parametrize("fields", [fields for fields, _ in FORMS])
def test_the_encoder_is_that_of_the_training(fields):
    form = architecture(**fields)
    own = build_network(form, 2, masked=True, contrastive_width=None).encoder.state_dict()
    trained = form.build(2, 3).encoder.state_dict()
    assert {name: value.shape for name, value in own.items()} == {
        name: value.shape for name, value in trained.items()
    }


def test_nothing_reaches_the_reconstruction_but_by_the_deepest_level():
    network = build_network(architecture(norm="none"), 1, masked=True, contrastive_width=None).eval()
    deepest = {}
    network.encoder.stages[-1].register_forward_hook(lambda *_: torch.zeros(1, 8, 3, 3, 3))
    with torch.no_grad():
        for name in "ab":
            deepest[name] = network(torch.randn(1, 1, 12, 12, 12)).reconstruction
    assert torch.equal(deepest["a"], deepest["b"])
    assert network(torch.randn(1, 1, 12, 12, 12)).descriptions is None


def test_total_stride_is_by_axis():
    form = architecture(strides=[[1, 2, 2], [2, 2, 1]])
    encoder = build_network(form, 1, masked=False, contrastive_width=4).encoder
    assert total_stride(encoder) == (2, 4, 2)


def test_an_architecture_without_an_encoder_is_refused():
    from volseg.models import Architecture

    class Other(Architecture):
        name: str = "other"

        def build(self, in_channels, label_count, *, head=None):
            raise NotImplementedError

    with pytest.raises(ConfigError, match="other has no encoder"):
        build_network(Other(), 1, masked=True, contrastive_width=None)
