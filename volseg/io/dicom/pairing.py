"""Which volume of a folder each SEG or RTSTRUCT in it annotates, told by the UIDs in the headers."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from volseg.errors import FileFormatError
from volseg.io.dicom.annotations import Annotation, find_annotations, read_annotation
from volseg.io.dicom.index import SeriesSummary, index_series


class Pair(NamedTuple):
    """A volume and what annotates it."""

    volume: SeriesSummary
    annotation: Annotation
    source: Path
    """The smallest folder that holds all files of the series: reading it need not look through the whole export."""


@dataclass(frozen=True, eq=False)
class Pairing:
    """The volumes and annotations of a folder."""

    pairs: tuple[Pair, ...]
    """By key of the series; volumes that exactly one annotation refers to."""
    unpaired: tuple[SeriesSummary, ...]
    """Volumes that nothing refers to."""
    problems: tuple[str, ...]
    """What belongs to no volume, or to several, in words."""


def pair_annotations(root: Path) -> Pairing:
    """Match the SEG and RTSTRUCT files of a folder with its series; from headers alone.

    Raises:
        InputError: there is no such folder, or it may not be read.
    """
    summaries = index_series(root)
    volumes = [summary for summary in summaries if summary.verdict == "ok"]
    found: dict[str, list[Annotation]] = {}
    problems: list[str] = []
    for path in find_annotations(root):
        try:
            annotation = read_annotation(path)
        except FileFormatError as error:
            problems.append(str(error).rstrip("."))
            continue
        meant = _meant(annotation, volumes)
        if len(meant) == 1:
            found.setdefault(meant[0].key, []).append(annotation)
        else:
            problems.append(f"{path} {_why_not(annotation, meant, summaries)}")
    problems += [
        f"{' and '.join(str(annotation.path) for annotation in annotations)} refer to one volume"
        for annotations in found.values()
        if len(annotations) > 1
    ]
    return Pairing(
        pairs=tuple(
            Pair(volume, found[volume.key][0], smallest_source(volume, summaries, root))
            for volume in sorted(volumes, key=lambda volume: volume.key)
            if len(found.get(volume.key, ())) == 1
        ),
        unpaired=tuple(volume for volume in volumes if volume.key not in found),
        problems=tuple(problems),
    )


def _meant(annotation: Annotation, volumes: Sequence[SeriesSummary]) -> list[SeriesSummary]:
    """The volumes that an annotation refers to: by image, where it names images, else by series, else by space."""
    if annotation.instances or annotation.series:
        by_image = [volume for volume in volumes if annotation.instances & _images(volume)]
        return by_image or [volume for volume in volumes if volume.series_uid in annotation.series]
    space = annotation.frame_of_reference
    return [volume for volume in volumes if space and space in _spaces(volume)]


def _images(volume: SeriesSummary) -> frozenset[str]:
    return frozenset(frame.sop_uid for frame in volume.stack.frames) if volume.stack else frozenset()


def _spaces(volume: SeriesSummary) -> frozenset[str]:
    frames = volume.stack.frames if volume.stack else ()
    return frozenset(frame.frame_of_reference for frame in frames)


def _why_not(
    annotation: Annotation, meant: Sequence[SeriesSummary], summaries: Sequence[SeriesSummary]
) -> str:
    """Why not exactly one volume is meant."""
    if meant:
        return f"refers to {len(meant)} volumes ({', '.join(volume.key for volume in meant)})"
    if not annotation.series and not annotation.instances:
        return "refers to no series"
    refused = [summary for summary in summaries if summary.series_uid in annotation.series]
    if refused:
        return f"refers to a series that cannot be read ({refused[0].text.rstrip('.')})"
    return f"refers to the series {' and '.join(annotation.series) or '(by its images)'}, which is not there"


def smallest_source(volume: SeriesSummary, summaries: Sequence[SeriesSummary], root: Path) -> Path:
    """The smallest folder that holds all files of a volume's series; the root where they are in archives or have no UID.

    Args:
        volume: one line of an index.
        summaries: the whole index.
        root: what was indexed.
    """
    same = [other for other in summaries if other.series_uid == volume.series_uid]
    files = [file for other in same for file in (*other.files, *(gone.file for gone in other.dropped))]
    if not volume.series_uid or any(file.member for file in files):
        return root
    return Path(os.path.commonpath([file.path.parent for file in files]))
