"""What only the cases of a collection together show: outliers, what is missing in all, what was handled alike in many."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from volseg.check.copy_rules import duplicate_channel, duplicate_image
from volseg.check.facts import CaseFacts, Expected
from volseg.check.report import Problem
from volseg.errors import counted, few
from volseg.geometry import SAME_GRID_TOLERANCE_MM, Grid

CollectionRule = Callable[[Sequence[CaseFacts], Expected], Iterator[Problem]]

OUTLIER_RATIO = 3.0
"""A spacing more than this many times the median's, or less than the median's divided by it, is an outlier."""

_LEAST_CASES = 3
"""With fewer cases there is no telling which one is the outlier."""

_NEAR_ONE_MM = 0.05

_NAMED_CASES = 5


def spacing_outlier(cases: Sequence[CaseFacts], _expected: Expected) -> Iterator[Problem]:
    """A spacing far from that of the others, along the axes of the body."""
    placed = [(facts, facts.grid.reoriented("RAS").spacing_mm) for facts in cases if facts.grid is not None]
    if len(placed) < _LEAST_CASES:
        return
    median = np.median([spacing for _, spacing in placed], axis=0)
    for facts, spacing in placed:
        ratio = np.array(spacing) / median
        if max(ratio.max(), 1 / ratio.min()) > OUTLIER_RATIO:
            text = f"spacing {_by(spacing)} mm (right, front, up), the median is {_by(median.tolist())} mm"
            advice = "Check the headers; leave the cases out where they are another kind of scan."
            yield Problem("warning", facts.case.id, "spacing-outlier", text, advice)


def unknown_spacing(cases: Sequence[CaseFacts], _expected: Expected) -> Iterator[Problem]:
    """The affine that programs write when they know none, unless cases with a true one have 1 mm too."""
    placed = [(facts, facts.grid) for facts in cases if facts.grid is not None]
    others = [grid.spacing_mm for _, grid in placed if not _is_default(grid)]
    if others and np.allclose(np.median(others, axis=0), 1, atol=_NEAR_ONE_MM):
        return
    for facts, grid in placed:
        if _is_default(grid):
            advice = (
                "Headers say so where nobody knew better. If so, sizes in mm are wrong, and scans with a true spacing "
                "will look different to the model: take the spacing from the original scans."
            )
            text = "spacing 1 x 1 x 1 mm and origin (0, 0, 0)"
            yield Problem("warning", facts.case.id, "unknown-spacing", text, advice)


def several_orientations(cases: Sequence[CaseFacts], _expected: Expected) -> Iterator[Problem]:
    """Arrays that are stored in several orders of the axes."""
    codes = [(facts.grid.axis_codes, facts.case.id) for facts in cases if facts.grid is not None]
    counts = Counter(code for code, _ in codes)
    if len(counts) > 1:
        usual = counts.most_common(1)[0][0]
        others = [f"{name} {code}" for code, name in codes if code != usual]
        text = (
            f"{counts[usual]} of {len(codes)} images are stored {usual}, others not ({few(others, _NAMED_CASES)}); "
            "volseg turns them all alike"
        )
        yield Problem("info", "", "orientations", text)


def absent_label(cases: Sequence[CaseFacts], expected: Expected) -> Iterator[Problem]:
    """A label of the table that no case holds."""
    maps = [(facts.case.remap, facts.label.counts) for facts in cases if facts.label is not None]
    found = {remap.get(value, value) for remap, counts in maps for value in counts}
    absent = [expected.label_name(value) for value in expected.labels.values if value not in found]
    if maps and absent:
        advice = "Nothing can be learned of a label without a voxel: take it off the table, or add cases."
        yield Problem("warning", "", "absent-label", f"no case holds {', '.join(absent)}", advice)


def remapped_label(cases: Sequence[CaseFacts], expected: Expected) -> Iterator[Problem]:
    """Values that are read as others."""
    changes = Counter(
        (old, new)
        for facts in cases
        if facts.label is not None
        for old, new in facts.case.remap.items()
        if old != new and old in facts.label.counts
    )
    for (old, new), count in sorted(changes.items()):
        text = f"the value {old} in {counted(count, 'label map')} is read as {expected.label_name(new)}"
        yield Problem("info", "", "remapped-label", text)


def rounded_grid(cases: Sequence[CaseFacts], _expected: Expected) -> Iterator[Problem]:
    """Label maps that were put on their image's grid, from which they differed by rounding."""
    rounded = [
        (facts.label.gap_mm, facts.case.id)
        for facts in cases
        if facts.label is not None and facts.label.gap_mm > SAME_GRID_TOLERANCE_MM
    ]
    if rounded:
        names = few([name for _, name in rounded], _NAMED_CASES)
        text = (
            f"{counted(len(rounded), 'label map')} up to {max(rounded)[0]:.3f} mm from the image ({names}): taken for "
            "rounding, and used on the image's grid"
        )
        yield Problem("info", "", "rounded-grid", text)


def reordered_label(cases: Sequence[CaseFacts], _expected: Expected) -> Iterator[Problem]:
    """Label maps of the right place whose array has its axes in another order."""
    names = [facts.case.id for facts in cases if facts.label is not None and facts.label.is_reordered]
    if names:
        text = (
            f"{counted(len(names), 'label map')} stored in another order of the axes than the image "
            f"({few(names, _NAMED_CASES)}): turned to it, without interpolation"
        )
        yield Problem("info", "", "reordered-label", text)


def several_cases(cases: Sequence[CaseFacts], _expected: Expected) -> Iterator[Problem]:
    """Patients with more than one case."""
    counts = {name: count for name, count in Counter(f.patient for f in cases).items() if count > 1}
    if counts:
        names = few([f"{name} ({count})" for name, count in sorted(counts.items())], _NAMED_CASES)
        text = f"{counted(len(counts), 'patient')} with several cases, which stay on one side of a split: {names}"
        yield Problem("info", "", "several-cases", text)


COLLECTION_RULES: tuple[CollectionRule, ...] = (
    duplicate_image,
    duplicate_channel,
    spacing_outlier,
    unknown_spacing,
    several_orientations,
    absent_label,
    remapped_label,
    rounded_grid,
    reordered_label,
    several_cases,
)
"""Every rule about all cases together."""


def _is_default(grid: Grid) -> bool:
    """Spacing 1 and origin 0; the signs depend on the program that wrote it (RAS or LPS)."""
    return np.array_equal(np.abs(grid.affine), np.eye(4))


def _by(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:.4g}" for number in numbers)
