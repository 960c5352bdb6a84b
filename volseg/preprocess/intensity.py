"""Steps that change the intensities, each channel on its own; the results are float32."""

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from volseg.errors import IntensityError
from volseg.preprocess import PREPROCESS, PreprocessStep
from volseg.volume import AnyArray, Volume

Region = Literal["all", "nonzero"]
"""Which voxels are measured and changed: all, or those that are not zero (a skull-stripped brain); the rest stays."""

Percent = Annotated[float, Field(ge=0, le=100)]
_PIECE_VOXELS = 1 << 22


@PREPROCESS.add
class ZScore(PreprocessStep):
    """Shift and scale each channel to mean 0 and standard deviation 1 over a region.

    With region "nonzero" the zero voxels stay zero (so does a voxel that equals the mean), as in nnU-Net and MONAI.
    """

    name: Literal["zscore"] = "zscore"
    region: Region = "all"

    def __call__(self, volume: Volume) -> Volume:
        """[C, I, J, K] float32.

        Raises:
            IntensityError: a channel has one value throughout the region, no voxel in it, or NaN or infinity.
        """
        array = np.empty(volume.array.shape, dtype=np.float32)
        for index, channel in enumerate(volume.array):
            values = _region_values(channel, self.region, volume, index)
            _check_varied(values, volume, index)
            mean, deviation = _mean_and_deviation(values)
            np.subtract(channel, mean, out=array[index], dtype=np.float32)
            array[index] /= deviation
            if self.region == "nonzero":
                array[index][channel == 0] = 0
        return volume.with_array(array)


@PREPROCESS.add
class ClipPercentiles(PreprocessStep):
    """Clip each channel to two percentiles (0..100) of its own values in a region."""

    name: Literal["clip_percentiles"] = "clip_percentiles"
    low: Percent = 0.5
    high: Percent = 99.5
    region: Region = "all"

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        """The lower percentile comes first."""
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be less than high ({self.high})")
        return self

    def __call__(self, volume: Volume) -> Volume:
        """[C, I, J, K] float32.

        Raises:
            IntensityError: a channel has no voxel in the region, or NaN or infinity.
        """
        array = volume.array.astype(np.float32)
        for index, channel in enumerate(array):
            values = _region_values(channel, self.region, volume, index)
            low, high = np.percentile(values, [self.low, self.high])
            inside = True if self.region == "all" else channel != 0
            np.clip(channel, np.float32(low), np.float32(high), out=channel, where=inside)
        return volume.with_array(array)


@PREPROCESS.add
class Window(PreprocessStep):
    """Clip every channel to a fixed range, in the units of the volume (Hounsfield units in CT)."""

    name: Literal["window"] = "window"
    low: float
    high: float

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        """The lower end comes first."""
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be less than high ({self.high})")
        return self

    def __call__(self, volume: Volume) -> Volume:
        """[C, I, J, K] float32 within low..high."""
        return volume.with_array(np.clip(volume.array.astype(np.float32), self.low, self.high))


def _region_values(channel: AnyArray, region: Region, volume: Volume, index: int) -> AnyArray:
    """The voxels [N] of a channel [I, J, K] that belong to the region, all finite and at least one."""
    values = channel.reshape(-1) if region == "all" else channel[channel != 0]
    if values.size == 0:
        raise IntensityError(
            f"{volume.origin}: every voxel of channel {index} is zero, but intensities are measured over the "
            "non-zero voxels. Check that this is the scan and that its voxels were exported."
        )
    if not np.isfinite(float(values.min()) + float(values.max())):
        raise IntensityError(
            f"{volume.origin}: channel {index} holds NaN or infinity, which have no meaning as intensities. "
            "Replace them (for example by the value of air) and try again."
        )
    return values


def _check_varied(values: AnyArray, volume: Volume, index: int) -> None:
    """Refuse a region without contrast."""
    if values.min() == values.max():
        raise IntensityError(
            f"{volume.origin}: channel {index} has the value {float(values[0]):g} in every voxel measured, so "
            "nothing can be told apart in it. Expected a scan with contrast; check the file and its channels."
        )


def _mean_and_deviation(values: AnyArray) -> tuple[float, float]:
    """Mean and standard deviation of [N] in float64, piece by piece so that no float64 copy of all is made."""
    starts = range(0, values.size, _PIECE_VOXELS)
    mean = sum(float(values[s : s + _PIECE_VOXELS].sum(dtype=np.float64)) for s in starts) / values.size
    squares = 0.0
    for start in starts:
        deviations = values[start : start + _PIECE_VOXELS].astype(np.float64) - mean
        squares += float(np.dot(deviations, deviations))
    return mean, float(np.sqrt(squares / values.size))
