"""From a stack of DICOM frames to a volume, and from a folder to the one volume it holds."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from volseg.errors import SeriesError, counted, few
from volseg.io.dicom.files import is_dicom
from volseg.io.dicom.frame import Dropped, Reason, Stack
from volseg.io.dicom.gaps import fill_planes
from volseg.io.dicom.index import SeriesSummary, index_series
from volseg.io.dicom.pixels import read_planes
from volseg.io.dicom.selection import select_series
from volseg.io.dicom.summary import count_reasons, stack_notes
from volseg.origin import DicomSource, FileRef, Origin
from volseg.volume import Volume

_logger = logging.getLogger(__name__)

_SEGMENTATIONS = frozenset(("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"))

_DAMAGED = frozenset({Reason.UNREADABLE, Reason.TRUNCATED, Reason.CORRUPT})
_SUSPECT = _DAMAGED | {Reason.NOT_DICOM}
"""What may have been a slice, if it lies beside slices."""


def read_series(
    source: str | Path, *, series: str | None = None, allow_gaps: bool = False, join: bool = False
) -> Volume:
    """The one volume of a folder, zip, DICOMDIR or DICOM file.

    Args:
        source: a folder (searched to any depth), a zip archive, a DICOMDIR or a DICOM file.
        series: which one, where there are several: a key of index_series, a series UID or the ending of one.
        allow_gaps: fill missing and irregular slices by linear interpolation; the origin's notes record it.
        join: put series together that are one volume sent under several UIDs.

    Returns:
        As read_stack.

    Raises:
        InputError: there is no such file, or no permission to read it.
        FileFormatError: nothing in it is DICOM.
        SeriesError: no series can be read, or several could be meant; `reason` is the code.
    """
    summaries = index_series(source, join=join, allow_gaps=allow_gaps)
    return read_summary(select_series(summaries, Path(source), series), summaries)


def read_summary(chosen: SeriesSummary, summaries: Sequence[SeriesSummary]) -> Volume:
    """The volume of one line of an index; as read_stack, which is told what was set aside around it."""
    if chosen.stack is None:
        raise SeriesError(f"the series {chosen.key} holds no image: {chosen.text}.", reason=chosen.reason)
    own = [
        dropped
        for summary in summaries
        if summary.series_uid in ("", chosen.series_uid)
        for dropped in summary.dropped
        if summary.series_uid or dropped.reason in _SUSPECT
    ]
    return read_stack(chosen.stack, own)


def read_stack(stack: Stack, dropped: Sequence[Dropped] = ()) -> Volume:
    """Read the pixels of a stack.

    Args:
        stack: sorted frames with their grid.
        dropped: what was set aside of the series, and damaged files of no known series: those in the stack's folders
            may be slices of it, which is warned about.

    Returns:
        array [1, I, J, K], I columns, J rows, K slices, rescaled (Hounsfield units in CT), int16, int32 or float32; a
        view whose first axis is fastest. The grid is that of the positions, sheared where the gantry was tilted. The
        origin has the common folder (or archive or file) and the planes' files and slice indices.

    Raises:
        SeriesError: the stack is refused, or the pixels of a file cannot be read; the message names it.
    """
    if stack.refusal is not None or stack.grid is None:
        found = stack.refusal
        raise SeriesError(
            found.text if found else "the series has no grid.",
            reason=found.reason.value if found else "refused",
        )
    planes = read_planes(stack.frames)
    slices = np.array(stack.slices, dtype=np.float64)
    count = stack.grid.shape[2]
    if not np.array_equal(slices, np.arange(count)):
        planes = fill_planes(planes, stack.slices, count)
    path = _common_path([frame.file for frame in stack.frames])
    warnings = [*stack.notes, *_damaged_beside(stack, dropped)]
    for warning in warnings:
        _logger.warning("%s: %s", path, warning)
    others = [item for item in dropped if item.reason not in _SUSPECT]
    values = [note for note in stack_notes(stack) if note not in warnings]
    notes = (*warnings, *values, *([f"set aside: {count_reasons(others)}"] if others else []))
    first = stack.frames[0]
    origin = Origin(
        path,
        series_uid=first.series.series_uid,
        modality=first.series.modality or None,
        dicom=DicomSource(
            files=tuple(frame.file for frame in stack.frames),
            frames=tuple(frame.number for frame in stack.frames),
            slices=slices,
            notes=notes,
        ),
    )
    return Volume(planes.transpose(2, 1, 0)[np.newaxis], stack.grid, origin)


def is_segmentation(path: Path) -> bool:
    """Whether a file is a DICOM SEG (PS3.3 A.51 and A.101), by its header."""
    if not path.is_file() or not is_dicom(path):
        return False
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=["SOPClassUID"])
    except (InvalidDicomError, OSError, ValueError, EOFError):
        return False
    return header.get("SOPClassUID", "") in _SEGMENTATIONS


def _damaged_beside(stack: Stack, dropped: Sequence[Dropped]) -> list[str]:
    """A note on the damaged files of the series, and on those of no known series in the stack's own folders."""
    folders = {_folder(frame.file) for frame in stack.frames}
    damaged = [
        item
        for item in dropped
        if (item.reason in _DAMAGED or _is_lost_slice(item))
        and ((item.series is not None and item.series.series_uid) or _folder(item.file) in folders)
    ]
    if not damaged:
        return []
    names = few([str(item.file) for item in damaged], 3)
    return [f"{counted(len(damaged), 'damaged file')} beside the series may be slices of it: {names}"]


def _is_lost_slice(item: Dropped) -> bool:
    """Whether a file that is no DICOM may have been one: it is empty, or named so."""
    if item.reason is not Reason.NOT_DICOM:
        return False
    path = item.file.path
    return path.suffix.lower() == ".dcm" or (
        not item.file.member and path.exists() and not path.stat().st_size
    )


def _folder(file: FileRef) -> tuple[Path, str]:
    if file.member:
        return file.path, str(PurePosixPath(file.member).parent)
    return file.path.parent, ""


def _common_path(files: Sequence[FileRef]) -> Path:
    paths = {file.path for file in files}
    if len(paths) == 1:
        return paths.pop()
    return Path(os.path.commonpath({str(path.parent) for path in paths}))
