"""What the scans of a training set are like, measured case by case."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import prod
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from volseg.cases import read_case
from volseg.datasets import Case, Dataset
from volseg.errors import InputError, VolsegError, counted
from volseg.geometry import Grid, Shape
from volseg.labels import LabelTable
from volseg.package.fingerprint import ChannelPrint, Fingerprint, LabelPrint, Spread
from volseg.plan.spacing import orientation_codes
from volseg.preprocess.spatial import Orient, slice_axis
from volseg.resample import resample_label_map
from volseg.volume import AnyArray, LabelMap, Volume

SAMPLES_PER_CASE = 10_000
"""At most this many foreground voxels of a case are kept for the intensities."""

RANGE_SAMPLES = 1_000_000
"""Percentiles of a whole case are read from at most about this many of its voxels."""

_ALIKE = 0.9
_AIR_HU = -500
"""A CT shows air: some voxels lie below this."""

Progress = Callable[[int, int], None]
"""Called with how many cases were measured, of how many."""


@dataclass(frozen=True)
class _ChannelMeasure:
    """One channel of one case."""

    samples: AnyArray
    """Of the foreground, [N] float32."""
    lowest: float
    highest: float
    peak: float
    integer: bool


@dataclass(frozen=True)
class _CaseMeasure:
    """One case."""

    grid: Grid
    """Towards RAS."""
    nonzero_shape: Shape
    channels: list[_ChannelMeasure]
    components_ml: dict[int, list[float]]
    """Volumes of the connected pieces of each label that the case holds."""


def measure_fingerprint(
    cases: Sequence[Case], dataset: Dataset, *, progress: Progress | None = None
) -> Fingerprint:
    """Measure cases one after the other; no more than one is in memory.

    Args:
        cases: labelled cases of the dataset, at least one.
        dataset: says what channels and labels mean.
        progress: called after each case.

    Raises:
        InputError: a case cannot be read or has another number of channels than the dataset, or there is none.
    """
    if not cases:
        raise InputError("there is no labelled case to measure; a fingerprint needs at least one.")
    measures: list[_CaseMeasure] = []
    for number, case in enumerate(cases, start=1):
        measures.append(_measure(case, dataset))
        if progress is not None:
            progress(number, len(cases))
    names = dataset.channel_names()
    channels = [
        _channel_print(name, [measure.channels[index] for measure in measures], dataset.modality())
        for index, name in enumerate(names)
    ]
    modalities = {channel.modality for channel in channels}
    slices_last = slices_run_in_several_directions([measure.grid for measure in measures])
    orders = [_slices_last(measure.grid) if slices_last else (0, 1, 2) for measure in measures]
    shapes = [_ordered(m.grid.shape, order) for m, order in zip(measures, orders, strict=True)]
    spacings = [_ordered(m.grid.spacing_mm, order) for m, order in zip(measures, orders, strict=True)]
    nonzero = [_ordered(m.nonzero_shape, order) for m, order in zip(measures, orders, strict=True)]
    return Fingerprint(
        cases=len(cases),
        patients=len({case.patient or case.id for case in cases}),
        modality=modalities.pop() if len(modalities) == 1 else "",
        spacing_mm=_per_axis(spacings),
        shape=_per_axis(shapes),
        size_mm=_per_axis(list(map(_products, shapes, spacings))),
        nonzero_mm=_per_axis(list(map(_products, nonzero, spacings))),
        nonzero_fraction=spread(prod(m.nonzero_shape) / prod(m.grid.shape) for m in measures),
        slices_last=slices_last,
        channels=channels,
        labels=_label_prints(dataset.labels(), [m.components_ml for m in measures]),
    )


def spread(numbers: Iterable[float]) -> Spread:
    """Least, 10th percentile, median, 90th percentile and greatest of some numbers, to six digits."""
    points = np.percentile(np.array(list(numbers), dtype=np.float64), [0, 10, 50, 90, 100])
    least, low, median, high, most = (_rounded(point) for point in points)
    return Spread(least=least, low=low, median=median, high=high, most=most)


def _rounded(number: float) -> float:
    return float(f"{number:.6g}")


def _per_axis(rows: Sequence[Sequence[float]]) -> tuple[Spread, Spread, Spread]:
    first, second, third = (spread(row[axis] for row in rows) for axis in range(3))
    return first, second, third


def _measure(case: Case, dataset: Dataset) -> _CaseMeasure:
    try:
        volume, label_map = read_case(case)
        volume = Orient(codes="RAS")(volume)
        label_map = resample_label_map(label_map, volume.grid)
        return _measured(case, volume, label_map, dataset)
    except VolsegError as error:
        raise InputError(
            f"case {case.id} cannot be measured: {error} `volseg check` lists the problems of all cases at once."
        ) from error


def _measured(case: Case, volume: Volume, label_map: LabelMap, dataset: Dataset) -> _CaseMeasure:
    names = dataset.channel_names()
    if volume.channels != len(names):
        raise InputError(
            f"its image has {counted(volume.channels, 'channel')}; the collection has {len(names)}: {', '.join(names)}."
        )
    seed = int.from_bytes(sha256(case.id.encode()).digest()[:8], "big")
    places = _foreground_places(label_map.array, np.random.default_rng(seed))
    return _CaseMeasure(
        volume.grid,
        _nonzero_shape(volume),
        [_measure_channel(channel, places) for channel in volume.array],
        components_ml(label_map, dataset.labels()),
    )


def _foreground_places(labels: AnyArray, generator: np.random.Generator) -> npt.NDArray[np.intp]:
    """Flat indices [N] of voxels of labels, drawn without repetition where there are too many; all voxels if none is."""
    places = np.flatnonzero(labels)
    if not places.size:
        places = np.arange(0, labels.size, max(1, labels.size // SAMPLES_PER_CASE))
    if places.size > SAMPLES_PER_CASE:
        places = generator.choice(places, SAMPLES_PER_CASE, replace=False)
    return places


def _measure_channel(channel: AnyArray, places: npt.NDArray[np.intp]) -> _ChannelMeasure:
    """Numbers of one channel [I, J, K]."""
    flat = channel.reshape(-1)
    lowest, highest = float(flat.min()), float(flat.max())
    if not np.isfinite(lowest + highest):
        raise InputError("it holds NaN or infinity, which have no meaning as intensities.")
    some = flat[:: max(1, flat.size // RANGE_SAMPLES)].astype(np.float32)
    body = some[some != 0]
    low, high = np.percentile(body if body.size else some, [0.5, 99.5])
    peak = (highest - high) / (high - low) if high > low else 0.0
    integer = channel.dtype.kind in "iu" or bool((some == np.rint(some)).all())
    return _ChannelMeasure(flat[places].astype(np.float32), lowest, highest, float(peak), integer)


def _nonzero_shape(volume: Volume) -> Shape:
    """Extents of the smallest box that holds every voxel that is not zero in some channel; all where none is."""
    occupied = (volume.array != 0).any(axis=0)
    first, second, third = (
        _extent(occupied.any(axis=axes), occupied.shape[n]) for n, axes in enumerate(((1, 2), (0, 2), (0, 1)))
    )
    return first, second, third


def _extent(hit: AnyArray, whole: int) -> int:
    places = np.flatnonzero(hit)
    return int(places[-1] - places[0] + 1) if places.size else whole


def slices_run_in_several_directions(grids: Sequence[Grid]) -> bool:
    """Whether more than one case in ten has its slices along another axis than most, or the spacing does not tell that axis.

    Args:
        grids: of the cases, towards RAS. Where no axis is clearly coarser than up-down, slices run along that.
    """
    axes = [slice_axis(grid) for grid in grids]
    usual = max(set(axes), key=axes.count)
    median = np.median([grid.spacing_mm for grid in grids], axis=0)
    told = "RAS".index(orientation_codes(median.tolist())[2])
    return usual != told or axes.count(usual) < _ALIKE * len(axes)


def _slices_last(grid: Grid) -> tuple[int, ...]:
    axis = slice_axis(grid)
    return *(n for n in range(3) if n != axis), axis


def _ordered(values: Sequence[Any], order: tuple[int, ...]) -> tuple[Any, Any, Any]:
    first, second, third = (values[axis] for axis in order)
    return first, second, third


def _products(extents: Shape, spacing_mm: tuple[float, float, float]) -> list[float]:
    return [extent * step for extent, step in zip(extents, spacing_mm, strict=True)]


def components_ml(label_map: LabelMap, labels: LabelTable) -> dict[int, list[float]]:
    """Volumes in ml of the 26-connected pieces of each label that occurs, found inside the label's own box.

    Raises:
        InputError: a value that the table does not have.
    """
    array = label_map.array
    values = [int(value) for value in np.unique(array) if value != 0]
    unknown = sorted(set(values) - set(labels.values))
    if unknown:
        raise InputError(
            f"its label map holds {unknown}; the collection has the labels {list(labels.values)}."
        )
    voxel_ml = label_map.grid.voxel_volume_mm3 / 1000
    boxes = ndimage.find_objects(array.astype(np.int32, copy=False), max_label=max(values, default=0))
    pieces: dict[int, list[float]] = {}
    for value in values:
        mask = array[boxes[value - 1]] == value
        numbered, count = cast(tuple[AnyArray, int], ndimage.label(mask, structure=np.ones((3, 3, 3))))
        voxels = np.bincount(numbered.reshape(-1), minlength=count + 1)[1:]
        pieces[value] = [float(voxel_count) * voxel_ml for voxel_count in voxels]
    return pieces


def _channel_print(name: str, measures: Sequence[_ChannelMeasure], told: str) -> ChannelPrint:
    samples = np.concatenate([measure.samples for measure in measures]).astype(np.float64)
    low, median, high = (_rounded(point) for point in np.percentile(samples, [0.5, 50, 99.5]))
    lowest, highest = spread(m.lowest for m in measures), spread(m.highest for m in measures)
    integer = all(measure.integer for measure in measures)
    return ChannelPrint(
        name=name,
        mean=_rounded(samples.mean()),
        deviation=_rounded(samples.std()),
        low=low,
        median=median,
        high=high,
        integer=integer,
        lowest=lowest,
        highest=highest,
        peak=spread(m.peak for m in measures),
        modality=told or recognised_modality(name, lowest, highest, integer=integer),
    )


def recognised_modality(name: str, lowest: Spread, highest: Spread, *, integer: bool) -> str:
    """The DICOM modality of a channel from its name, else from its values; "" where neither tells.

    A channel called CT, MR, MRI, PET or US (alone or as a word of the name) is that. Values are Hounsfield units where all
    are whole numbers and nine cases of ten hold air (below -500) and something above water.
    """
    words = name.lower().replace("-", " ").replace("_", " ").split()
    for word, modality in _MODALITY_WORDS.items():
        if word in words:
            return modality
    if integer and lowest.high < _AIR_HU and highest.low > 0:
        return "CT"
    return "MR" if any(word.startswith(_MR_SEQUENCES) for word in words) else ""


_MODALITY_WORDS = {
    "ct": "CT", "cta": "CT", "cect": "CT", "hu": "CT", "mr": "MR", "mri": "MR",
    "pet": "PT", "pt": "PT", "suv": "PT", "us": "US", "ultrasound": "US",
}  # fmt: skip
_MR_SEQUENCES = ("t1", "t2", "flair", "adc", "dwi", "swi", "pd", "mprage", "cine", "lge")


def _label_prints(labels: LabelTable, cases: Sequence[dict[int, list[float]]]) -> list[LabelPrint]:
    prints: list[LabelPrint] = []
    for label in labels:
        pieces = [case[label.value] for case in cases if label.value in case]
        prints.append(
            LabelPrint(
                name=label.name,
                value=label.value,
                present=len(pieces),
                volume_ml=spread(map(sum, pieces)) if pieces else None,
                components=spread(map(len, pieces)) if pieces else None,
                component_ml=spread(volume for case in pieces for volume in case) if pieces else None,
                largest_share=spread(max(case) / sum(case) for case in pieces) if pieces else None,
            )
        )
    return prints
