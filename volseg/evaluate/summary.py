"""Scores of many cases in few numbers: mean, deviation, median, confidence interval; lesions pooled, also by size."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from volseg.errors import InputError
from volseg.evaluate.bootstrap import Interval, interval_of_ratio, patient_numbers
from volseg.evaluate.score import MEASURES, Score
from volseg.metrics import SIZES_ML, Lesion

_Indices = npt.NDArray[np.intp]

FAILED_DICE = 0.5
"""A case below this Dice is counted as failed."""


@dataclass(frozen=True)
class Rate:
    """A part of a number of things, over all cases together."""

    hits: int
    total: int
    interval: Interval | None
    """95 % confidence interval of hits / total; None for one patient, or where there is nothing to count."""

    @property
    def value(self) -> float | None:
        """Hits / total, 0..1; None where there is nothing to count."""
        return self.hits / self.total if self.total else None


@dataclass(frozen=True)
class Summary:
    """One label or region over all cases. Measures that some of the scores lack are left out."""

    label: int
    """0 for a region."""
    name: str
    cases: int
    empty_references: int
    """Cases whose reference has no voxel of the label; they count in the means by the rule for empty masks."""
    mean: Mapping[str, float] = field(hash=False)
    """Mean of each of MEASURES."""
    deviation: Mapping[str, float] = field(hash=False)
    """Sample standard deviation (n - 1) of each of MEASURES; 0 for a single case."""
    median: Mapping[str, float] = field(hash=False)
    """Median of each of MEASURES."""
    interval: Mapping[str, Interval] = field(hash=False)
    """95 % confidence interval of each mean (volseg.evaluate.bootstrap); empty for a single patient."""
    failures: int = 0
    """Cases with a Dice below FAILED_DICE."""
    lesion_recall: Rate | None = None
    """Of all reference lesions of all cases, those found."""
    lesion_precision: Rate | None = None
    """Of all predicted lesions of all cases, those that are real."""


@dataclass(frozen=True)
class CaseSummary:
    """Measures of whole label maps over all cases: mean_iou, and pixel_accuracy where it was measured."""

    cases: int
    mean: Mapping[str, float] = field(hash=False)
    deviation: Mapping[str, float] = field(hash=False)
    median: Mapping[str, float] = field(hash=False)
    interval: Mapping[str, Interval] = field(hash=False)
    """As of Summary."""


@dataclass(frozen=True)
class SizeBin:
    """The lesions of one label from one size up to, not including, another; each mask's by their own size."""

    name: str
    low_ml: float
    high_ml: float
    recall: Rate
    precision: Rate


def summarise(scores: Iterable[Score], *, patients: Mapping[str, str] | None = None) -> list[Summary]:
    """Every measure over the cases: one summary per label, by label value, then one per region.

    Args:
        scores: of one or several cases.
        patients: the patient of each case, where some have several cases: the bootstrap draws patients. A case that is not
            named, or has the patient "", is a patient of its own.
    """
    return [_summary(own, _patients(own, patients)) for own in _by_part(scores)]


def summarise_cases(
    scores: Sequence[Score], *, patients: Mapping[str, str] | None = None
) -> CaseSummary | None:
    """The measures of whole label maps over the cases; None without a label.

    The mean IoU of a case is over its labels, background and regions left out (volseg.metrics.mean_iou).
    """
    by_case: dict[str, list[Score]] = {}
    for score in scores:
        if score.label:
            by_case.setdefault(score.case, []).append(score)
    if not by_case:
        return None
    values: dict[str, list[float | None]] = {
        "pixel_accuracy": [own[0].pixel_accuracy for own in by_case.values()],
        "mean_iou": [sum(score.iou for score in own) / len(own) for own in by_case.values()],
    }
    return CaseSummary(len(by_case), *_numbers(values, patient_numbers(list(by_case), patients or {})))


