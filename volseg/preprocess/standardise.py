"""Intensities with a meaning of their own, such as Hounsfield units: the same shift and scale for every scan."""

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

from volseg.errors import InputError
from volseg.preprocess import PREPROCESS, PreprocessStep
from volseg.preprocess.intensity import ClipPercentiles, Region, ZScore
from volseg.volume import Volume


class FixedScale(BaseModel):
    """Clip to low..high, subtract the mean and divide by the deviation; all in the units of the volume."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    low: float
    high: float
    mean: float
    deviation: PositiveFloat

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be less than high ({self.high})")
        return self


@PREPROCESS.add
class Standardise(PreprocessStep):
    """Bring each channel to about mean 0 and standard deviation 1 in its own way.

    A channel with a fixed scale (CT, quantitative PET) is clipped and scaled by numbers of the training set, so that a
    value in Hounsfield units means the same in every scan (Isensee et al. 2021). A channel without one (MR) is scaled by
    its own mean and deviation, as by the steps clip_percentiles and zscore.
    """

    name: Literal["standardise"] = "standardise"
    channels: Annotated[tuple[FixedScale | None, ...], Field(min_length=1)]
    """In array order [C]; None is a channel that is scaled by its own values."""
    region: Region = "all"
    """Where the channels without a fixed scale are measured and changed."""
    clip_own: bool = False
    """Clip these channels to their 0.5th and 99.5th percentile first."""

    def __call__(self, volume: Volume) -> Volume:
        """[C, I, J, K] float32.

        Raises:
            InputError: another number of channels.
            IntensityError: a channel without a fixed scale has one value throughout, or NaN or infinity.
        """
        if volume.channels != len(self.channels):
            raise InputError(
                f"{volume.origin}: has {volume.channels} channels; the model standardises {len(self.channels)}. Give the "
                "channels it was trained with, in that order."
            )
        array = np.empty(volume.array.shape, dtype=np.float32)
        for index, scale in enumerate(self.channels):
            if scale is None:
                array[index] = self._own(volume.with_array(volume.array[index : index + 1])).array[0]
                continue
            np.clip(
                volume.array[index].astype(np.float32),
                np.float32(scale.low),
                np.float32(scale.high),
                out=array[index],
            )
            array[index] -= np.float32(scale.mean)
            array[index] /= np.float32(scale.deviation)
        return volume.with_array(array)

    def _own(self, channel: Volume) -> Volume:
        """One channel [1, I, J, K] scaled by its own values."""
        if self.clip_own:
            channel = ClipPercentiles(region=self.region)(channel)
        return ZScore(region=self.region)(channel)
