"""Series that may be one volume sent under several UIDs."""

from collections.abc import Iterable

import numpy as np

from volseg.io.dicom.frame import Frame

SAME_DIRECTION = 1e-2
"""Cosines of one orientation differ by less than this; the exact check is that of the stack."""

SAME_SPACING_MM = 1e-3
"""Pixel spacings of one matrix differ by less than this."""


def join_series(groups: Iterable[list[Frame]]) -> list[list[list[Frame]]]:
    """Put the groups together that could be parts of one volume.

    Parts of one volume share study, frame of reference (which must be given), modality, matrix, pixel spacing and
    orientation.

    Args:
        groups: the frames of each series.

    Returns:
        Lists of groups; a group that fits no other is alone in its list.
    """
    joined: list[list[list[Frame]]] = []
    for group in groups:
        for others in joined:
            if _may_be_one(others[0][0], group[0]):
                others.append(group)
                break
        else:
            joined.append([group])
    return joined


def _may_be_one(first: Frame, other: Frame) -> bool:
    if not first.frame_of_reference or first.orientation is None or other.orientation is None:
        return False
    return (
        _words(first) == _words(other)
        and np.allclose(first.orientation, other.orientation, rtol=0, atol=SAME_DIRECTION)
        and first.pixel_spacing is not None
        and other.pixel_spacing is not None
        and np.allclose(first.pixel_spacing, other.pixel_spacing, rtol=0, atol=SAME_SPACING_MM)
    )


def _words(frame: Frame) -> tuple[str, str, str, int, int]:
    series = frame.series
    return series.study_uid, frame.frame_of_reference, series.modality, frame.rows, frame.columns
