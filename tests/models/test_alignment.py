import pytest
import torch
from torch import nn

from volseg.models.alignment import aligned, cropped, resized
from volseg.models.unet import UNet
from volseg.models.unetpp import UNetPlusPlus


def copying(architecture, *, from_below):
    """A network whose last head gives the image: over its finest skip, or over max pooling and repetition to the bottom."""
    network = architecture.build(1, 1).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for stage in network.encoder.stages:
            pass_on(stage.block, 0)
        for place in network.places:
            skipped = sum(architecture.widths[place.level] for _ in place.skips)
            pass_on(network.nodes[place.name], skipped if from_below else 0)
        for head in network.heads.values():
            head.weight[0, 0] = 1
    return network


def pass_on(block, source):
    for number, conv in enumerate(block.convs):
        centre = tuple(size // 2 for size in conv.kernel_size)
        conv.weight[(0, 0 if number else source, *centre)] = 1


def ramp(extents, axis):
    shape = [1] * (len(extents) + 2)
    shape[axis + 2] = extents[axis]
    values = torch.arange(1.0, extents[axis] + 1).reshape(shape)
    return values.expand(1, 1, *extents).contiguous()


FIELDS = {"dimensions": 2, "widths": (2, 3, 4), "norm": "none", "upsample": "nearest"}


@pytest.mark.parametrize("architecture", [UNet, UNetPlusPlus])
@pytest.mark.parametrize("how", ["pad", "crop"])
@pytest.mark.parametrize("extents", [(13, 10), (11, 15), (8, 9), (5, 4)])
def test_odd_extents_do_not_move_a_voxel(architecture, how, extents):
    network = copying(architecture(**FIELDS, align=how), from_below=False)
    image = torch.rand(1, 1, *extents)
    copied = network(image)
    kept = extents if how == "pad" else tuple(extent // 4 * 4 for extent in extents)
    assert copied.shape == image.shape
    assert torch.equal(cropped(copied, kept, centred=False), cropped(image, kept, centred=False))
    assert torch.equal(copied, resized(cropped(image, kept, centred=False), extents))


@pytest.mark.parametrize("architecture", [UNet, UNetPlusPlus])
@pytest.mark.parametrize("how", ["pad", "crop"])
@pytest.mark.parametrize("axis", [0, 1])
def test_what_comes_from_the_bottom_lands_where_it_was_taken(architecture, how, axis):
    extents = (15, 11)
    network = copying(architecture(**FIELDS, align=how), from_below=True)
    copied = network(ramp(extents, axis))
    voxels = torch.arange(extents[axis] // 4 * 4)
    profile = copied[0, 0].select(1 - axis, 0)
    assert torch.equal(profile[: len(voxels)], (voxels // 4 * 4 + 4).float())
    assert torch.equal(profile[len(voxels) :], profile[len(voxels) - 1].expand(extents[axis] - len(voxels)))


def test_each_way_of_alignment():
    skip, up = torch.rand(1, 2, 7, 5, 9), torch.rand(1, 3, 6, 4, 8)
    assert [t.shape[2:] for t in aligned([skip], up, "pad", centred=False)] == [(7, 5, 9)] * 2
    first, second = aligned([skip], up, "crop", centred=False)
    assert torch.equal(first, skip[:, :, :6, :4, :8])
    assert torch.equal(second, up)
    wide = torch.rand(1, 2, 10, 8, 8)
    assert torch.equal(aligned([wide], up, "crop", centred=True)[0], wide[:, :, 2:8, 2:6])
    assert all(a is b for a, b in zip(aligned([skip], up, "exact", centred=False), (skip, up), strict=True))


def test_a_map_is_cut_and_its_last_voxels_are_repeated():
    x = torch.arange(24.0).reshape(1, 1, 2, 3, 4)
    bigger = resized(x, (2, 5, 3))
    assert bigger.shape == (1, 1, 2, 5, 3)
    assert torch.equal(bigger[..., :3, :], x[..., :3])
    assert torch.equal(bigger[:, :, :, 4], x[:, :, :, 2, :3])
    assert nn.functional.mse_loss(resized(x, (2, 3, 4)), x) == 0
