from math import prod
from typing import get_args

import pytest
import torch
from torch import nn
from torch.nn import functional

from volseg.models.blocks import BlockStyle
from volseg.models.upsampling import UpsampleName, upsampling

FLAT, SOLID = BlockStyle(dimensions=2), BlockStyle(dimensions=3)


def randomised(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


@pytest.mark.parametrize("name", get_args(UpsampleName))
@pytest.mark.parametrize("stride", [(2, 2), (3, 1), (2, 1, 3), (2, 2, 2), (1, 1, 2)])
def test_extents_are_multiplied_by_the_stride(name, stride):
    up = upsampling(name, FLAT if len(stride) == 2 else SOLID, 5, 4, stride)
    extents = (3, 4, 2)[: len(stride)]
    out = up(torch.randn(2, 5, *extents))
    expected = tuple(extent * step for extent, step in zip(extents, stride, strict=True))
    assert out.shape == (2, up.out_channels, *expected)
    assert up.out_channels == (5 if name == "nearest" else 4)


@pytest.mark.parametrize("factor", [2, 3])
def test_pixelshuffle_in_2d_is_that_of_torch(factor):
    up = randomised(upsampling("pixelshuffle", FLAT, 3, 2, (factor, factor)))
    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(up(x), nn.PixelShuffle(factor)(up.conv(x)))


@pytest.mark.parametrize("stride", [(2, 3, 1), (1, 2, 2), (3, 1, 2)])
def test_pixelshuffle_in_3d_is_a_loop_over_the_voxels(stride):
    up = randomised(upsampling("pixelshuffle", SOLID, 2, 2, stride))
    x = torch.randn(1, 2, 2, 3, 4)
    channels, out = up.conv(x), up(x)
    for c in range(2):
        for place in torch.cartesian_prod(*[torch.arange(n) for n in out.shape[2:]]).tolist():
            cell = [voxel // step for voxel, step in zip(place, stride, strict=True)]
            i, j, k = (voxel % step for voxel, step in zip(place, stride, strict=True))
            channel = c * prod(stride) + (i * stride[1] + j) * stride[2] + k
            assert out[(0, c, *place)] == channels[(0, channel, *cell)]


def test_pixelshuffle_starts_as_repetition():
    up = upsampling("pixelshuffle", SOLID, 3, 2, (2, 1, 3))
    out = up(torch.randn(1, 3, 2, 3, 4))
    assert torch.equal(out, functional.interpolate(out[:, :, ::2, :, ::3], scale_factor=[2.0, 1.0, 3.0]))


@pytest.mark.parametrize("stride", [(2, 2), (1, 3), (2, 1, 2)])
def test_linear_is_interpolation_then_a_1x1_convolution(stride):
    up = randomised(upsampling("linear", FLAT if len(stride) == 2 else SOLID, 3, 2, stride))
    x = torch.randn(2, 3, *(4, 5, 3)[: len(stride)])
    mode = "bilinear" if len(stride) == 2 else "trilinear"
    finer = [extent * step for extent, step in zip(x.shape[2:], stride, strict=True)]
    expected = up.conv(functional.interpolate(x, size=finer, mode=mode, align_corners=False))
    torch.testing.assert_close(up(x), expected, rtol=1e-5, atol=1e-5)


def test_nearest_repeats_and_has_nothing_to_learn():
    up = upsampling("nearest", FLAT, 3, 2, (2, 3))
    x = torch.randn(1, 3, 2, 2)
    assert torch.equal(up(x), x.repeat_interleave(2, dim=2).repeat_interleave(3, dim=3))
    assert not list(up.parameters())


@pytest.mark.parametrize("name", ["transposed", "pixelshuffle", "linear"])
def test_the_second_moment_is_kept_at_the_start(name):
    torch.manual_seed(4)
    up = upsampling(name, FLAT, 256, 256, (2, 2))
    x = torch.rand(1, 256, 1, 1)  # one voxel: interpolation changes nothing
    assert float((up(x).square().mean() / x.square().mean()).detach()) == pytest.approx(1, abs=0.35)
