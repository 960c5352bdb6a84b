import pytest
import torch
from torch import nn

from volseg.errors import ConfigError
from volseg.models.blocks import BlockStyle
from volseg.models.encoder_weights import adapt_channels, inflate, load_encoder_weights
from volseg.models.encoders import ENCODERS, LevelPlan
from volseg.models.unetpp import UNetPlusPlus

CONVOLUTIONS = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128)}


def vgg(dims=2, in_channels=3, levels=2, **fields):
    plan = LevelPlan(dims, levels, (), (), (), BlockStyle(dimensions=dims))
    return ENCODERS.build({"name": "vgg16", **fields}).build(in_channels, plan)


@pytest.fixture
def weights():
    """The first four convolutions of torchvision's vgg16, one of a deeper level, and its classifier."""
    torch.manual_seed(3)
    found = {}
    for number, (outputs, inputs) in {**CONVOLUTIONS, 10: (256, 128)}.items():
        found[f"features.{number}.weight"] = torch.randn(outputs, inputs, 3, 3) / (9 * inputs) ** 0.5
        found[f"features.{number}.bias"] = torch.randn(outputs)
    return found | {"classifier.0.weight": torch.zeros(3, 3), "classifier.0.bias": torch.zeros(3)}


def test_all_tensors_are_set_and_deeper_levels_left_out(weights):
    encoder = vgg()
    fitted = load_encoder_weights(encoder, weights, "a.pth")
    assert (fitted.used, fitted.total, fitted.adapted, fitted.left_out) == (8, 8, (), 4)
    assert torch.equal(encoder.state_dict()["stages.1.7.weight"], weights["features.7.weight"])


@torch.no_grad()
def test_one_channel_responds_as_three_grey_ones(weights):
    colour, grey = vgg(), vgg(in_channels=1)
    load_encoder_weights(colour, weights, "a.pth")
    fitted = load_encoder_weights(grey, weights, "a.pth")
    assert fitted.adapted == ("first layer 3 to 1 channels, summed",)
    image = torch.randn(1, 1, 9, 14)
    torch.testing.assert_close(grey.stages[0](image), colour.stages[0](image.expand(-1, 3, -1, -1)))


def test_more_channels_are_repeated_in_turn_and_scaled():
    weight = torch.randn(5, 3, 2, 2)
    made = adapt_channels(weight, 4)
    for channel, source in enumerate([0, 1, 2, 0]):
        torch.testing.assert_close(made[:, channel], weight[:, source] * 3 / 4)
    torch.testing.assert_close(adapt_channels(weight, 6).sum(dim=1), weight.sum(dim=1))
    torch.testing.assert_close(adapt_channels(weight[:, :1], 3).sum(dim=1), weight[:, 0])


@torch.no_grad()
def test_inflated_kernels_see_slices_in_a_volume_that_is_constant_along_k(weights):
    plane, volume = vgg(), vgg(dims=3)
    load_encoder_weights(plane, weights, "a.pth")
    fitted = load_encoder_weights(volume, weights, "a.pth")
    assert fitted.adapted == ("2D kernels inflated to 3D",)
    image = torch.randn(1, 3, 12, 8)
    made = volume.stages[1](volume.stages[0](image.unsqueeze(-1).expand(-1, -1, -1, -1, 16)))
    torch.testing.assert_close(made[..., 4], plane.stages[1](plane.stages[0](image)))
    kernel = torch.randn(2, 3, 5, 7)
    assert inflate(kernel, 3).shape == (2, 3, 5, 7, 3)
    torch.testing.assert_close(inflate(kernel, 3).sum(dim=-1), kernel)


def test_both_at_once(weights):
    fitted = load_encoder_weights(vgg(dims=3, in_channels=1), weights, "a.pth")
    assert fitted.adapted == ("2D kernels inflated to 3D", "first layer 3 to 1 channels, summed")


def test_an_encoders_own_state_round_trips_into_one_with_fewer_levels():
    torch.manual_seed(4)
    fields = {"dimensions": 3, "norm": "batch", "block": "residual"}
    deep = UNetPlusPlus(widths=(8, 8, 16), **fields).build(1, 2).encoder
    shallow = UNetPlusPlus(widths=(8, 8), **fields).build(1, 2).encoder
    fitted = load_encoder_weights(shallow, deep.state_dict(), "encoder.safetensors")
    assert fitted.used == fitted.total == len(shallow.state_dict())
    assert fitted.left_out == len(deep.state_dict()) - fitted.used
    for name, tensor in shallow.state_dict().items():
        assert torch.equal(tensor, deep.state_dict()[name])


def test_statistics_of_batch_norm_are_left_out_of_an_encoder_without_and_its_counter_may_be_missing():
    batch, instance = vgg(norm="batch"), vgg(norm="instance")
    assert load_encoder_weights(instance, batch.state_dict(), "a.pth").left_out == 12
    old = {name: value for name, value in batch.state_dict().items() if "num_batches" not in name}
    fitted = load_encoder_weights(vgg(norm="batch"), old, "a.pth")
    assert (fitted.used, fitted.total) == (24, 28)


def refused(encoder, weights, *found):
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with pytest.raises(ConfigError) as caught:
        load_encoder_weights(encoder, weights, "a.pth")
    assert all(part in str(caught.value) for part in ("a.pth", *found)), str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_half_of_the_weights_is_refused(weights):
    del weights["features.7.weight"], weights["features.7.bias"]
    refused(vgg(), weights, "lack 2 tensors", "stages.1.7.weight")


def test_weights_of_another_norm_are_refused(weights):
    refused(vgg(norm="batch"), weights, "lack", "another norm")
    refused(vgg(), vgg(norm="batch").state_dict(), "hold", "that it does not have")


def test_other_shapes_are_refused(weights):
    weights["features.5.weight"] = torch.zeros(96, 64, 3, 3)
    refused(vgg(), weights, "stages.1.5.weight is 96x64x3x3", "needs 128x64x3x3")
    refused(vgg(), vgg(dims=3).state_dict(), "64x3x3x3x3", "needs 64x3x3x3")


def test_only_the_first_layer_adapts_its_channels(weights):
    weights["features.2.weight"] = torch.zeros(64, 3, 3, 3)
    refused(vgg(), weights, "stages.0.2.weight is 64x3x3x3")


def test_nothing_usable_is_refused(weights):
    refused(vgg(), {"classifier.0.weight": weights["classifier.0.weight"]}, "lack 8 tensors")
    refused(vgg(), {"layer1.0.conv1.weight": torch.zeros(1)}, "vgg16")
    refused(vgg(), {"stages.0.block.convs.0.weight": torch.zeros(1)}, "lack", "hold")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(weights, bad):
    weights["features.5.weight"][3, 1, 0, 2] = bad
    refused(vgg(), weights, "stages.1.5.weight", "not finite")


def test_whole_numbers_are_refused(weights):
    weights["features.5.bias"] = torch.zeros(128, dtype=torch.int8)
    refused(vgg(), weights, "stages.1.5.bias", "int8")


def test_half_precision_weights_are_taken(weights):
    encoder = vgg()
    load_encoder_weights(encoder, {name: value.bfloat16() for name, value in weights.items()}, "a.pth")
    assert all(parameter.dtype == torch.float32 for parameter in encoder.parameters())
    assert isinstance(encoder.stages[0][0], nn.Conv2d)
    assert torch.equal(encoder.stages[0][0].weight, weights["features.0.weight"].bfloat16().float())
