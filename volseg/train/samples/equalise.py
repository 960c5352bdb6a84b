"""Contrast-limited adaptive histogram equalisation of patches (Pizer et al. 1987; Zuiderveld 1994)."""

from itertools import product

import torch
from torch import Tensor

_BINS = 128
_BLOCKS_PER_AXIS = 4


def equalise_histogram(patch: Tensor, clip: float, *, flat: bool = False) -> Tensor:
    """Spread the intensities of each of 4 x 4 x 4 blocks over the channel's range, by its clipped histogram.

    Args:
        patch: [C, I, J, K] float32.
        clip: a bin holds at most this many times the mean of the bins; what is cut off is shared by all bins.
        flat: blocks span all of K.

    Returns:
        [C, I, J, K], each channel within the range it had; the mappings of neighbouring blocks are interpolated.
    """
    return torch.stack([_equalise(channel, clip, flat=flat) for channel in patch])


def _equalise(channel: Tensor, clip: float, *, flat: bool) -> Tensor:
    low, high = torch.aminmax(channel)
    if low == high:
        return channel
    bins = ((channel - low) * ((_BINS - 1) / (high - low))).round_().long()
    counts = [min(_BLOCKS_PER_AXIS, extent) for extent in channel.shape]
    if flat:
        counts[2] = 1
    places = [
        (torch.arange(extent, device=channel.device) + 0.5) * count / extent
        for extent, count in zip(channel.shape, counts, strict=True)
    ]
    curves = _block_curves(bins, places, counts, clip)
    equalised = torch.zeros_like(channel)
    for corner in product((0, 1), repeat=3):
        blocks, weight = _neighbours(places, counts, corner)
        equalised += weight * curves[blocks * _BINS + bins]
    return equalised * (high - low) + low


def _block_curves(bins: Tensor, places: list[Tensor], counts: list[int], clip: float) -> Tensor:
    """Cumulative clipped histograms [blocks * _BINS], rising to 1."""
    block = _flat_block([place.long() for place in places], counts)
    total = counts[0] * counts[1] * counts[2] * _BINS
    histogram = torch.bincount((block * _BINS + bins).view(-1), minlength=total).view(-1, _BINS).float()
    share = histogram / histogram.sum(dim=1, keepdim=True)
    clipped = share.clamp(max=max(clip, 1.0) / _BINS)
    clipped += (1 - clipped.sum(dim=1, keepdim=True)) / _BINS
    return clipped.cumsum(dim=1).view(-1)


def _neighbours(places: list[Tensor], counts: list[int], corner: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Of each voxel the block on one side (per axis the lower, 0, or the upper, 1) of its place, and its weight."""
    chosen, weight = [], torch.ones(1, 1, 1, device=places[0].device)
    for axis, (place, count, side) in enumerate(zip(places, counts, corner, strict=True)):
        lower = (place - 0.5).floor()
        fraction = place - 0.5 - lower
        chosen.append((lower + side).clamp(0, count - 1).long())
        shape = [1, 1, 1]
        shape[axis] = len(place)
        weight = weight * (fraction if side else 1 - fraction).view(shape)
    return _flat_block(chosen, counts), weight


def _flat_block(places: list[Tensor], counts: list[int]) -> Tensor:
    """[I, J, K]: numbers of blocks from their numbers along each axis."""
    i, j, k = places
    return (i[:, None, None] * counts[1] + j[None, :, None]) * counts[2] + k[None, None, :]
