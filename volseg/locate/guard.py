"""Is this a T1-weighted scan of a head, and did the registration find it? Numbers first, then sentences.

Tissues are read at the template's places of pure tissue, through the registration. Contrast is the difference of the
medians of two tissues over their common spread (from the quartiles), so it has no unit and knows no scanner.
"""

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from volseg.geometry import FloatArray, Grid
from volseg.locate.pyramid import sample
from volseg.locate.registration import Registration
from volseg.locate.template import TISSUES, Template
from volseg.locate.transform import rigid_part, scale_factors

_QUARTILES_PER_DEVIATION = 1.349
"""Distance between the quartiles of a normal distribution, in standard deviations."""


class Limits(BaseModel):
    """What a registration must reach; measured on T1 heads with and without skull, T2, FLAIR, CT, noise and phantoms."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    largest_spacing_mm: PositiveFloat = 3.0
    """Of any axis: thicker slices are too few for a small organ."""
    smallest_mm: PositiveFloat = 20.0
    """Of the scan along any axis: a 2-D image or a few slices hold no organ."""
    information: float = Field(default=0.35, ge=0)
    """Least mutual information, nats."""
    correlation: float = Field(default=0.5, ge=-1, le=1)
    """Least correlation of scan and template in the brain."""
    overlap: float = Field(default=0.4, ge=0, le=1)
    """Least fraction of the template's brain inside the scan."""
    disagreement_mm: PositiveFloat = 4.0
    """Greatest mean distance between where two starts put the brain."""
    scale: tuple[PositiveFloat, PositiveFloat] = (0.8, 1.25)
    """Size of the head beside the template, the mean of three directions."""
    axis_scale: tuple[PositiveFloat, PositiveFloat] = (0.7, 1.3)
    """The same along any direction."""
    rotation_degrees: PositiveFloat = 60.0
    """Greatest turn of the head: three angles of 30 degrees make 58 together."""
    white_grey: float = 1.0
    """Least contrast of white over grey matter."""
    grey_fluid: float = 0.1
    """Least contrast of grey matter over cerebrospinal fluid."""


@dataclass(frozen=True)
class Measures:
    """What the guard looks at."""

    information: float
    correlation: float
    overlap: float
    disagreement_mm: float
    scale: float
    least_scale: float
    greatest_scale: float
    rotation_degrees: float
    white_grey: float
    grey_fluid: float


def measure(template: Template, found: Registration) -> Measures:
    """The numbers of a registration."""
    brain = template.array > 0
    values, inside = sample(found.scan, found.map(template.grid.index_to_world(np.argwhere(brain))))
    scales = scale_factors(found.affine[:3, :3])
    turn = (np.trace(rigid_part(found.affine[:3, :3])) - 1) / 2
    fluid, grey, white = (_spread(found, template.tissue_points(tissue)) for tissue in TISSUES)
    return Measures(
        information=found.information,
        correlation=_correlation(
            template.array[brain][inside].astype(np.float64), values[inside].astype(np.float64)
        ),
        overlap=float(inside.mean()),
        disagreement_mm=found.disagreement_mm,
        scale=float(np.prod(scales) ** (1 / 3)),
        least_scale=float(scales[0]),
        greatest_scale=float(scales[-1]),
        rotation_degrees=float(np.degrees(np.arccos(np.clip(turn, -1, 1)))),
        white_grey=_contrast(white, grey),
        grey_fluid=_contrast(grey, fluid),
    )


def doubts_about(found: Measures, limits: Limits) -> list[str]:
    """Why a registration is not to be trusted, one phrase for each measure that is out of its limits.

    Where the template's brain lies outside the scan there is nothing else to be measured.
    """
    checks = (
        (found.information, limits.information, np.inf, "the mutual information with the T1 head template"),
        (found.correlation, limits.correlation, np.inf, "the correlation with the template's brain"),
        (found.overlap, limits.overlap, np.inf, "the fraction of the template's brain that lies in the scan"),
        (
            found.disagreement_mm,
            0.0,
            limits.disagreement_mm,
            "the distance in mm between the results of two searches",
        ),
        (found.scale, *limits.scale, "the size of the head beside the template"),
        (found.least_scale, limits.axis_scale[0], np.inf, "the least size of the head along any direction"),
        (
            found.greatest_scale,
            0.0,
            limits.axis_scale[1],
            "the greatest size of the head along any direction",
        ),
        (found.rotation_degrees, 0.0, limits.rotation_degrees, "the turn of the head in degrees"),
        (
            found.white_grey,
            limits.white_grey,
            np.inf,
            "the contrast of white over grey matter (positive in T1)",
        ),
        (
            found.grey_fluid,
            limits.grey_fluid,
            np.inf,
            "the contrast of grey matter over fluid (positive in T1)",
        ),
    )
    if found.overlap < limits.overlap:
        checks = checks[2:3]
    return [
        f"{words} is {value:.2f}, expected {_range(low, high)}"
        for value, low, high, words in checks
        if not low <= value <= high
    ]


def doubts_about_grid(grid: Grid, limits: Limits) -> list[str]:
    """Why a scan's voxels cannot serve, whatever it shows."""
    doubts: list[str] = []
    thickest = max(grid.spacing_mm)
    if thickest > limits.largest_spacing_mm:
        spacing = " x ".join(f"{step:.1f}" for step in grid.spacing_mm)
        doubts.append(
            f"its voxels are {spacing} mm, a 2-D-like scan with slices every {thickest:.1f} mm, expected at most "
            f"{limits.largest_spacing_mm:g} mm (1 mm is best)"
        )
    sizes = [extent * step for extent, step in zip(grid.shape, grid.spacing_mm, strict=True)]
    if min(sizes) < limits.smallest_mm:
        size = " x ".join(f"{side:.0f}" for side in sizes)
        doubts.append(
            f"it is {size} mm ({' x '.join(map(str, grid.shape))} voxels), expected at least {limits.smallest_mm:g} mm along "
            "every axis: a few slices do not hold the organ"
        )
    return doubts


def _range(low: float, high: float) -> str:
    """In words: at least, at most, between."""
    if high == np.inf:
        return f"at least {low:g}"
    return f"{low:g} to {high:g}" if low else f"at most {high:g}"


def _spread(found: Registration, points_mm: FloatArray) -> tuple[float, float] | None:
    """Median and spread of the scan at template places; None where hardly any lies inside."""
    values, inside = sample(found.scan, found.map(points_mm))
    if inside.sum() < 20:
        return None
    low, middle, high = np.percentile(values[inside], [25, 50, 75]).tolist()
    return middle, (high - low) / _QUARTILES_PER_DEVIATION


def _contrast(brighter: tuple[float, float] | None, darker: tuple[float, float] | None) -> float:
    """Difference of the medians over the common spread; 0 where a tissue was not seen."""
    if brighter is None or darker is None:
        return 0.0
    spread = float(np.hypot(brighter[1], darker[1]))
    return (brighter[0] - darker[0]) / spread if spread > 0 else 0.0


def _correlation(first: FloatArray, second: FloatArray) -> float:
    if first.size < 2 or first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
