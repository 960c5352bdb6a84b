"""Where a training starts: the network first says how common each label is, instead of one half or one third everywhere.

A last layer with zero bias gives every channel the same probability, and hundreds of steps go by until it knows that most
voxels are background. Lin et al. 2017 (doi:10.1109/ICCV.2017.324, section 4.1) start the bias at the prior instead.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from volseg.train.samples.cache import CachedCase
from volseg.train.targets import TargetCode

_CASES = 8
"""Counted at most; more would not change the logarithm."""

_LEAST_SHARE = 0.01
"""Patches are centred on labels more often than chance would, so that no label is rarer than this in them."""


def channel_shares(cases: Sequence[CachedCase], code: TargetCode) -> Tensor:
    """The part of the voxels that belongs to each channel [N], at least 0.01, from up to 8 cases spread over the list."""
    chosen = cases[:: max(1, len(cases) // _CASES)][:_CASES]
    counts = np.zeros(code.membership.shape[1])
    for case in chosen:
        counts += np.bincount(np.asarray(case.labels[:]).reshape(-1), minlength=len(counts))
    shares = code.membership.double() @ torch.from_numpy(counts / counts.sum())
    return shares.clamp(_LEAST_SHARE, 1 - _LEAST_SHARE).float()


@torch.no_grad()
def start_at_shares(module: nn.Module, shares: Tensor, *, exclusive: bool) -> None:
    """Set the biases of the module's last layers, its `heads`, so that probabilities start near the shares [N]."""
    bias = shares.log() if exclusive else shares.logit()
    for head in cast(nn.ModuleDict, module.heads).values():
        cast(nn.Parameter, head.bias).copy_(bias)
