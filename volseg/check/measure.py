"""One case, read once, file by file: what it holds in numbers, and what of it cannot be read or put together."""

from pathlib import Path

import numpy as np

from volseg.cases import fit_to_grid, read_channels, read_stored_labels, remapped
from volseg.check.facts import CaseFacts, ChannelFacts, Expected, LabelFacts, value_counts, voxel_digest
from volseg.check.report import Problem
from volseg.datasets import Case
from volseg.errors import FileFormatError, GeometryError, InputError, IntensityError, SeriesError
from volseg.geometry import Grid
from volseg.io import CHANNEL_GRID_TOLERANCE_MM, is_dicom_source
from volseg.io.formats import format_of
from volseg.volume import AnyArray, LabelMap, Volume


def measure_case(case: Case, expected: Expected) -> tuple[CaseFacts, list[Problem]]:
    """The facts of a case and what hindered reading it; no more than one file's voxels are held at a time.

    Args:
        case: a case of the collection.
        expected: what the collection says that the case holds; for the names of channels.

    Returns:
        Facts of all that could be read, and one problem for each thing that could not.
    """
    problems: list[Problem] = []
    grid: Grid | None = None
    channels: list[ChannelFacts] = []
    for number, path in enumerate(case.images):
        try:
            volume = read_channels(case, number)
        except InputError as error:
            problems.append(_unreadable(case, path, error))
            continue
        if grid is None:
            grid = volume.grid
        problems += _channel_grid(case, volume, grid)
        names = (expected.channel_name(len(channels) + n) for n in range(volume.channels))
        channels += [_channel(name, array) for name, array in zip(names, volume.array, strict=True)]
        del volume  # before the next is read
    is_whole = not problems
    label = _label(case, grid, problems)
    return CaseFacts(case, grid, tuple(channels), is_whole, label), problems


def _channel(name: str, array: AnyArray) -> ChannelFacts:
    return ChannelFacts(name, float(array.min()), float(array.max()), voxel_digest(array))


def _channel_grid(case: Case, volume: Volume, grid: Grid) -> list[Problem]:
    if volume.grid.is_same(grid, CHANNEL_GRID_TOLERANCE_MM):
        return []
    gap_mm = volume.grid.distance_mm(grid)
    found = (
        f"has shape {volume.grid.shape}, the first channel {grid.shape}"
        if volume.grid.shape != grid.shape
        else f"lies up to {gap_mm:.3f} mm from the first (allowed: {CHANNEL_GRID_TOLERANCE_MM} mm)"
    )
    advice = "Register the channels to each other, then resample them to one grid."
    return [Problem("error", case.id, "channel-grid", f"{volume.origin} {found}", advice)]


def _label(case: Case, grid: Grid | None, problems: list[Problem]) -> LabelFacts | None:
    """The facts of the label map; what is wrong is added to the problems."""
    if case.label is None:
        advice = "Add the label map, or take the case off the list."
        problems.append(Problem("error", case.id, "missing-label", "there is no label map", advice))
        return None
    is_dicom = case.label.is_file() and is_dicom_source(case.label)
    if grid is None and is_dicom:
        return None  # where its contours lie is told by the image
    try:
        stored = read_stored_labels(case, grid or Grid.from_spacing((1, 1, 1), (1, 1, 1)))
    except InputError as error:
        lies_elsewhere = is_dicom and isinstance(error, GeometryError)
        problems.append(
            Problem("error", case.id, "grid-mismatch", str(error))
            if lies_elsewhere
            else _unreadable(case, case.label, error, is_label=True)
        )
        return None
    if grid is None:
        return LabelFacts(value_counts(stored.array))
    return _fitted(case, stored, grid, problems)


def _fitted(case: Case, stored: LabelMap, grid: Grid, problems: list[Problem]) -> LabelFacts:
    counts = value_counts(stored.array)
    try:
        fitted = fit_to_grid(stored, grid, case=case)
    except GeometryError as error:
        has_other_shape = sorted(stored.grid.shape) != sorted(grid.shape)
        code = "wrong-shape" if has_other_shape else "grid-mismatch"
        problems.append(Problem("error", case.id, code, str(error).removeprefix(f"case {case.id}: ")))
        return LabelFacts(counts)
    is_reordered = fitted.array is not stored.array
    found = stored.grid.reoriented(grid.axis_codes) if is_reordered else stored.grid
    digest = voxel_digest(remapped(fitted, case.remap).array)
    return LabelFacts(counts, digest, found.distance_mm(grid), is_reordered)


def _unreadable(case: Case, path: Path, error: InputError, *, is_label: bool = False) -> Problem:
    """What keeps a file from being read, with a code that says of which kind it is."""
    if isinstance(error, SeriesError):
        code = error.reason
    elif isinstance(error, IntensityError):
        code = _unusable_voxels(path, is_label=is_label)
    elif isinstance(error, GeometryError):
        code = "unusable-position"
    elif isinstance(error, FileFormatError) or path.exists():
        code = "unreadable"
    else:
        code = "missing-file"
    return Problem("error", case.id, code, str(error))


def _unusable_voxels(path: Path, *, is_label: bool) -> str:
    """A second look at the voxels of a file that was refused for them."""
    kind = "label" if is_label else "intensity"
    image_format = None if is_dicom_source(path) else format_of(path)
    if image_format is None:
        return f"unusable-{kind}"
    try:
        array = image_format.read(path).array
    except InputError:  # colours and complex numbers
        return f"unusable-{kind}"
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return f"{kind}-not-finite"
    if array.shape[0] > 1 or not is_label:
        return f"unusable-{kind}"
    return "negative-label" if array.min() < 0 and _is_whole(array) else "fractional-label"


def _is_whole(array: AnyArray) -> bool:
    return array.dtype.kind != "f" or bool((np.rint(array) == array).all())
