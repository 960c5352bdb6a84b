"""Whole networks against others': the same logits from the same weights.

MONAI's networks run here; those of segmentation_models.pytorch were run by record_peers.py. Weights are seeded numbers, so
that no norm and no bias is near the identity.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.models.seeded import assert_recorded, seeded_image, seeded_state, unpacked
from volseg.models import MODELS
from volseg.models.blocks import BlockStyle, ConvBlock

FIXTURES = Path(__file__).parent / "fixtures"
EXTENTS = {2: (16, 48), 3: (16, 32, 48)}


def filled(network):
    """Seeded weights for a network, in evaluation mode."""
    network.load_state_dict(seeded_state({name: list(t.shape) for name, t in network.state_dict().items()}))
    return network.eval()


@pytest.mark.parametrize("deep_supervision", [True, False])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_unetpp_is_that_of_monai(dimensions, deep_supervision):
    """MONAI halves channels while up-sampling except at full resolution: equal for widths w, w, 2w, 4w, 8w."""
    networks = pytest.importorskip("monai.networks.nets")
    theirs = networks.BasicUNetPlusPlus(
        spatial_dims=dimensions,
        in_channels=2,
        out_channels=3,
        features=(8, 8, 16, 32, 64, 8),
        deep_supervision=deep_supervision,
    )
    theirs = filled(theirs)
    ours = MODELS.build(
        {
            "name": "unetpp",
            "dimensions": dimensions,
            "widths": (8, 8, 16, 32, 64),
            "negative_slope": 0.1,
            "deep_supervision": deep_supervision,
        }
    ).build(2, 3)
    # MONAI builds the heads of all columns even if it does not use them.
    unused = set() if deep_supervision else {"final_conv_0_1", "final_conv_0_2", "final_conv_0_3"}
    ours.load_state_dict(
        {
            monai_unetpp_name(name): value
            for name, value in theirs.state_dict().items()
            if name.split(".")[0] not in unused
        }
    )
    batch = seeded_image((2, 2, *EXTENTS[dimensions]))
    with torch.no_grad():
        # Instance norm is the same in training; all heads are only given there.
        heads, references = ours.train()(batch), theirs(batch)
        last = ours.eval()(batch)
    heads = heads if deep_supervision else [heads]
    assert len(heads) == (4 if deep_supervision else 1)
    for head, reference in zip(heads, references, strict=True):
        assert reference.std() > 0.1
        torch.testing.assert_close(head, reference, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(last, references[-1], rtol=1e-5, atol=1e-5)


def monai_unetpp_name(name):
    """conv_1_1.convs.conv_0.adn.N.weight -> nodes.X1_1.norms.0.weight, and so on."""
    block, *middle, kind = name.split(".")
    i, j = block.split("_")[-2:]
    if block.startswith("final"):
        return f"heads.{j}.{kind}"
    if "upsample" in middle:
        return f"ups.X{i}_{j}.conv.{kind}"
    number = next(int(part[-1]) for part in middle if part.startswith("conv_"))
    node = f"nodes.X{i}_{j}" if int(j) else f"encoder.stages.{i}.block"
    return f"{node}.{'norms' if 'adn' in middle else 'convs'}.{number}.{kind}"


@pytest.mark.parametrize("dimensions", [2, 3])
def test_unet_with_attention_gates_is_that_of_monai(dimensions):
    """MONAI's decoder has a block of another style than its encoder: here it is put in the place of ours.

    It has one convolution, instance norm without weights, and a PReLU with one slope. MONAI's gates have batch norms, which
    are part of the 1x1 convolutions before them once their statistics are fixed.
    """
    networks = pytest.importorskip("monai.networks.nets")
    widths = (8, 16, 24, 40)
    theirs = filled(networks.AttentionUnet(dimensions, 2, 3, channels=widths, strides=(2, 2, 2)))
    for name, parameter in theirs.named_parameters():
        if name.endswith("adn.A.weight"):
            parameter.detach().mul_(0.25)
    ours = MODELS.build(
        {
            "name": "unet",
            "dimensions": dimensions,
            "widths": widths,
            "encoder": {"name": "plain", "downsample": "strided"},
            "upsample": "deconvolution",
            "norm": "batch",
            "negative_slope": 0,
            "attention_gates": True,
            "deep_supervision": False,
        }
    ).build(2, 3)
    state, slopes = monai_attention_state(theirs.state_dict(), depth=len(widths) - 1)
    for name, slope in slopes.items():
        style = BlockStyle(dimensions=dimensions, norm="instance", negative_slope=slope, convolutions=1)
        width = widths[int(name[1])]
        ours.nodes[name] = ConvBlock(style, 2 * width, width, (3,) * dimensions)
    ours.load_state_dict(state)
    batch = seeded_image((2, 2, *EXTENTS[dimensions]))
    with torch.no_grad():
        reference = theirs(batch)
        assert reference.std() > 0.1
        torch.testing.assert_close(ours.eval()(batch), reference, rtol=1e-5, atol=1e-5)


def monai_attention_state(theirs, *, depth):
    """A state dict for ours, and the slope of each node's activation."""
    ours, slopes = {}, {}

    def block(source, target):
        for number in (0, 1):
            convolution(f"{source}.conv.{number}", f"{target}.convs.{number}", f"{target}.norms.{number}")

    def convolution(source, conv, norm):
        for kind in ("weight", "bias"):
            ours[f"{conv}.{kind}"] = theirs[f"{source}.conv.{kind}"]
        for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            ours[f"{norm}.{kind}"] = theirs[f"{source}.adn.N.{kind}"]

    block("model.0", "encoder.stages.0.block")
    layer = "model.1"
    for level in range(depth):
        node = f"X{level}_{depth - level}"
        encoder = f"{layer}.submodule" if level == depth - 1 else f"{layer}.submodule.0"
        block(encoder, f"encoder.stages.{level + 1}.block")
        convolution(f"{layer}.upconv.up", f"ups.{node}.conv", f"ups.{node}.norm")
        gate = {part: folded(theirs, f"{layer}.attention.{part}") for part in ("W_g", "W_x", "psi")}
        ours[f"gates.{node}.skip.weight"] = gate["W_x"][0]
        ours[f"gates.{node}.gating.weight"] = gate["W_g"][0]
        # Both are summed, so that one bias is enough.
        ours[f"gates.{node}.gating.bias"] = gate["W_g"][1] + gate["W_x"][1]
        ours[f"gates.{node}.psi.weight"], ours[f"gates.{node}.psi.bias"] = gate["psi"]
        weight = theirs[f"{layer}.merge.conv.weight"]
        ours[f"nodes.{node}.convs.0.weight"] = weight
        ours[f"nodes.{node}.convs.0.bias"] = theirs[f"{layer}.merge.conv.bias"]
        ours[f"nodes.{node}.norms.0.weight"] = torch.ones(len(weight))
        ours[f"nodes.{node}.norms.0.bias"] = torch.zeros(len(weight))
        slopes[node] = float(theirs[f"{layer}.merge.adn.A.weight"])
        layer = f"{layer}.submodule.1"
    for kind in ("weight", "bias"):
        ours[f"heads.{depth}.{kind}"] = theirs[f"model.2.conv.{kind}"]
    return ours, slopes


