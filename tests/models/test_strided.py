"""Strided convolutions on the way down, and their transposes on the way up."""

import pytest
import torch
from torch.nn import functional

from volseg.errors import ConfigError
from volseg.models import MODELS
from volseg.models.blocks import BlockStyle, ConvBlock
from volseg.models.upsampling import upsampling

CONVOLVE = {2: functional.conv2d, 3: functional.conv3d}


def network(**fields):
    fields = {"name": "unet", "widths": (8, 16, 24), "deep_supervision": False} | fields
    return MODELS.build({"encoder": {"name": "plain", "downsample": "strided"}} | fields).build(2, 3)


@pytest.mark.parametrize("stride", [(2, 2), (3, 1), (2, 1, 4), (2, 2, 2)])
def test_a_deconvolution_is_the_transpose_of_a_strided_convolution(stride):
    dims = len(stride)
    up = upsampling("deconvolution", BlockStyle(dimensions=dims, norm="none"), 5, 3, stride)
    coarse = torch.randn(1, 5, *(3, 4, 2)[:dims])
    fine = torch.randn(1, 3, *(n * step for n, step in zip(coarse.shape[2:], stride, strict=True)))
    down = CONVOLVE[dims](fine, up.conv.weight, stride=stride, padding=tuple(step - 1 for step in stride))
    assert down.shape == coarse.shape
    torch.testing.assert_close((down * coarse).sum(), (fine * up.conv(coarse)).sum(), rtol=1e-4, atol=1e-4)
    assert torch.equal(up(coarse), functional.leaky_relu(up.conv(coarse), 0.01))


def test_a_deconvolution_keeps_the_variance_of_its_input():
    torch.manual_seed(0)
    up = upsampling("deconvolution", BlockStyle(negative_slope=0), 256, 32, (2, 1, 3))
    energy = up.conv(torch.randn(1, 256, 8, 8, 8).relu()).square().mean()
    assert 0.7 < energy < 1.4


@pytest.mark.parametrize("separable", [False, True])
def test_only_the_first_convolution_of_a_block_and_its_projection_have_the_stride(separable):
    block = ConvBlock(
        BlockStyle(residual=True, separable=separable, norm="none"), 2, 8, (3, 1, 3), stride=(2, 3, 1)
    )
    x = torch.randn(1, 2, 7, 7, 5)
    dense = ConvBlock(BlockStyle(residual=True, separable=separable, norm="none"), 2, 8, (3, 1, 3))
    dense.load_state_dict(block.state_dict())
    first, every = block.convs[0](x), (slice(None), slice(None), slice(None, None, 2), slice(None, None, 3))
    assert torch.allclose(first, dense.convs[0](x)[every], atol=1e-6)
    last = block.convs[1](block.activation(first))
    assert last.shape == first.shape == (1, 8, 4, 3, 5)
    assert torch.allclose(block(x), block.activation(last + dense.project(x)[every]), atol=1e-6)


def test_a_strided_encoder_takes_the_weights_of_one_with_max_pooling_and_the_same_extents():
    strides = ((2, 1, 2), (2, 2, 3))
    strided, pooled = network(strides=strides), network(strides=strides, encoder={"name": "plain"})
    strided.load_state_dict(pooled.state_dict())
    assert strided.extents == pooled.extents
    batch = torch.randn(1, 2, *strided.extents.fitting((5, 3, 7)))
    assert strided(batch).shape == pooled(batch).shape == (1, 3, *batch.shape[2:])
    assert not torch.allclose(strided(batch), pooled(batch))


@pytest.mark.parametrize("align", ["pad", "crop"])
def test_odd_extents_are_rounded_up_on_the_way_down(align):
    unet = network(align=align, upsample="deconvolution", block="residual")
    batch = torch.randn(1, 2, 9, 11, 13)
    assert unet.encoder.stages[1](unet.encoder.stages[0](batch)).shape[2:] == (5, 6, 7)
    logits = unet.train()(batch)
    assert logits.shape == (1, 3, 9, 11, 13)
    logits.mean().backward()
    assert all(p.grad is not None for p in unet.parameters())


def test_neither_goes_with_valid_convolutions():
    with pytest.raises(ConfigError, match="change encoder,"):
        network(padding="valid")
    with pytest.raises(ConfigError, match="change upsample,"):
        network(padding="valid", upsample="deconvolution", encoder={"name": "plain"})
