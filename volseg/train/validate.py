"""Validation while training: whole held-out cases, on the model grid, with the averaged weights."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from volseg.infer.engines import Engine
from volseg.infer.restore import restore_labels
from volseg.infer.sliding import logit_slabs
from volseg.labels import ChannelRule
from volseg.train.distributed import ALONE, Ranks
from volseg.train.samples.cache import CachedCase
from volseg.train.settings import TrainConfig
from volseg.train.targets import TargetCode
from volseg.volume import AnyArray


def validation_dice(
    network: nn.Module,
    cases: Sequence[CachedCase],
    config: TrainConfig,
    *,
    code: TargetCode,
    rule: ChannelRule,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> list[float]:
    """Mean Dice over the cases of each of `code.names`, before postprocessing; every process gets all of them.

    Args:
        network: in evaluation mode.
        cases: held-out cases; each process predicts its share.
        config: for tile, mirroring and dimensions.
        code: which label indices make up a name.
        rule: how channels become label indices (not values).
        device: where to predict.
        ranks: the processes that share the work.
    """
    engine = Engine(
        network,
        dimensions=config.architecture.dimensions,
        tile_voxels=config.tile.tile_voxels,
        mirror_axes=config.mirror_axes,
        device=device,
    )
    scores = np.zeros((len(cases), len(code.names)))
    for index in range(ranks.rank, len(cases), ranks.size):
        case = cases[index]
        slabs = logit_slabs(np.asarray(case.image[:]), engine, config.tile, len(rule.values))
        found = restore_labels(slabs, case.grid, case.grid, rule)
        scores[index] = region_dice(found, np.asarray(case.labels[:]), code)
    return ranks.sum(scores).mean(axis=0).tolist()


def region_dice(found: AnyArray, true: AnyArray, code: TargetCode) -> npt.NDArray[np.float64]:
    """Dice of each of `code.names` from label indices [I, J, K]; 1 where neither has any of its labels.

    All come from one table of how often which index met which: |A n B| of a union of labels is the sum over its part of
    the table (Dice 1945).
    """
    membership = code.membership.numpy().astype(np.float64)
    membership = membership[1:] if code.exclusive else membership
    count = membership.shape[1]
    pairs = np.bincount(found.ravel().astype(np.intp) * count + true.ravel(), minlength=count * count)
    table = pairs.reshape(count, count)
    both = np.einsum("nf,ft,nt->n", membership, table, membership)
    total = membership @ table.sum(axis=1) + membership @ table.sum(axis=0)
    return np.divide(2 * both, total, out=np.ones(len(membership)), where=total > 0)


def index_rule(rule: ChannelRule, label_values: Sequence[int]) -> ChannelRule:
    """A rule that gives label indices 0..L-1 instead of the values of the label table (1..L-1 in that order)."""
    indices = {0: 0} | {value: index for index, value in enumerate(label_values, start=1)}
    return ChannelRule(tuple(indices[value] for value in rule.values), rule.exclusive)
