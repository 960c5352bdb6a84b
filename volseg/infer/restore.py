"""Labels on the source grid out of a stream of finished slabs: logits are never held as a whole.

The way back is given by two grids alone: each slab is itself an array on a box of the model's grid, and fills the box
of the target whose voxels lie between its rows.
"""

from collections.abc import Iterable

import numpy as np
from scipy.special import expit

from volseg.geometry import Grid, Shape
from volseg.infer.stitch import Logits, Slab
from volseg.labels import ChannelRule
from volseg.resample import label_dtype, logits_to_labels, to_grid
from volseg.resample.sampling import INDEX_TOLERANCE, IndexMap
from volseg.volume import AnyArray

_SURELY_BACKGROUND = -60.0
"""A label's or region's logit against the background's outside the model's grid: a probability below 1e-26."""

_BLOCK_VOXELS = 2**16
"""Voxels turned into probabilities at once."""


def whole_logits(slabs: Iterable[Slab], channel_count: int, shape: Shape) -> Logits:
    """All slabs as one array [N, I, J, K], for where the whole is needed (probabilities, oblique targets)."""
    logits = np.empty((channel_count, *shape), dtype=np.float32)
    for slab in slabs:
        logits[:, slab.start : slab.stop] = slab.logits
    return logits


def restore_labels(slabs: Iterable[Slab], source: Grid, target: Grid, rule: ChannelRule) -> AnyArray:
    """The label map [*target.shape] of a stream of logits on the source grid; see resample.logits_to_labels.

    Where an axis of the target runs along the first axis of the source, planes of the target are labelled as soon as
    the rows they lie between are there; otherwise (an oblique target) the logits are collected first.

    Args:
        slabs: logits by rising rows of the source's first axis, without gaps.
        source: the logits' grid.
        target: the grid of the label map.
        rule: the values of the channels and how they share a voxel.
    """
    mapping = IndexMap.between(source, target)
    axes = mapping.parallel_axes()
    if axes is None:
        return logits_to_labels(whole_logits(slabs, len(rule.values), source.shape), source, target, rule)
    axis = axes.index(0)
    rows = mapping.matrix[0, axis] * np.arange(target.shape[axis]) + mapping.offset[0]
    labels = np.zeros(target.shape, dtype=label_dtype(rule))
    waiting = np.ones(target.shape[axis], dtype=bool)
    kept: Logits | None = None
    for slab in slabs:
        logits = slab.logits if kept is None else np.concatenate([kept, slab.logits], axis=1)
        start = slab.stop - logits.shape[1]
        last = slab.stop == source.shape[0]
        ready = waiting & (last | (rows <= slab.stop - 1 + INDEX_TOLERANCE))
        if ready.any():
            planes = np.flatnonzero(ready)
            box = _planes(target.shape, axis, int(planes[0]), int(planes[-1]) + 1)
            here = source.box((start, 0, 0), (slab.stop, *source.shape[1:]))
            part = target.box(box[0], box[1])
            where = tuple(slice(a, b) for a, b in zip(*box, strict=True))
            labels[where] = logits_to_labels(logits, here, part, rule)
            waiting[planes] = False
        kept = slab.logits[:, -1:]  # the next planes may lie between this row and the next slab's first
    return labels


def label_probabilities(logits: Logits, source: Grid, target: Grid, rule: ChannelRule) -> Logits:
    """Probabilities [N, *target.shape] float32 of the interpolated logits; background outside the source grid.

    Where the rule is exclusive they are the softmax over the channels: background and labels, which sum to 1. Otherwise
    they are one sigmoid for each region, which may hold each other and sum to anything.

    Softmax needs only differences, so each label's logit is taken against the background's, which makes background certain
    wherever the difference is filled with a large negative number.

    Args:
        logits: [N, I, J, K] on the source grid.
        source: the logits' grid.
        target: where probabilities are wanted.
        rule: how the channels share a voxel.
    """
    margins = logits - logits[:1] if rule.exclusive else logits
    result = to_grid(margins, source, target, order="linear", outside=_SURELY_BACKGROUND)
    if result is logits:
        result = logits.copy()
    step = max(1, _BLOCK_VOXELS // (target.shape[1] * target.shape[2]))
    for start in range(0, target.shape[0], step):
        block = result[:, start : start + step]
        block[...] = _softmax(block) if rule.exclusive else expit(block)
    return result


def _softmax(margins: Logits) -> Logits:
    """Softmax of logits [N, ...] against the background's, whose own margin is 0."""
    largest = np.maximum(margins[1:].max(axis=0), 0)
    exponentials = np.concatenate([np.exp(-largest)[np.newaxis], np.exp(margins[1:] - largest)])
    return exponentials / exponentials.sum(axis=0)


def _planes(shape: Shape, axis: int, first: int, stop: int) -> tuple[Shape, Shape]:
    """Start and stop of the planes first..stop of an array along an axis."""
    start, end = [0, 0, 0], list(shape)
    start[axis], end[axis] = first, stop
    return (start[0], start[1], start[2]), (end[0], end[1], end[2])
