"""What lies in a folder of DICOM files: each series and volume, whether it can be read, and every file accounted for.

Only headers are read. Files stream through a few threads with a short queue, so that what is held is one small record
for each frame: 100,000 one-frame files in 500 series were indexed within 150 MiB of resident memory.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from volseg.errors import SeriesError, counted, few
from volseg.io.dicom.files import find_files
from volseg.io.dicom.frame import Dropped, Frame, Reason, Refusal, Stack
from volseg.io.dicom.grouping import split_stacks
from volseg.io.dicom.header import read_frames
from volseg.io.dicom.joining import join_series
from volseg.io.dicom.pixels import content_key, refuse_pixels
from volseg.io.dicom.summary import (
    DividedSeries,
    FileFate,
    SeriesSummary,
    file_fates,
    series_order,
    summarise_series,
    summarise_strays,
)
from volseg.origin import FileRef

__all__ = ["FileFate", "SeriesSummary", "file_fates", "index_series"]

_COLLISIONS = (Reason.REPEATED_POSITIONS, Reason.INTERLEAVED)

_DAMAGE = (Reason.UNREADABLE, Reason.TRUNCATED, Reason.CORRUPT)

_LOOK_AHEAD = 4
"""Files waiting for each thread."""


def index_series(
    root: str | Path,
    *,
    join: bool = False,
    allow_gaps: bool = False,
    workers: int = 8,
    progress: Callable[[int], None] | None = None,
) -> list[SeriesSummary]:
    """Every volume of every series below a folder, in a zip, a DICOMDIR or a file; from headers alone.

    Pixels are looked at only where two planes lie at one position, to tell copies from other images.

    Args:
        root: a folder (searched to any depth), a zip archive, a DICOMDIR or one DICOM file.
        join: put series together that are one volume sent under several UIDs (see join_series).
        allow_gaps: accept missing and irregular slices; they are filled by resampling when the volume is read. Also
            accept a series that lost files to damage.
        workers: threads that read headers.
        progress: called with the number of files read so far.

    Returns:
        Ordered by patient, study, series number, UID and volume. Each file found is in exactly one place: in the
        stacks of `stack` or in `dropped`; the frames of one file may be in several stacks.

    Raises:
        InputError: there is no such file or folder, or no permission to read it.
    """
    frames: dict[str, list[Frame]] = {}
    strays: list[Dropped] = []
    for count, found in enumerate(_headers(find_files(Path(root)), workers), start=1):
        if isinstance(found, Dropped):
            strays.append(found)
        else:
            for frame in found:
                frames.setdefault(frame.series.series_uid, []).append(frame)
        if progress is not None:
            progress(count)
    groups = [part for group in frames.values() for part in _by_patient(group)]
    divided = _joined(groups, allow_gaps) if join else [_divide(group, allow_gaps) for group in groups]
    strays = _given_home(strays, divided)
    divided = divided if allow_gaps else [_without_losses(group) for group in divided]
    divided.sort(key=lambda group: series_order(group.text))
    summaries = summarise_series(divided)
    return [*summaries, summarise_strays(strays)] if strays else summaries


def _given_home(strays: list[Dropped], divided: list[DividedSeries]) -> list[Dropped]:
    """Move what names a series to that series (one without stacks where there is none yet); returns the rest."""
    homes = {uid: group for group in divided for uid in group.uids}
    rest: list[Dropped] = []
    for stray in strays:
        if stray.series is None or not stray.series.series_uid:
            rest.append(stray)
            continue
        uid = stray.series.series_uid
        if uid not in homes:
            homes[uid] = DividedSeries(stray.series, [], [], frozenset((uid,)))
            divided.append(homes[uid])
        homes[uid].dropped.append(stray)
    return rest


def _headers(files: Iterable[FileRef], workers: int) -> Iterator[list[Frame] | Dropped]:
    """The headers in the order of the files, read a few files ahead."""
    waiting: deque[Future[list[Frame] | Dropped]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="dicom-header") as pool:
        for file in files:
            waiting.append(pool.submit(read_frames, file))
            if len(waiting) > _LOOK_AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _by_patient(frames: list[Frame]) -> list[list[Frame]]:
    """The frames of one series UID, by patient: careless anonymisation gives one UID to two.

    A study that alone changes inside a series was merged, and divides nothing, unless the series has no UID.
    """
    groups: dict[tuple[str, str], list[Frame]] = {}
    for frame in frames:
        text = frame.series
        groups.setdefault((text.patient, "" if text.series_uid else text.study_uid), []).append(frame)
    return [groups[key] for key in sorted(groups)]


def _divide(frames: list[Frame], allow_gaps: bool) -> DividedSeries:
    frames.sort(key=lambda frame: (frame.file, frame.number))
    text = min((frame.series for frame in frames), key=series_order)
    uids = frozenset((text.series_uid,))
    try:
        stacks, dropped = split_stacks(frames, content=content_key, allow_gaps=allow_gaps)
    except SeriesError as error:  # pixels that had to be compared cannot be read; the other series still can
        return DividedSeries(text, [Stack(tuple(frames), refusal=_refusal(error))], [], uids)
    return DividedSeries(text, [_decodable(stack) for stack in stacks], list(dropped), uids)


def _decodable(stack: Stack) -> Stack:
    """A stack whose pixels cannot be read is refused now, as far as headers tell."""
    refusal = stack.refusal or refuse_pixels(stack.frames)
    return stack if refusal is None else replace(stack, refusal=refusal, grid=None, slices=(), notes=())


def _without_losses(group: DividedSeries) -> DividedSeries:
    """A series that lost a file to damage is refused: at its end, a missing slice would not be seen by the gap."""
    torn = [item for item in group.dropped if item.reason in _DAMAGE]
    if not torn:
        return group
    text = (
        f"{counted(len(torn), 'file')} of the series cannot be read, and slices may be lost with them: "
        f"{few([f'{item.file} ({item.text})' for item in torn], 3)} Copy or export them again, or allow gaps "
        "(--allow-gaps) to use the rest."
    )
    stacks = [
        stack
        if stack.refusal
        else replace(stack, refusal=Refusal(torn[0].reason, text), grid=None, slices=())
        for stack in group.stacks
    ]
    return replace(group, stacks=stacks)


def _joined(groups: list[list[Frame]], allow_gaps: bool) -> list[DividedSeries]:
    """Joined where the planes of several series do not collide; where they do, the series are left apart."""
    divided: list[DividedSeries] = []
    for joined in join_series(groups):
        if len(joined) == 1:
            divided.append(_divide(joined[0], allow_gaps))
            continue
        frames = list(itertools.chain.from_iterable(joined))
        text = min((frame.series for frame in frames), key=series_order)
        # As parts of one series: which of them a plane came in must not tell it from the others.
        whole = _divide([replace(frame, series=text) for frame in frames], allow_gaps)
        if any(stack.refusal and stack.refusal.reason in _COLLISIONS for stack in whole.stacks):
            divided += [_divide(group, allow_gaps) for group in joined]
        else:
            uids = frozenset(group[0].series.series_uid for group in joined)
            divided.append(replace(whole, uids=uids))
    return divided


def _refusal(error: SeriesError) -> Refusal:
    known = {reason.value for reason in Reason}
    return Refusal(Reason(error.reason) if error.reason in known else Reason.CORRUPT, str(error))
