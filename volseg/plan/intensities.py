"""How intensities are brought to one scale."""

from volseg.package.fingerprint import ChannelPrint, Fingerprint
from volseg.preprocess import PreprocessStep
from volseg.preprocess.intensity import ClipPercentiles, ZScore
from volseg.preprocess.spatial import CropNonzero
from volseg.preprocess.standardise import FixedScale, Standardise

ZEROED_OUT = 0.75
"""The background is zeroed out (skull-stripped, masked) where the box of what is not zero has less than this of a case."""

WILD_PEAK = 1.5
"""Maxima vary wildly where one case in ten has a peak (see Fingerprint) above this."""

FIXED = {"CT", "PT"}
"""Modalities whose values mean the same in every scan."""


def background_is_zeroed(fingerprint: Fingerprint) -> bool:
    """Whether the median case loses more than a quarter of its voxels by cropping to what is not zero (rule of nnU-Net)."""
    return fingerprint.nonzero_fraction.median < ZEROED_OUT


def is_cropped(fingerprint: Fingerprint) -> bool:
    """Whether cases are cropped to what is not zero: the background is zeroed out and no channel has a fixed scale.

    In CT a zero is water, not background.
    """
    fixed = any(channel.modality in FIXED for channel in fingerprint.channels)
    return background_is_zeroed(fingerprint) and not fixed


def crop_steps(fingerprint: Fingerprint) -> tuple[PreprocessStep, ...]:
    """The crop to what is not zero, where there is one."""
    return (CropNonzero(),) if is_cropped(fingerprint) else ()


def intensity_steps(fingerprint: Fingerprint) -> tuple[PreprocessStep, ...]:
    """The steps that scale the intensities.

    - CT and PET: clipped to the 0.5th and 99.5th percentile of the foreground of the training set, then shifted and scaled by
      the foreground's mean and deviation, the same for every scan.
    - All else (MR): each scan by its own mean and deviation; over the voxels that are not zero where the background is zeroed
      out. Where maxima vary wildly, values beyond the scan's own 0.5th and 99.5th percentiles are clipped first.
    - Channels of both kinds: each in its way, by one step.
    """
    region = "nonzero" if background_is_zeroed(fingerprint) else "all"
    clip = peaks_are_wild(fingerprint)
    scales = [fixed_scale(channel) for channel in fingerprint.channels]
    if any(scales):
        return (Standardise(channels=tuple(scales), region=region, clip_own=clip),)
    return (*([ClipPercentiles(region=region)] if clip else []), ZScore(region=region))


def peaks_are_wild(fingerprint: Fingerprint) -> bool:
    """Whether single voxels of some scaled-by-itself channel are far brighter than the rest, in one case of ten or more."""
    return any(c.peak.high > WILD_PEAK for c in fingerprint.channels if c.modality not in FIXED)


def fixed_scale(channel: ChannelPrint) -> FixedScale | None:
    """The scale of a CT or PET channel; None for a channel whose values mean nothing by themselves."""
    if channel.modality not in FIXED or channel.deviation <= 0 or channel.low >= channel.high:
        return None
    return FixedScale(low=channel.low, high=channel.high, mean=channel.mean, deviation=channel.deviation)
