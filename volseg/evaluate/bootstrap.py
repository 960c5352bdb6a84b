"""How sure a mean over patients is: percentile bootstrap."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Interval = tuple[float, float]

RESAMPLES = 2000
_SEED = 20240229


def patient_numbers(cases: Sequence[str], patients: Mapping[str, str]) -> npt.NDArray[np.intp]:
    """A number 0..P-1 of its patient for each case; a case without one, or with the patient "", is its own."""
    keys = [(True, patients[case]) if patients.get(case) else (False, case) for case in cases]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], dtype=np.intp)


def interval_of_ratio(
    above: npt.ArrayLike, below: npt.ArrayLike, patients: npt.NDArray[np.intp]
) -> Interval | None:
    """95 % confidence interval of sum(above) / sum(below) by the percentile bootstrap over patients.

    Patients are drawn with replacement, as many as there are, 2000 times with a fixed seed; the 2.5th and 97.5th
    percentile of the ratios are the interval (Efron 1979, doi:10.1214/aos/1176344552; Efron and Tibshirani 1993,
    chapter 13). All cases of a drawn patient count. With fewer than about ten patients it is too narrow.

    Args:
        above: a number per case [N]; for a mean, the values.
        below: a number per case [N]; for a mean, ones.
        patients: the number of its patient for each case [N].

    Returns:
        None for a single patient, or where the ratio has nothing below.
    """
    count = int(patients.max()) + 1
    upper, lower = (np.bincount(patients, np.asarray(part, float), count) for part in (above, below))
    if count < 2 or not lower.any():
        return None
    draws = _draws(count)
    weights = draws @ lower
    ratios = (draws @ upper)[weights > 0] / weights[weights > 0]
    low, high = np.percentile(ratios, (2.5, 97.5)).tolist()
    return low, high


@lru_cache(maxsize=8)
def _draws(count: int) -> npt.NDArray[np.float64]:
    """How often each of `count` patients is in each resample [RESAMPLES, count]."""
    random = np.random.default_rng(_SEED)
    return random.multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)
