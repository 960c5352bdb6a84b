import numpy as np
import pytest
import torch
from torch import nn

from volseg.errors import ConfigError
from volseg.models.encoders import Encoder, EncoderStep
from volseg.models.unet import UNet
from volseg.models.unetpp import UNetPlusPlus

OF_2015 = UNet(
    dimensions=2,
    widths=(64, 128, 256, 512, 1024),
    norm="none",
    negative_slope=0,
    padding="valid",
    deep_supervision=False,
)


def test_the_network_of_2015():
    with torch.device("meta"):
        network = OF_2015.build(1, 2)
    assert sum(parameter.numel() for parameter in network.parameters()) == 31_030_658
    assert network(torch.empty(1, 1, 572, 572, device="meta")).shape == (1, 2, 388, 388)
    assert [module.inplace for module in network.modules() if isinstance(module, nn.LeakyReLU)] == [True] * 9


def test_it_has_one_node_and_one_skip_per_level():
    network = UNet(dimensions=2, widths=(4, 6, 8), norm="none").build(1, 3)
    assert [(place.name, place.skips) for place in network.places] == [("X1_1", (0,)), ("X0_2", (0,))]
    assert {name: head.weight.shape[:2] for name, head in network.heads.items()} == {"1": (3, 6), "2": (3, 4)}


def test_a_coarse_head_is_refused():
    with pytest.raises(ConfigError, match=r"last head 2; found head 1\. Use unetpp"):
        UNet(dimensions=2, widths=(4, 4, 4)).build(1, 2, head=1)
    UNet(dimensions=2, widths=(4, 4, 4)).build(1, 2, head=2)


def skipping(parameters):
    """Every head gives the encoder's feature of its level, which is the image max-pooled."""
    network = parameters.build(1, 1).train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for block in [*(stage.block for stage in network.encoder.stages), *network.nodes.values()]:
            for conv in block.convs:
                conv.weight[(0, 0, *(size // 2 for size in conv.kernel_size))] = 1
        for head in network.heads.values():
            head.weight[0, 0] = 1
    return network


@pytest.mark.parametrize("axis", [0, 1])
def test_the_logits_of_coarse_heads_lie_where_their_voxels_do(axis):
    network = skipping(UNet(dimensions=2, widths=(1, 1, 1, 1), norm="none"))
    extents = (24, 16)
    image = torch.arange(1.0, extents[axis] + 1).reshape((1, 1, -1, 1) if axis == 0 else (1, 1, 1, -1))
    heads = network(image.expand(1, 1, *extents))
    voxels = np.arange(extents[axis])
    for scale, head in zip((4, 2, 1), heads, strict=True):
        centres = np.arange(scale / 2 - 0.5, extents[axis], scale)
        expected = np.interp(voxels, centres, np.arange(scale, extents[axis] + 1, scale))
        for line in head[0, 0].movedim(axis, 1).detach().numpy():
            np.testing.assert_allclose(line, expected, rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
def test_heads_without_padding_lie_where_their_voxels_do(axis):
    parameters = UNet(
        dimensions=2,
        widths=(1, 1, 1),
        norm="none",
        padding="valid",
        kernel_sizes=((3, 5), (5, 3), (3, 3)),
        strides=((2, 3), (3, 2)),
    )
    network = skipping(parameters)
    extents = network.extents.fitting((60, 60))
    image = torch.arange(float(extents[axis])).reshape((1, 1, -1, 1) if axis == 0 else (1, 1, 1, -1))
    coarse, fine = network(image.expand(1, 1, *extents).contiguous())
    places = torch.arange(network.extents.output(extents)[axis]) + network.extents.margins[axis]
    lost, step = ((2, 2), (4, 3))[axis]
    assert coarse.shape == fine.shape == (1, 1, *network.extents.output(extents))
    for line in fine[0, 0].movedim(axis, 1):
        assert torch.equal(line.detach(), places.float())
    last_of_cell = (places - lost) // step * step + step - 1 + lost
    for line in coarse[0, 0].movedim(axis, 1):
        assert torch.equal(line.detach(), last_of_cell.float())


class HalfEncoder(EncoderStep):
    """Begins at half the image's extents along the first axis and a third along the second."""

    name: str = "half"

    @property
    def most_levels(self):
        return 3

    def build(self, in_channels, plan):
        strides, widths = ((2, 3), (2, 2), (2, 2))[: plan.levels], (5, 6, 7)[: plan.levels]
        inputs = (in_channels, *widths)
        stages = [
            nn.Conv2d(channels, width, stride, stride)
            for channels, width, stride in zip(inputs, widths, strides, strict=False)
        ]
        return Encoder(nn.ModuleList(stages), widths, strides)


@pytest.mark.parametrize("architecture", [UNet, UNetPlusPlus])
@pytest.mark.parametrize("upsample", ["transposed", "linear", "pixelshuffle", "nearest"])
@pytest.mark.parametrize("project_skips", [False, True])
def test_an_encoder_that_begins_coarser_gets_a_block_at_the_images_extents(
    architecture, upsample, project_skips
):
    parameters = architecture(
        dimensions=2, widths=(4, 6, 8), encoder=HalfEncoder(), upsample=upsample, project_skips=project_skips
    )
    network = parameters.build(1, 3)
    assert network.extents.divisors == (8, 12)
    assert network.full is not None
    heads = network.train()(torch.randn(2, 1, 16, 12))
    assert [tuple(head.shape) for head in heads] == [(2, 3, 16, 12)] * 2
    torch.stack([head.square().mean() for head in heads]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert network.heads["2"].in_channels == 4


def test_a_pruned_network_has_no_block_at_the_images_extents_and_keeps_its_head():
    parameters = UNetPlusPlus(dimensions=2, widths=(4, 6, 8), encoder=HalfEncoder())
    full, pruned = parameters.build(1, 2), parameters.build(1, 2, head=1)
    assert pruned.full is None
    pruned.load_state_dict({name: full.state_dict()[name] for name in pruned.state_dict()})
    image = torch.randn(1, 1, 16, 12)
    torch.testing.assert_close(pruned.eval()(image), full.train()(image)[0])


@pytest.mark.parametrize("align", ["pad", "crop"])
def test_an_encoder_that_begins_coarser_takes_odd_extents_when_aligned(align):
    parameters = UNet(dimensions=2, widths=(4, 6, 8), encoder=HalfEncoder(), align=align)
    assert parameters.build(1, 2).eval()(torch.randn(1, 1, 19, 27)).shape == (1, 2, 19, 27)
