"""Record what segmentation_models.pytorch and torchvision compute, for test_peers.py and test_torchvision.py.

They are no dependencies of this project, so this script runs in an environment of its own, from the root of the checkout:

    python3.11 -m venv peers
    peers/bin/pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
    peers/bin/pip install --no-deps torchvision==0.28.0 timm==1.0.31 segmentation-models-pytorch==0.6.0
    peers/bin/pip install numpy pillow pyyaml safetensors tqdm 'huggingface_hub<1'
    peers/bin/python -m tests.models.record_peers  # or the names of some fixtures

No weights are downloaded or stored: see seeded.py.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch

from tests.models.seeded import packed, record, seeded_image, seeded_state

FIXTURES = Path(__file__).parent / "fixtures"
IMAGE = (1, 3, 64, 96)
FEATURE_SAMPLES, LOGIT_SAMPLES = 512, 4096
"""How many numbers are stored of a feature map, and of the logits."""

SWIN = ("features.1", "features.3", "features.5", "norm")
MOBILENET_SMALL = ("features.0", "features.1", "features.3", "features.8", "features.11", "features.12")
MOBILENET_LARGE = ("features.1", "features.3", "features.6", "features.12", "features.15", "features.16")
EFFICIENTNET = ("features.1", "features.2", "features.3", "features.5", "features.7", "features.8")
RESNET = ("relu", "layer1", "layer2", "layer3", "layer4")
NETWORKS = {
    "vgg16": tuple(f"features.{n}" for n in (3, 8, 15, 22, 29, 30)),
    "vgg16_bn": tuple(f"features.{n}" for n in (5, 12, 22, 32, 42, 43)),
    "resnet18": RESNET,
    "resnet50": RESNET,
    "resnext50_32x4d": RESNET,
    "mobilenet_v3_small": MOBILENET_SMALL,
    "mobilenet_v3_large": MOBILENET_LARGE,
    "efficientnet_b0": EFFICIENTNET,
    "efficientnet_b1": EFFICIENTNET,
    "swin_t": SWIN,
}
"""Networks of torchvision, and their modules whose outputs are recorded: the last of each extents."""
CLASSIFIERS = ("classifier.", "fc.", "head.")

UNETPP = {"vgg16": (512, 512, 256, 128, 128), "vgg16_bn": (256, 128, 128)}
"""Encoders of UnetPlusPlus and its decoder's channels: those of the encoder's levels, coarsest first."""


def main():
    """Write the fixtures named in the command, or all."""
    declared = compiled_operators()
    FIXTURES.mkdir(exist_ok=True)
    with torch.no_grad():
        fixtures = {f"torchvision_{name}": partial(features, name, nodes) for name, nodes in NETWORKS.items()}
        fixtures |= {f"smp_unetpp_{name}": partial(unetpp, name, widths) for name, widths in UNETPP.items()}
        for name in sys.argv[1:] or fixtures:
            np.savez_compressed(FIXTURES / f"{name}.npz", **fixtures[name]())
    del declared


def compiled_operators():
    """Declarations that torchvision's compiled part would make, valid as long as the result is kept.

    That part does not load beside a torch without CUDA. The networks do not use it, but torchvision's import does.
    """
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def features(name, nodes):
    """What a network of torchvision gives at some of its modules."""
    from torchvision import models

    network = models.get_model(name, weights=None).eval()
    shapes = fill(network, skipped=CLASSIFIERS)
    recorded = {"tensors": packed(shapes)}

    def keep(node):
        def hook(module, inputs, output):
            if nodes is SWIN:
                if node != "norm":
                    # Dense prediction takes normalised maps; the weights of these norms are trained with the decoder.
                    output = torch.nn.functional.layer_norm(output, output.shape[-1:])
                output = output.permute(0, 3, 1, 2)
            recorded.update(record(node, output, FEATURE_SAMPLES))

        return hook

    for node in nodes:
        network.get_submodule(node).register_forward_hook(keep(node))
    network(seeded_image(IMAGE))
    return recorded


def unetpp(name, channels):
    """The logits of UnetPlusPlus. Its head is a 3x3 convolution, of which all but the middle is made zero."""
    import segmentation_models_pytorch as smp

    network = smp.UnetPlusPlus(
        name,
        encoder_depth=len(channels),
        encoder_weights=None,
        decoder_channels=channels,
        in_channels=3,
        classes=2,
    ).eval()
    shapes = fill(network, skipped=())
    head = network.segmentation_head[0].weight
    head[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
    logits = network(seeded_image(IMAGE))
    return {"tensors": packed(shapes), **record("logits", logits, LOGIT_SAMPLES)}


def fill(network, *, skipped):
    """Seeded weights for all tensors but those whose names begin so; names and shapes of all but integers."""
    own = network.state_dict()
    shapes = {name: list(tensor.shape) for name, tensor in own.items()}
    floats = {name: shape for name, shape in shapes.items() if own[name].is_floating_point()}
    network.load_state_dict(
        own | seeded_state({name: shape for name, shape in floats.items() if not name.startswith(skipped)})
    )
    return shapes


if __name__ == "__main__":
    main()
