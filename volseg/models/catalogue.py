"""The variants of the U-Net family by name: each a small step from a base, written as it is in a configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from volseg.errors import ConfigError
from volseg.models import MODELS, Architecture


@dataclass(frozen=True)
class Variant:
    """A network that has a name."""

    name: str
    paper: str
    settings: Mapping[str, Any]
    """What `architecture` holds in a configuration, its dimensions left out."""
    note: str
    """What it is, in one line."""
    dimensions: tuple[int, ...] = (2, 3)
    """Those it exists in."""

    def fields(self, dimensions: int) -> dict[str, Any]:
        """All of `architecture`, as in YAML."""
        name, *others = self.settings.items()
        return dict([name, ("dimensions", dimensions), *others])

    def architecture(self, dimensions: int) -> Architecture:
        """The parameters of the network."""
        return MODELS.build(self.fields(dimensions))


def variant(name: str) -> Variant:
    """The variant of a name.

    Raises:
        ConfigError: there is none; the message suggests the nearest.
    """
    known = {variant.name: variant for variant in CATALOGUE}
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ConfigError(f"no variant is called '{name}'.{hint} `volseg models --architectures` lists them.")


def _unet(**settings: Any) -> dict[str, Any]:
    return {"name": "unet", **settings}


def _nested(**settings: Any) -> dict[str, Any]:
    return {"name": "unetpp", **settings}


def _with(name: str, **fields: Any) -> dict[str, Any]:
    """A U-Net++ with this encoder."""
    return _nested(encoder={"name": name, **fields})


_RONNEBERGER = "Ronneberger et al. 2015"
_CICEK = "Cicek et al. 2016"
_ISENSEE = "Isensee et al. 2021"
_OKTAY = "Oktay et al. 2018"
_ZHOU_2018 = "Zhou et al. 2018"
_ZHOU_2020 = "Zhou et al. 2020"
_HE = "He et al. 2016"
_ODENA = "Odena et al. 2016"
_HOWARD_2019 = "Howard et al. 2019"

_SINGLE = (
    Variant(
        "unet-2015",
        _RONNEBERGER,
        _unet(
            widths=[64, 128, 256, 512, 1024],
            norm="none",
            negative_slope=0,
            padding="valid",
            deep_supervision=False,
        ),
        "valid convolutions, skips cropped: 572 pixels in, 388 out",
        dimensions=(2,),
    ),
    # In the paper the first convolution of a level of the encoder has half the maps of the second, and up-convolutions keep
    # theirs: 19,069,955 parameters with three channels and three labels, here 22,403,011.
    Variant(
        "unet-2016",
        _CICEK,
        _unet(
            widths=[64, 128, 256, 512],
            norm="batch",
            negative_slope=0,
            padding="valid",
            deep_supervision=False,
        ),
        "the 3D U-Net but for its widths (22.4, not 19.1 M parameters): 132 x 132 x 116 voxels in, 44 x 44 x 28 out",
        dimensions=(3,),
    ),
    Variant("unet", _ISENSEE, _unet(), "padded convolutions, instance norm, a head on every decoder level"),
    Variant("unet-one-head", _RONNEBERGER, _unet(deep_supervision=False), "without deep supervision"),
    Variant("unet-residual", "Zhang et al. 2018", _unet(block="residual"), "residual blocks"),
    Variant("attention-unet", _OKTAY, _unet(attention_gates=True), "attention gates on the skips"),
)

_HEADS = (
    Variant("unetpp", _ZHOU_2020, _nested(), "dense nested skips, a head after every column"),
    Variant(
        "unetpp-2018",
        _ZHOU_2018,
        _nested(norm="none", negative_slope=0),
        "without norms, 9.04 M parameters as in the paper",
        dimensions=(2,),
    ),
    Variant("unetpp-l1", _ZHOU_2018, _nested(widths=[32, 64]), "what head 1 of unetpp needs"),
    Variant("unetpp-l2", _ZHOU_2018, _nested(widths=[32, 64, 128]), "what head 2 of unetpp needs"),
    Variant("unetpp-l3", _ZHOU_2018, _nested(widths=[32, 64, 128, 256]), "what head 3 of unetpp needs"),
    Variant("unetpp-l4", _ZHOU_2018, _nested(widths=[32, 64, 128, 256, 512]), "all of unetpp"),
    Variant("unetpp-one-head", _ZHOU_2020, _nested(deep_supervision=False), "without deep supervision"),
    Variant("unetpp-average", _ZHOU_2018, _nested(output="average"), "the mean of the logits of all heads"),
    Variant("unetpp-fuse", _ZHOU_2018, _nested(output="fuse"), "a 1x1 convolution across the heads' logits"),
)

_BLOCKS = (
    Variant("unetpp-residual", _HE, _nested(block="residual"), "residual blocks"),
    Variant("unetpp-separable", "Chollet 2017", _nested(separable=True), "depthwise-separable convolutions"),
    Variant("unetpp-half-width", "Howard et al. 2017", _nested(width_multiplier=0.5), "half the widths"),
    Variant(
        "unetpp-deep", "Tan & Le 2019", _nested(depth_multiplier=1.5), "three convolutions in every block"
    ),
    Variant(
        "unetpp-anisotropic",
        _ISENSEE,
        _nested(
            kernel_sizes=[[3, 3, 1], [3, 3, 1], [3, 3, 3], [3, 3, 3], [3, 3, 3]],
            strides=[[2, 2, 1], [2, 2, 1], [2, 2, 2], [2, 2, 2]],
        ),
        "for thick slices: kernels and strides of 1 along K at the fine levels",
        dimensions=(3,),
    ),
    Variant("unetpp-batch-norm", "Ioffe & Szegedy 2015", _nested(norm="batch"), "batch norm"),
    Variant("unetpp-group-norm", "Wu & He 2018", _nested(norm="group"), "group norm, 8 groups"),
    Variant("unetpp-layer-norm", "Ba et al. 2016", _nested(norm="layer"), "layer norm"),
    Variant("unetpp-no-norm", _ZHOU_2018, _nested(norm="none"), "without norms"),
)

_DECODERS = (
    Variant(
        "unetpp-linear", _ODENA, _nested(upsample="linear"), "linear interpolation, then a 1x1 convolution"
    ),
    Variant("unetpp-nearest", _ODENA, _nested(upsample="nearest"), "voxels repeated"),
    Variant(
        "unetpp-deconvolution",
        "Noh et al. 2015",
        _nested(upsample="deconvolution"),
        "overlapping transposed convolutions, norm and activation",
    ),
    Variant("unetpp-pixelshuffle", "Shi et al. 2016", _nested(upsample="pixelshuffle"), "channels to voxels"),
    Variant("unetpp-pad", _ZHOU_2020, _nested(align="pad"), "any extents: what comes from below is padded"),
    Variant("unetpp-crop", _RONNEBERGER, _nested(align="crop"), "any extents: the skips are cropped"),
    Variant(
        "unetpp-valid",
        _RONNEBERGER,
        _nested(widths=[32, 64, 128, 256], norm="batch", padding="valid"),
        "convolutions without padding, batch norm",
    ),
    Variant("unetpp-projected", _HE, _nested(project_skips=True), "1x1 convolutions on the skips"),
)

_ATTENTION = (
    Variant("unetpp-se", "Hu et al. 2018", _nested(attention="se"), "squeeze and excitation of channels"),
    Variant("unetpp-scse", "Roy et al. 2019", _nested(attention="scse"), "and of voxels at the same time"),
    Variant("unetpp-spatial", "Woo et al. 2018", _nested(attention="spatial"), "spatial attention"),
    Variant("attention-unetpp", "Li et al. 2020", _nested(attention_gates=True), "gates on the dense skips"),
    Variant(
        "unetpp-transformer",
        "Vaswani et al. 2017",
        _nested(self_attention_levels=[4]),
        "self-attention in the bottleneck",
    ),
    Variant(
        "unetpp-transformer-skip",
        "Vaswani et al. 2017",
        _nested(self_attention_levels=[3, 4]),
        "and on the coarsest skip",
    ),
)

_ENCODERS = (
    Variant(
        "unetpp-strided",
        "Springenberg et al. 2015",
        _with("plain", downsample="strided"),
        "strided convolutions instead of max pooling",
    ),
    Variant("unetpp-vgg16", "Simonyan & Zisserman 2015", _with("vgg16"), "VGG16 as the encoder"),
    Variant("unetpp-resnet18", _HE, _with("resnet", layers=18), "ResNet-18 as the encoder"),
    Variant("unetpp-resnet34", _HE, _with("resnet", layers=34), "ResNet-34 as the encoder"),
    Variant("unetpp-resnet50", _HE, _with("resnet", layers=50), "ResNet-50 as the encoder"),
    Variant("unetpp-resnext50", "Xie et al. 2017", _with("resnext", layers=50), "ResNeXt-50 32x4d"),
    Variant(
        "unetpp-mobilenetv3-small", _HOWARD_2019, _with("mobilenetv3", size="small"), "MobileNetV3 small"
    ),
    Variant(
        "unetpp-mobilenetv3-large", _HOWARD_2019, _with("mobilenetv3", size="large"), "MobileNetV3 large"
    ),
    Variant(
        "unetpp-efficientnet-b0", "Tan & Le 2019", _with("efficientnet", version="b0"), "EfficientNet-B0"
    ),
    Variant(
        "unetpp-swin",
        "Liu et al. 2021",
        _nested(widths=[32, 64, 128, 256], encoder={"name": "swin"}),
        "the four stages of Swin-T as the encoder",
    ),
    Variant(
        "unetpp-swin-fine",
        "Hatamizadeh et al. 2022",
        _nested(
            widths=[32, 64, 128, 256],
            encoder={"name": "swin", "embed": 48, "depths": [2, 2, 2, 2], "patch": 2},
        ),
        "the stages of Swin UNETR: patches of 2 voxels, half the width",
    ),
)

CATALOGUE: tuple[Variant, ...] = (*_SINGLE, *_HEADS, *_BLOCKS, *_DECODERS, *_ATTENTION, *_ENCODERS)
