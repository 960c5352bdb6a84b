"""Frames in classes by what their headers say: what may set volumes of one series apart, with tolerances for noise."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from volseg.geometry import FloatArray
from volseg.io.dicom.frame import Frame

IntArray = npt.NDArray[np.int64]
Value = float | str | tuple[float | str, ...] | None

IMAGE_TYPE_NOISE = frozenset(
    ("NORM", "ND", "DIS2D", "DIS3D", "FM", "FIL", "MFSPLIT", "SPLIT", "ADD", "MOCO", "NONE", "OTHER", "")
)
"""Values of ImageType, from the third on, that say how a picture was filtered or sorted, not what it shows."""

LEAST_PAUSE_S = 1.0
"""A shorter pause does not part two acquisitions."""

PAUSE_OF_STEP = 10
"""A pause is this many times as long as the usual step in time."""


@dataclass(frozen=True)
class Trait:
    """One thing a header says of a frame, and how much of a difference in it is noise."""

    name: str
    value: Callable[[Frame], Value]
    unit: str = ""
    relative: float = 0.0
    """Neighbouring values of one class differ by at most this part of the value, or by `absolute`."""
    absolute: float = 0.0
    is_shown: bool = True
    """Whether texts give the value; else they number the classes (dates, UIDs)."""
    lone_is_noise: bool = False
    """A value of its own on every frame means nothing."""


@dataclass(frozen=True, eq=False)
class Split:
    """Frames in classes by a trait."""

    classes: IntArray
    """Class of each frame [n], 0 .. count - 1 in the order of the values."""
    texts: tuple[str, ...]
    """Of each class, for people."""

    @property
    def count(self) -> int:
        """How many classes there are."""
        return len(self.texts)

    def indices(self) -> list[IntArray]:
        """Where the frames of each class are."""
        order = np.argsort(self.classes, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.classes, minlength=self.count))[:-1])

    def crossed(self, other: "Split") -> "Split":
        """Classes by two traits together."""
        pairs, classes = np.unique(self.classes * other.count + other.classes, return_inverse=True)
        texts = (f"{self.texts[pair // other.count]}, {other.texts[pair % other.count]}" for pair in pairs)
        return Split(classes.astype(np.int64), tuple(texts))


def classify(frames: Sequence[Frame], trait: Trait, *, silence_counts: bool = True) -> Split:
    """The classes of frames by a trait.

    Args:
        frames: at least one.
        trait: what to look at.
        silence_counts: frames whose header is silent are a class of their own. Otherwise they join the only class
            there is, if there is but one.
    """
    values = [_clean(trait.value(frame)) for frame in frames]
    silent = np.array([value is None for value in values])
    known = [value for value in values if value is not None]
    found, texts = _classes(known, trait)
    if not silence_counts and len(texts) == 1:
        return Split(np.zeros(len(frames), np.int64), tuple(texts))
    classes = np.zeros(len(frames), np.int64)
    classes[~silent] = found + bool(silent.any())
    return Split(classes, (f"no {trait.name}", *texts) if silent.any() else tuple(texts))


def seconds(moment: str) -> float | None:
    """A DICOM date and time, or time alone, in seconds; None where it has no time of the day or is none (PS3.5 6.2)."""
    matched = re.fullmatch(r"(\d{8})?(\d{2}):?(\d{2}):?(\d{2})(\.\d+)?(?:[+-]\d{4})?", moment.strip())
    if matched is None:
        return None
    day, hours, minutes, whole, fraction = matched.groups()
    try:
        days = date(int(day[:4]), int(day[4:6]), int(day[6:])).toordinal() if day else 0
    except ValueError:
        return None
    return days * 86400 + int(hours) * 3600 + int(minutes) * 60 + int(whole) + float(fraction or 0)


def clusters(vectors: FloatArray, tolerance: float) -> IntArray:
    """The class [n] of each vector [n, d]: those within the tolerance of the most frequent one are 0, and so on.

    Which vectors are together does not depend on their order: of equally frequent ones, the smallest goes first.
    """
    known, inverse, counts = np.unique(vectors, axis=0, return_inverse=True, return_counts=True)
    labels = np.full(len(known), -1, np.int64)
    label = 0
    while (labels < 0).any():
        centre = int(np.where(labels < 0, counts, 0).argmax())
        near = np.abs(known - known[centre]).max(1) <= tolerance
        labels[near & (labels < 0)] = label
        label += 1
    return labels[inverse.reshape(-1)]


def classify_pauses(frames: Sequence[Frame], trait: Trait) -> Split | None:
    """Classes by a time, parted where nothing was done for long; None where a time is unknown."""
    times = [seconds(str(trait.value(frame))) for frame in frames]
    known = np.array([time for time in times if time is not None])
    if len(known) < len(frames) or len(frames) < 2:
        return None
    steps = np.diff(np.sort(known))
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    is_pause = steps > max(LEAST_PAUSE_S, PAUSE_OF_STEP * usual)
    classes = np.empty(len(frames), np.int64)
    classes[np.argsort(known, kind="stable")] = np.concatenate(([0], np.cumsum(is_pause)))
    count = int(is_pause.sum()) + 1
    return Split(classes, tuple(f"{trait.name} {index + 1} of {count}" for index in range(count)))


def shown_type(frame: Frame) -> Value:
    """What ImageType says a picture shows: M, P, ADC, WATER ...; the first two values often vary by chance."""
    return tuple(value for value in frame.traits.image_type[2:] if value not in IMAGE_TYPE_NOISE) or None


IMAGE_TYPE = Trait("image type", shown_type)
FRAME_OF_REFERENCE = Trait(
    "frame of reference", lambda frame: frame.frame_of_reference or None, is_shown=False, lone_is_noise=True
)
STACK_ID = Trait("stack", lambda frame: frame.traits.stack_id, lone_is_noise=True)
ECHO_TIME = Trait("echo time", lambda frame: frame.traits.echo_time_ms, " ms", relative=5e-3, absolute=1e-3)
ECHO_NUMBER = Trait("echo number", lambda frame: frame.traits.echo_number)
B_VALUE = Trait("b-value", lambda frame: frame.traits.b_value, relative=1e-2, absolute=0.5)
TEMPORAL = Trait("temporal position", lambda frame: frame.traits.temporal_position, lone_is_noise=True)
CONTRAST_PHASE = Trait("contrast phase", lambda frame: frame.traits.contrast_phase)
CARDIAC_PHASE = Trait(
    "cardiac phase", lambda frame: frame.traits.cardiac_phase_percent, " %", relative=1e-3, absolute=0.5
)
TRIGGER_TIME = Trait("trigger time", lambda frame: frame.traits.trigger_time_ms, " ms", 1e-3, 0.5)
ACQUISITION = Trait("acquisition number", lambda frame: frame.traits.acquisition_number)
ACQUISITION_TIME = Trait("acquisition time", lambda frame: frame.traits.acquisition_time, is_shown=False)
CONTENT_TIME = Trait("content time", lambda frame: frame.traits.content_time, is_shown=False)
CONTRAST_AGENT = Trait("contrast agent", lambda frame: frame.series.contrast_agent or None)
FLIP_ANGLE = Trait("flip angle", lambda frame: frame.traits.flip_angle, " degrees", relative=1e-2)
INVERSION_TIME = Trait(
    "inversion time", lambda frame: frame.traits.inversion_time_ms, " ms", relative=5e-3, absolute=0.5
)
SERIES = Trait("series", lambda frame: frame.series.series_uid, is_shown=False)

ALWAYS = (FRAME_OF_REFERENCE, STACK_ID, ECHO_TIME, B_VALUE, TEMPORAL, CONTRAST_PHASE, IMAGE_TYPE)
"""What sets volumes apart wherever their slices lie: the intensities mean different things, or lie elsewhere."""

AT_ONE_POSITION = (
    STACK_ID,
    ECHO_TIME,
    B_VALUE,
    Trait("gradient direction", lambda frame: frame.traits.gradient, absolute=0.02, is_shown=False),
    TEMPORAL,
    ECHO_NUMBER,
    INVERSION_TIME,
    CARDIAC_PHASE,
    TRIGGER_TIME,
    CONTRAST_PHASE,
    FLIP_ANGLE,
    Trait("sequence", lambda frame: frame.traits.scanning_sequence or None),
    Trait("repetition time", lambda frame: frame.traits.repetition_time_ms, " ms", relative=5e-3),
    IMAGE_TYPE,
    Trait("full image type", lambda frame: frame.traits.image_type or None),
    ACQUISITION,
    ACQUISITION_TIME,
    SERIES,
    Trait("kernel", lambda frame: frame.traits.kernel or None),
    CONTENT_TIME,
)
"""What may set planes at one position apart, the most meaningful first; elsewhere most of it varies by chance."""

IN_ORDER = (TEMPORAL, CARDIAC_PHASE, TRIGGER_TIME, ACQUISITION, ACQUISITION_TIME, CONTENT_TIME)
"""What puts the planes at one position in order, where the values differ from slice to slice."""


def _clean(value: Value) -> Value:
    """NaN is silence."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _classes(values: Sequence[Value], trait: Trait) -> tuple[IntArray, list[str]]:
    if not values:
        return np.zeros(0, np.int64), []
    if all(isinstance(value, int | float) for value in values):
        numbers = np.array(values, dtype=np.float64)
        classes = _bins(numbers, trait)
        shown = [
            f"{np.median(numbers[classes == index]):.6g}{trait.unit}" for index in range(classes.max() + 1)
        ]
    elif all(isinstance(value, tuple) and isinstance(value[0], float) for value in values):
        classes = clusters(np.array(values, dtype=np.float64), trait.absolute)
        shown = [str(index) for index in range(classes.max() + 1)]
    else:
        words = ["\\".join(map(str, value)) if isinstance(value, tuple) else str(value) for value in values]
        known, inverse = np.unique(np.array(words), return_inverse=True)
        classes, shown = inverse.astype(np.int64), known.tolist()
    if not trait.is_shown:
        shown = [f"{index + 1} of {len(shown)}" for index in range(len(shown))]
    return classes, [f"{trait.name} {text}" for text in shown]


def _bins(numbers: FloatArray, trait: Trait) -> IntArray:
    """Classes of numbers, parted where neighbours differ by more than the tolerance."""
    order = np.argsort(numbers, kind="stable")
    rising = numbers[order]
    parted = np.diff(rising) > np.maximum(trait.absolute, trait.relative * np.abs(rising[1:]))
    classes = np.empty(len(numbers), np.int64)
    classes[order] = np.concatenate(([0], np.cumsum(parted)))
    return classes
