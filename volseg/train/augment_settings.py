"""The settings of augmentation."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from volseg.config import Config

Fraction = Annotated[float, Field(ge=0, le=1)]


class AugmentConfig(Config):
    """Random changes to training patches; angles, scales and displacements share one resampling."""

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
    """Standard deviation of the random displacement at control points."""
    elastic_spacing_mm: PositiveFloat = 14.0
    """Distance between control points."""
    intensity_probability: Fraction = 0.3
    """Chance of each of: shading, noise, blur, contrast, brightness, gamma."""
    shading: NonNegativeFloat = 0.0
    """Log of the largest gain of a smooth multiplicative field over the patch (MR bias field): 0.3 is up to 35 %."""
    noise_std: NonNegativeFloat = 0.15
    blur_sigma_voxels: tuple[PositiveFloat, PositiveFloat] = (0.4, 1.0)
    contrast: tuple[PositiveFloat, PositiveFloat] = (0.7, 1.35)
    brightness: NonNegativeFloat = 0.3
    gamma: tuple[PositiveFloat, PositiveFloat] = (0.7, 1.5)
