"""Parameters, operations and memory against numbers from papers and by hand."""

from math import prod

import pytest
import torch

from volseg.errors import ConfigError, InputError
from volseg.models import MODELS
from volseg.models.blocks import BlockStyle
from volseg.models.catalogue import variant
from volseg.models.cost import cost
from volseg.models.encoders import ENCODERS, LevelPlan


def of_variant(name, dimensions, extents, **options):
    return cost(variant(name).architecture(dimensions), extents, **options)


def test_parameters_are_those_of_the_papers():
    """Ronneberger et al. 2015, figure 1, counted by hand; Zhou et al. 2018 among its results (3 channels, 1 label)."""
    levels = [(1, 64), (64, 128), (128, 256), (256, 512), (512, 1024)]
    encoder = sum(9 * (a * b + b * b) + 2 * b for a, b in levels)
    decoder = sum(4 * b * a + a + 9 * (b * a + a * a) + 2 * a for a, b in levels[1:])
    by_hand = encoder + decoder + 64 * 2 + 2
    assert by_hand == 31_030_658
    found = of_variant("unet-2015", 2, (572, 572), label_count=2)
    assert (found.extents, found.parameters) == ((572, 572), by_hand)
    nested = of_variant("unetpp-2018", 2, (96, 96), in_channels=3, label_count=1)
    assert round(nested.parameters / 1e6, 2) == 9.04


@pytest.mark.parametrize(
    ("fields", "published", "classifier"),
    [
        ({"name": "vgg16"}, 138_357_544, 512 * 49 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000),
        ({"name": "resnet", "layers": 18}, 11_689_512, 512 * 1000 + 1000),
        ({"name": "resnet", "layers": 34}, 21_797_672, 512 * 1000 + 1000),
        ({"name": "resnet", "layers": 50}, 25_557_032, 2048 * 1000 + 1000),
        ({"name": "resnext", "layers": 50}, 25_028_904, 2048 * 1000 + 1000),
        ({"name": "efficientnet"}, 5_288_548, 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000),
        ({"name": "mobilenetv3", "size": "large"}, 5_483_032, 960 * 1280 + 1280 + 1280 * 1000 + 1000),
        ({"name": "mobilenetv3", "size": "small"}, 2_542_856, 576 * 1024 + 1024 + 1024 * 1000 + 1000),
    ],
)
def test_encoders_have_the_parameters_of_torchvision_less_the_classifier(fields, published, classifier):
    """The totals are those that torchvision states for its ImageNet weights ("num_params")."""
    step = ENCODERS.build(fields)
    plan = LevelPlan(
        dimensions=2,
        levels=step.most_levels,
        widths=(8,) * step.most_levels,
        kernel_sizes=((3, 3),) * step.most_levels,
        strides=((2, 2),) * (step.most_levels - 1),
        style=BlockStyle(dimensions=2),
    )
    with torch.device("meta"):
        encoder = step.build(3, plan)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == published - classifier


@pytest.mark.parametrize("extents", [(8, 12), (6, 10, 4)])
def test_operations_of_a_small_network_by_hand(extents):
    """Widths 3 and 5: two convolutions at the finest level, two at the coarse one, up, two more, and the head."""
    dimensions = len(extents)
    architecture = MODELS.build({"name": "unet", "dimensions": dimensions, "widths": [3, 5], "norm": "none"})
    kernel, cells, voxels = 3**dimensions, 2**dimensions, prod(extents)
    fine = kernel * (2 * 3 + 3 * 3 + 6 * 3 + 3 * 3) + 3 * 4
    coarse = kernel * (3 * 5 + 5 * 5) + cells * 5 * 3
    found = cost(architecture, extents, in_channels=2, label_count=4)
    assert found.flops == 2 * (fine * voxels + coarse * voxels // cells)


def test_memory_of_a_small_network_by_hand():
    """In the second convolution of node X[0,1] live the image, X[0,0], X[1,0], the map from below, all that is joined, and
    what goes into and comes out of the convolution.
    """
    architecture = MODELS.build({"name": "unet", "dimensions": 2, "widths": [8, 8], "norm": "none"})
    found = cost(architecture, (16, 24), in_channels=1, label_count=2)
    numbers = 16 * 24 * (1 + 8 + 8 + 16 + 8 + 8) + 8 * 12 * 8
    assert found.inference_bytes == 4 * (found.parameters + numbers)
    assert found.training_bytes > found.inference_bytes + 4 * found.parameters


def test_a_batch_of_activations_grows_with_the_voxels_and_weights_do_not():
    small, large = (of_variant("unet", 3, (extent, 32, 32)) for extent in (32, 64))
    assert large.parameters == small.parameters
    assert large.flops == 2 * small.flops
    weights = 4 * small.parameters
    assert large.inference_bytes - weights == pytest.approx(2 * (small.inference_bytes - weights), rel=0.05)


def test_a_pruned_network_costs_less():
    costs = [of_variant("unetpp", 2, (64, 48), head=head) for head in (1, 2, 3, 4)]
    assert costs == [of_variant(f"unetpp-l{head}", 2, (64, 48)) for head in (1, 2, 3, 4)]
    for name in ("parameters", "flops", "inference_bytes", "training_bytes"):
        values = [getattr(found, name) for found in costs]
        assert values == sorted(set(values)), name


def test_extents_are_enlarged_to_what_suits():
    assert of_variant("unet", 3, (20, 33, 48)).extents == (32, 48, 48)
    assert of_variant("unet-2015", 2, (256, 570)).extents == (268, 572)


def test_what_has_no_cost():
    with pytest.raises(InputError, match="2D"):
        cost(variant("unet").architecture(2), (32, 32, 32))
    with pytest.raises(ConfigError, match="no head 9"):
        cost(variant("unetpp").architecture(2), (32, 32), head=9)
