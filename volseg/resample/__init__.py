"""From one grid to another: volumes, label maps and logits.

The value at a target voxel is read from the source at the same point in RAS+ mm:

- linear: trilinear interpolation; cubic: the B-spline of order 3 through the voxels (Unser 1999, "Splines: a perfect
  fit"), mirrored at the borders, which may overshoot the range of its input; nearest: no interpolation, for labels.
- A target voxel whose centre is more than half a voxel beyond the source's outer voxel centres gets a constant. In
  the half voxel between, the value at the outer centres continues. ITK does the same.
- Nothing is smoothed before a step to coarser voxels, as in nnU-Net: models are trained and used with the same rule.

The work goes in slabs along the target's first axis, so the temporaries stay near SLAB_BYTES whatever the extents.
Beyond that, cubic holds one channel of spline coefficients and an oblique slab the box of the source it cuts, both
float32. Where the axes of the grids are parallel (always so between a scan and its model grid) each axis is
interpolated on its own, otherwise scipy.ndimage does it. Both agree with a float64 evaluation of the definition to
3e-4 of the intensity range (INDEX_TOLERANCE along three axes).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from volseg.errors import GeometryError, InputError, IntensityError
from volseg.geometry import Grid
from volseg.labels import ChannelRule
from volseg.resample.sampling import IndexMap, Order, Sampler, result_dtype, sampler_of
from volseg.volume import AnyArray, LabelMap, Volume


def to_grid(
    array: AnyArray, source: Grid, target: Grid, *, order: Order = "linear", outside: float = 0.0
) -> AnyArray:
    """Sample an array [C, I, J, K] on the source grid at the voxels of the target grid.

    Args:
        array: [C, I, J, K] numbers on the source grid.
        source: the array's grid.
        target: where values are wanted.
        order: interpolation, see the module.
        outside: value of target voxels outside the source.

    Returns:
        [C, *target.shape], float32 for linear and cubic, the array's own type for nearest. On an identical grid
        this is the array itself where its type is right already: do not write to it.

    Raises:
        GeometryError: the array does not fit the source grid.
    """
    _check_fit(array, source)
    return _resampled(array, source, target, order, [outside] * array.shape[0])


def resample_volume(
    volume: Volume, grid: Grid, *, order: Literal["linear", "cubic"] = "linear", outside: float | None = None
) -> Volume:
    """A volume on another grid, float32.

    Outside the source it is `outside`, by default the least value of each channel: air in CT, background in MR.
    """
    fills = [float(channel.min()) if outside is None else outside for channel in volume.array]
    return volume.with_array(_resampled(volume.array, volume.grid, grid, order, fills), grid)


def resample_label_map(label_map: LabelMap, grid: Grid) -> LabelMap:
    """A label map on another grid: the label of the nearest voxel, background outside; the type is kept."""
    array = to_grid(label_map.array[np.newaxis], label_map.grid, grid, order="nearest", outside=0)
    return label_map.with_array(array[0], grid)


def logits_to_labels(logits: AnyArray, source: Grid, target: Grid, rule: ChannelRule) -> AnyArray:
    """The label at each target voxel, chosen there from linearly interpolated logits, slab by slab.

    Where the rule is exclusive the channel with the largest logit wins, of equal ones the first. Otherwise every channel
    whose logit is above 0 paints its value, later channels over earlier ones, on background.

    Logits are never held at the target's size, only one slab of two channels, however many channels there are.

    Args:
        logits: [N, I, J, K] float16 or float32 on the source grid, a channel for each value of the rule.
        source: the logits' grid.
        target: the grid of the label map.
        rule: the values of the channels and how they share a voxel.

    Returns:
        [*target.shape] uint8, or uint16 where a value needs it; 0 outside the source grid.

    Raises:
        GeometryError: the logits do not fit the source grid.
        InputError: not one value in 0..65535 per channel.
        IntensityError: a logit is NaN.
    """
    _check_fit(logits, source)
    values = rule.values
    if len(values) != logits.shape[0] or min(values) < 0 or max(values) > 65535:
        raise InputError(
            f"{logits.shape[0]} channels of logits need as many label values in 0..65535, one for each channel; found "
            f"{list(values)}."
        )
    mapping = IndexMap.between(source, target)
    lookup = np.array(values, dtype=label_dtype(rule))
    samplers = [sampler_of(channel, mapping, "linear") for channel in logits]
    labels = np.zeros(target.shape, dtype=lookup.dtype)
    for rows in mapping.slabs():
        if rule.exclusive:
            labels[rows] = lookup[_best_channel(samplers, rows)]
        else:
            _paint(labels[rows], samplers, rows, lookup)
        mapping.fill_outside(labels[rows], rows, 0)
    return labels


def label_dtype(rule: ChannelRule) -> np.dtype[np.unsignedinteger]:
    """The smallest of uint8 and uint16 that holds the rule's values."""
    return np.dtype(np.uint8 if max(rule.values) < 256 else np.uint16)


def _check_fit(array: AnyArray, source: Grid) -> None:
    if array.ndim != 4 or array.shape[0] < 1 or array.shape[1:] != source.shape:
        raise GeometryError(
            f"an array {array.shape} does not fit [C, I, J, K] on a grid of shape {source.shape}."
        )


def _resampled(
    array: AnyArray, source: Grid, target: Grid, order: Order, outside: Sequence[float]
) -> AnyArray:
    """to_grid with one outside value per channel."""
    dtype = result_dtype(array, order)
    if source.is_same(target):
        return array.astype(dtype, copy=False)
    mapping = IndexMap.between(source, target)
    result = np.empty((array.shape[0], *target.shape), dtype=dtype)
    for index, channel in enumerate(array):
        sample = sampler_of(channel, mapping, order)
        for rows in mapping.slabs():
            result[index, rows] = sample(rows)
            mapping.fill_outside(result[index, rows], rows, outside[index])
    return result


def _best_channel(samplers: Sequence[Sampler], rows: slice) -> npt.NDArray[np.uint16]:
    """Index of the channel with the highest logit in a slab."""
    best = samplers[0](rows).astype(np.float32)
    index = np.zeros(best.shape, dtype=np.uint16)
    for channel, sample in enumerate(samplers[1:], start=1):
        logits = sample(rows)
        index[logits > best] = channel
        np.maximum(best, logits, out=best)
    _check_number(best)
    return index


def _paint(labels: AnyArray, samplers: Sequence[Sampler], rows: slice, values: AnyArray) -> None:
    """Write each channel's value into a slab of labels where its logit is above 0, one channel after the other."""
    for value, sample in zip(values, samplers, strict=True):
        logits = sample(rows)
        _check_number(logits)
        labels[logits > 0] = value


def _check_number(logits: AnyArray) -> None:
    if np.isnan(logits.min()):
        raise IntensityError(
            "the model's logits hold NaN, so no label can be chosen; the input or model is damaged."
        )
