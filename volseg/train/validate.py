"""Validation while training: whole held-out cases, on the model grid, with the averaged weights."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from volseg.infer.engines import Engine
from volseg.infer.restore import restore_labels
from volseg.infer.sliding import logit_slabs
from volseg.metrics import dice
from volseg.train.cache import CachedCase
from volseg.train.settings import TrainConfig


def validation_dice(
    network: nn.Module,
    cases: Sequence[CachedCase],
    config: TrainConfig,
    label_count: int,
    device: torch.device,
) -> list[float]:
    """Mean Dice over the cases of label indices 1..L-1, before postprocessing.

    Args:
        network: in evaluation mode.
        cases: held-out cases.
        config: for tile, mirroring and dimensions.
        label_count: L, background counted.
        device: where to predict.
    """
    engine = Engine(
        network,
        dimensions=config.architecture.dimensions,
        tile_voxels=config.tile.tile_voxels,
        mirror_axes=config.mirror_axes,
        device=device,
    )
    scores = np.empty((len(cases), label_count - 1))
    for row, case in zip(scores, cases, strict=True):
        slabs = logit_slabs(case.image[:], engine, config.tile, label_count)
        found = restore_labels(slabs, case.grid, case.grid, range(label_count))
        true = case.labels[:]
        row[:] = [dice(found == index, true == index) for index in range(1, label_count)]
    return scores.mean(axis=0).tolist()
