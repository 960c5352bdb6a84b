"""The model package `NAME.volseg`: one file of plain data that holds a model and all it takes to use it.

It is a zip without compression: weights.safetensors, model.json (ModelInfo), README.md (the card), golden.safetensors (a
small case with the expected labels, optional), template.safetensors (a head in known space for the locate step, with its
notice, optional) and SHA256SUMS. No pickle, and no import path is taken from a file.
"""

from volseg.package.info import (
    FORMAT,
    ChannelInfo,
    CodeInfo,
    LabelInfo,
    ModelInfo,
    RegionInfo,
    ScoreInfo,
    TileInfo,
    TrainingInfo,
)
from volseg.package.package import GoldenCase, Package, load_package, write_package

__all__ = [
    "FORMAT",
    "ChannelInfo",
    "CodeInfo",
    "GoldenCase",
    "LabelInfo",
    "ModelInfo",
    "Package",
    "RegionInfo",
    "ScoreInfo",
    "TileInfo",
    "TrainingInfo",
    "load_package",
    "write_package",
]