def lesions_by_size(
    scores: Iterable[Score],
    *,
    limits_ml: Sequence[float] = SIZES_ML,
    patients: Mapping[str, str] | None = None,
) -> list[SizeBin]:
    """How many lesions of each size were found, and how many of those marked are real: label by label, sizes rising.

    Args:
        scores: as evaluate_maps gives them; those from a file know no single lesions and are left out.
        limits_ml: the rising limits between the sizes in ml; 3 limits make 4 sizes.
        patients: see summarise.

    Raises:
        InputError: the limits do not rise from above 0.
    """
    limits = (0.0, *limits_ml, float("inf"))
    if not all(low < high for low, high in pairwise(limits)):
        raise InputError(f"lesion sizes {list(limits_ml)} ml: expected rising limits above 0.")
    bins: list[SizeBin] = []
    for own in _by_part(score for score in scores if score.lesions is not None):
        numbers = _patients(own, patients)
        sides = (
            [score.lesions.reference for score in own if score.lesions],
            [score.lesions.predicted for score in own if score.lesions],
        )
        for low, high in pairwise(limits):
            recall, precision = (_sized(lesions, low, high, numbers) for lesions in sides)
            bins.append(SizeBin(own[0].name, low, high, recall, precision))
    return bins


def _by_part(scores: Iterable[Score]) -> list[list[Score]]:
    """The scores of each label by rising value, then of each region."""
    parts: dict[tuple[int, str], list[Score]] = {}
    for score in scores:
        parts.setdefault((score.label, score.name), []).append(score)
    return [parts[part] for part in sorted(parts, key=lambda part: part[0] or np.inf)]


def _patients(scores: Sequence[Score], patients: Mapping[str, str] | None) -> _Indices:
    return patient_numbers([score.case for score in scores], patients or {})


def _summary(scores: Sequence[Score], patients: _Indices) -> Summary:
    values = {name: [getattr(score, name) for score in scores] for name in MEASURES}
    mean, deviation, median, interval = _numbers(values, patients)
    return Summary(
        label=scores[0].label,
        name=scores[0].name,
        cases=len(scores),
        empty_references=sum(score.reference_ml == 0 for score in scores),
        mean=mean,
        deviation=deviation,
        median=median,
        interval=interval,
        failures=sum(score.dice < FAILED_DICE for score in scores),
        lesion_recall=_rate([(score.found_lesions, score.reference_lesions) for score in scores], patients),
        lesion_precision=_rate(
            [(score.right_lesions, score.predicted_lesions) for score in scores], patients
        ),
    )


def _numbers(
    values: Mapping[str, Sequence[float | None]], patients: _Indices
) -> tuple[dict[str, float], dict[str, float], dict[str, float], dict[str, Interval]]:
    """Mean, deviation, median and interval of the mean of each measure that every case has."""
    known = {name: np.array(row, float) for name, row in values.items() if None not in row}
    intervals = {name: interval_of_ratio(row, np.ones(len(row)), patients) for name, row in known.items()}
    return (
        {name: float(row.mean()) for name, row in known.items()},
        {name: float(row.std(ddof=1)) if len(row) > 1 else 0.0 for name, row in known.items()},
        {name: float(np.median(row)) for name, row in known.items()},
        {name: interval for name, interval in intervals.items() if interval is not None},
    )


def _rate(counts: Sequence[tuple[int | None, int | None]], patients: _Indices) -> Rate | None:
    """Hits and totals per case as one rate; None where a case was not counted."""
    known = [(hits, total) for hits, total in counts if hits is not None and total is not None]
    if len(known) < len(counts):
        return None
    hits, totals = np.array(known).T
    return Rate(int(hits.sum()), int(totals.sum()), interval_of_ratio(hits, totals, patients))


def _sized(lesions: Sequence[Sequence[Lesion]], low_ml: float, high_ml: float, patients: _Indices) -> Rate:
    """The rate of the lesions per case from one size to another."""
    sized = [[lesion.matched for lesion in own if low_ml <= lesion.volume_ml < high_ml] for own in lesions]
    hits, totals = [sum(own) for own in sized], [len(own) for own in sized]
    return Rate(sum(hits), sum(totals), interval_of_ratio(hits, totals, patients))
