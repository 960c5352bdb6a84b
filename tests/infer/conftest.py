"""Networks whose output is known, in packages that say what they are."""

from typing import Literal

import numpy as np
import pytest
import torch

from volseg.models import MODELS, Architecture
from volseg.models.extents import ExtentRule
from volseg.package import ChannelInfo, LabelInfo, ModelInfo, Package, TileInfo, TrainingInfo


class Thresholds(torch.nn.Module):
    """Pointwise: the logit of label l is scale[l] * x + offset[l], x the first channel."""

    def __init__(self, dimensions, label_count, divisors):
        super().__init__()
        self.extents = ExtentRule.multiples_of(divisors)
        self.dimensions = dimensions
        self.scale = torch.nn.Parameter(torch.zeros(label_count))
        self.offset = torch.nn.Parameter(torch.zeros(label_count))

    def forward(self, batch):
        assert batch.ndim == self.dimensions + 2
        assert not self.training
        shape = (1, -1, *([1] * self.dimensions))
        return batch[:, :1] * self.scale.reshape(shape) + self.offset.reshape(shape)


class Neighbour(Thresholds):
    """As Thresholds, on the next voxel along the first axis (rolled): not the same after a flip."""

    def forward(self, batch):
        return super().forward(batch.roll(-1, dims=2))


@MODELS.add
class ThresholdsArchitecture(Architecture):
    name: Literal["test_thresholds"] = "test_thresholds"
    rolled: bool = False
    divisors: tuple[int, ...] = (1, 1, 1)

    def build(self, in_channels, label_count, *, head=None):
        module = Neighbour if self.rolled else Thresholds
        return module(self.dimensions, label_count, self.divisors[: self.dimensions])


@pytest.fixture(scope="session")
def make_info():
    """A ModelInfo with two labels, values 2 and 7; any field can be replaced."""

    def make(**fields):
        defaults = {
            "name": "tiny",
            "version": "1",
            "title": "Bright things",
            "description": "Finds what is bright.",
            "architecture": {"name": "test_thresholds"},
            "channels": [ChannelInfo(name="T1", modality="MR")],
            "preprocess": [],
            "tile": TileInfo(tile_voxels=(4, 5, 3), overlap=0.5),
            "labels": [
                LabelInfo(value=7, name="brightest", colour=(0, 255, 0)),
                LabelInfo(value=2, name="bright", colour=(255, 0, 0)),
            ],
            "training": TrainingInfo(
                dataset="none",
                dataset_licence="none",
                case_count=0,
                case_ids_sha256="0" * 64,
                split="none",
                steps=0,
            ),
            "intended_use": "Tests.",
            "limits": "All.",
            "data_licence": "none",
            "volseg_version": "0",
            "git_commit": "0",
        }
        return ModelInfo(**{**defaults, **fields})

    return make


@pytest.fixture(scope="session")
def make_package(make_info):
    """A package: background below 1, label 2 for 1 < x < 3, label 7 for x > 3."""

    def make(*, golden=None, **fields):
        weights = {"scale": np.float32([0, 1, 2]), "offset": np.float32([0, -1, -4])}
        return Package.pack(make_info(**fields), weights=weights, card="# Card\n", golden=golden)

    return make