def folded(state, name):
    """Weight and bias of a convolution with the batch norm after it."""
    scale = state[f"{name}.1.weight"] / (state[f"{name}.1.running_var"] + 1e-5).sqrt()
    weight = state[f"{name}.0.conv.weight"]
    bias = (state[f"{name}.0.conv.bias"] - state[f"{name}.1.running_mean"]) * scale + state[f"{name}.1.bias"]
    return weight * scale.reshape(-1, *(1,) * (weight.ndim - 1)), bias


@pytest.mark.parametrize(
    ("encoder", "widths"),
    [
        ({"name": "vgg16", "norm": "batch"}, (128, 256, 512)),
        pytest.param({"name": "vgg16"}, (128, 256, 512, 512, 512), marks=pytest.mark.slow),
    ],
)
def test_unetpp_with_a_vgg16_encoder_is_that_of_segmentation_models_pytorch(encoder, widths):
    """Its finest level has half the image's extents, and one more block without a skip the image's, as in ours."""
    norm = "vgg16_bn" if "norm" in encoder else "vgg16"
    stored = np.load(FIXTURES / f"smp_unetpp_{norm}.npz")
    ours = MODELS.build(
        {
            "name": "unetpp",
            "dimensions": 2,
            "encoder": encoder | {"first_level": 1},
            "widths": widths,
            "upsample": "nearest",
            "norm": "batch",
            "negative_slope": 0,
            "deep_supervision": False,
        }
    ).build(3, 2)
    theirs = seeded_state(unpacked(stored["tensors"]))
    ours.load_state_dict(smp_state(theirs, ours, widths))
    with torch.no_grad():
        logits = ours.eval()(seeded_image((1, 3, 64, 96)))
    assert_recorded(stored, "logits", logits, rtol=1e-5, atol=1e-5)


def smp_state(theirs, ours, widths):
    """A state dict for ours.

    Its nodes concatenate [up, newest skip, ..., oldest], ours the reverse; its convolutions before a norm have no bias; its
    head is 3x3, of which only the middle was not zero. The block of VGG's `decoder.center` is never used by it.
    """
    depth = len(widths) - 1
    prefix = "encoder."
    encoder = {name.removeprefix(prefix): t for name, t in theirs.items() if name.startswith(prefix)}
    built = ours.encoder.state_dict()
    converted = ours.encoder.convert_torchvision(encoder).items()
    state = {f"encoder.{name}": tensor for name, tensor in converted if name in built}
    for block in sorted({name.split(".")[2] for name in theirs if name.startswith("decoder.blocks.")}):
        first, last = (int(number) for number in block.split("_")[1:])
        level, column = depth - 1 - last, last - first + 1
        node = f"nodes.X{level}_{column}" if level >= 0 else "full.1"
        for number in (0, 1):
            conv, norm = (f"decoder.blocks.{block}.conv{number + 1}.{part}" for part in (0, 1))
            weight = theirs[f"{conv}.weight"]
            if number == 0 and level >= 0:
                below = widths[level + 1]
                up, *skips = weight.split([below, *(widths[level],) * column], dim=1)
                weight = torch.cat([*reversed(skips), up], dim=1)
            state[f"{node}.convs.{number}.weight"] = weight
            state[f"{node}.convs.{number}.bias"] = torch.zeros(len(weight))
            for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                state[f"{node}.norms.{number}.{kind}"] = theirs[f"{norm}.{kind}"]
    state[f"heads.{depth}.weight"] = theirs["segmentation_head.0.weight"][:, :, 1:2, 1:2]
    state[f"heads.{depth}.bias"] = theirs["segmentation_head.0.bias"]
    return state
