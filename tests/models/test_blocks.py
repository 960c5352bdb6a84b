import numpy as np
import pytest
import torch
from torch import nn

from volseg.errors import InputError
from volseg.models.blocks import BlockStyle, ConvBlock, SeparableConv, normalisation
from volseg.models.unetpp import UNetPlusPlus
from volseg.train.optimise import make_optimizer, update_average
from volseg.train.settings import OptimizerConfig


@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("separable", [False, True])
def test_the_second_moment_is_kept_through_a_block(slope, separable):
    """He et al. 2015: half of the second moment is lost in a ReLU, and given back by the next convolution."""
    style = BlockStyle(dimensions=2, norm="none", negative_slope=slope, separable=separable, convolutions=4)
    moments = []
    for seed in range(8):
        torch.manual_seed(seed)
        block = ConvBlock(style, 64, 64, (3, 3))
        block.convs[3].register_forward_hook(
            lambda module, inputs, output: moments.append(output[:, :, 4:-4, 4:-4].square().mean().item())
        )
        with torch.no_grad():
            block(torch.randn(1, 64, 24, 24))
    assert np.mean(moments) == pytest.approx(2 / (1 + slope**2), rel=0.3)
    assert all(not parameter.any() for name, parameter in block.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize("attention", ["none", "se", "scse", "spatial"])
@pytest.mark.parametrize("norm", ["instance", "batch", "group", "layer"])
def test_a_residual_block_starts_as_its_projected_input(norm, attention):
    style = BlockStyle(dimensions=2, norm=norm, residual=True, attention=attention)
    block = ConvBlock(style, 3, 8, (3, 1))
    x = torch.randn(2, 3, 5, 6)
    kept = x.clone()
    torch.testing.assert_close(block(x), block.activation(block.project(x)))
    assert torch.equal(x, kept), "the input is not changed in place"


def test_a_norm_that_starts_at_zero_is_trained_and_averaged():
    torch.manual_seed(6)
    block = ConvBlock(BlockStyle(dimensions=2, residual=True), 3, 8, (3, 3))
    average = {name: value.clone() for name, value in block.state_dict().items()}
    optimizer = make_optimizer(block, OptimizerConfig(weight_decay=0.5))
    for step in (1, 2):
        block(torch.randn(2, 3, 6, 6)).square().mean().backward()
        optimizer.step()
        update_average(average, block, step, 0.99)
    assert block.norms[-1].weight.abs().min() > 0
    assert average["norms.1.weight"].abs().min() > 0


def test_norms_against_numpy():
    x = torch.randn(2, 16, 3, 4, 5) * 3 + 1
    groups = {"instance": 16, "group": 8, "layer": 1}
    for name, count in groups.items():
        cells = x.numpy().reshape(2, count, -1)
        expected = (cells - cells.mean(-1, keepdims=True)) / np.sqrt(cells.var(-1, keepdims=True) + 1e-5)
        found = normalisation(name, 3, 16)(x).detach().numpy()
        np.testing.assert_allclose(found, expected.reshape(x.shape), atol=2e-5)
    assert [tuple(p.shape) for p in normalisation("layer", 2, 12).parameters()] == [(12,)] * 2


def test_a_single_voxel_has_no_instance_norm():
    network = UNetPlusPlus(dimensions=2, widths=(8, 8, 8)).build(1, 2).eval()
    with pytest.raises(InputError, match="coarsest level of the network is a single voxel"):
        network(torch.zeros(1, 1, 4, 4))
    assert network(torch.zeros(1, 1, 4, 8)).shape == (1, 2, 4, 8)


def test_separable_convolutions_are_one_per_channel_and_one_across():
    conv = SeparableConv(3, 4, 6, kernel=(3, 1, 3), stride=(1, 1, 1), padding=(1, 0, 1))
    assert [tuple(p.shape) for p in conv.parameters()] == [(4, 1, 3, 1, 3), (6, 4, 1, 1, 1), (6,)]
    x = torch.randn(1, 4, 5, 2, 6)
    apart = torch.cat([nn.functional.conv3d(x[:, n : n + 1], conv[0].weight[n : n + 1], padding=(1, 0, 1)) for n in range(4)], 1)  # fmt: skip
    torch.testing.assert_close(conv(x), conv[1](apart))
    plain = UNetPlusPlus(dimensions=2, widths=(32, 64), norm="none").build(1, 2)
    small = UNetPlusPlus(dimensions=2, widths=(32, 64), norm="none", separable=True).build(1, 2)
    count = [sum(p.numel() for p in network.encoder.parameters()) for network in (plain, small)]
    assert count[1] < count[0] / 5


@pytest.mark.parametrize(("multiplier", "convolutions"), [(0.1, 1), (0.5, 1), (1.0, 2), (1.5, 3), (2.2, 4)])
def test_depth_multiplier(multiplier, convolutions):
    network = UNetPlusPlus(dimensions=2, widths=(8, 8), depth_multiplier=multiplier).build(1, 2)
    blocks = [module for module in network.modules() if isinstance(module, ConvBlock)]
    assert {len(block.convs) for block in blocks} == {convolutions}
    assert network(torch.zeros(1, 1, 4, 6))[-1].shape == (1, 2, 4, 6)


def test_width_multiplier():
    assert UNetPlusPlus(widths=(12, 20), width_multiplier=1.0).level_widths == (12, 20)
    assert UNetPlusPlus(widths=(32, 48, 64), width_multiplier=0.75).level_widths == (24, 32, 48)
    assert UNetPlusPlus(widths=(32, 64), width_multiplier=0.01).level_widths == (8, 8)
