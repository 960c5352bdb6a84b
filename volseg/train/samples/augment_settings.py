"""The settings of augmentation."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from volseg.config import Config

Fraction = Annotated[float, Field(ge=0, le=1)]
IntensityChange = Literal[
    "equalise", "shading", "noise", "blur", "low_resolution", "contrast", "brightness", "gamma"
]


class AugmentConfig(Config):
    """Random changes to training patches; angles, scales and displacements share one resampling.

    A 2D patch (K = 1) turns, scales and bends in its plane only.
    """

    where: Literal["auto", "threads", "processes", "device"] = "auto"
    """Threads and processes give the same patches, bit for bit. `device` resamples where the network runs: repeatable on
    the same device only. `auto` measures at the start, and on a CPU chooses among the first two."""
    mirror_axes: tuple[Literal[0, 1, 2], ...] = ()
    """Array axes flipped with probability 1/2 each. Only flip what anatomy allows: left-right swaps sides."""
    spatial_probability: Fraction = 0.8
    """Chance that a patch is rotated, scaled and deformed at all."""
    rotation_degrees: NonNegativeFloat = 15.0
    """Each of three Euler angles is uniform in ± this."""
    scale: tuple[PositiveFloat, PositiveFloat] = (0.85, 1.2)
    """Size of the anatomy, uniform in log; one factor for all axes."""
    axis_scale: float = Field(default=0.05, ge=0, lt=1)
    """A further factor for each axis of its own, uniform in 1 ± this."""
    shift_mm: NonNegativeFloat = 0.0
    """The patch moves by up to this along each axis, as a box does that was located, not drawn around the organ."""
    elastic_mm: NonNegativeFloat = 2.0
    """Standard deviation of the random displacement at control points, at most."""
    elastic_spacing_mm: PositiveFloat = 14.0
    """Distance between control points."""
    intensity_probability: Fraction = 0.3
    """Chance of each of: shading, noise, blur, low_resolution, contrast, brightness, gamma, equalise."""
    probabilities: dict[IntensityChange, Fraction] = Field(default_factory=dict)
    """Chances by name where they differ from intensity_probability."""
    shading: NonNegativeFloat = 0.0
    """Log of the largest gain of a smooth multiplicative field over the patch (MR bias field): 0.3 is up to 35 %."""
    noise_std: NonNegativeFloat = 0.15
    """The noise's standard deviation is uniform between 0 and this."""
    blur_sigma_voxels: tuple[PositiveFloat, PositiveFloat] = (0.4, 1.0)
    low_resolution: tuple[Annotated[float, Field(ge=1)], Annotated[float, Field(ge=1)]] = (1.0, 2.0)
    """The patch is seen as if its voxels were larger by a factor in this range (Isensee et al. 2021, suppl. note 4)."""
    contrast: tuple[PositiveFloat, PositiveFloat] = (0.7, 1.35)
    """Deviations from the patch's mean are multiplied by this."""
    brightness: NonNegativeFloat = 0.3
    """Added: uniform in ± this."""
    gamma: tuple[PositiveFloat, PositiveFloat] = (0.7, 1.5)
    """Exponent, uniform in log; of the inverted image in 3 of 10 cases."""
    equalise_clip: NonNegativeFloat = 0.0
    """Contrast-limited adaptive histogram equalisation (Pizer et al. 1987): a histogram bin holds at most this many times
    the mean of the bins, 2 to 4 being usual; 0 is off."""

    def chance(self, change: IntensityChange) -> float:
        """The probability of one intensity change."""
        return self.probabilities.get(change, self.intensity_probability)
