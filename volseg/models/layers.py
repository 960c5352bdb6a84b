"""Torch's layers by the number of axes that they work along: 2 or 3."""

from torch import nn

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
UP_CONV = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
INSTANCE_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
LINEAR_MODE = {2: "bilinear", 3: "trilinear"}
"""What torch calls linear interpolation."""
