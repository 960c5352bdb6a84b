"""Series out of a PACS, results into it: every instance accounted for, a short transfer is never silently short."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from volseg.errors import InputError, OutputError, few
from volseg.io.atomic import replacing
from volseg.io.pacs.instances import Instance, file_name, gather, is_uid
from volseg.io.pacs.server import FoundSeries, SeriesQuery, Server, discreet
from volseg.origin import FileRef

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What became of the files given to `store_files`."""

    stored: tuple[Instance, ...]
    left_out: tuple[FileRef, ...]
    """Files in the given folders that are no DICOM files."""


def find_series(server: Server, query: SeriesQuery) -> list[FoundSeries]:
    """The series that match, by study and series UID.

    Raises:
        InputError: the server cannot be reached or refuses, or a UID is none.
    """
    for uid in (query.study_uid, query.series_uid):
        if uid and not is_uid(uid):
            raise InputError(
                f"{uid!r} is no DICOM UID: expected numbers with dots between, such as 1.2.840.113."
            )
    with discreet():
        found = server.find(query)
    return sorted(found, key=lambda series: (series.study_uid, series.series_uid))


def fetch_series(server: Server, series_uid: str, folder: Path, *, study_uid: str = "") -> list[Path]:
    """Fetch one series into a folder, one file <SOPInstanceUID>.dcm for each instance.

    The folder is made if need be. Older files of the same names are replaced, others are left alone.

    Args:
        server: the PACS.
        series_uid: SeriesInstanceUID.
        folder: where the files go.
        study_uid: StudyInstanceUID; needed only where the server cannot search without it.

    Returns:
        The files, by name.

    Raises:
        InputError: no such series, no connection, or fewer instances arrived than the server says it has; those that
            arrived stay in the folder.
        OutputError: the files cannot be written.
    """
    series = _only_series(server, series_uid, study_uid)
    _make_folder(folder)
    kept: dict[str, Path] = {}
    foreign: set[str] = set()
    problem = ""

    def keep(sop_uid: str, content: bytes) -> None:
        sop_uid = sop_uid.strip("\0 ")
        if sop_uid not in listed:
            foreign.add(sop_uid)
            return
        path = folder / file_name(sop_uid)
        with replacing(path) as part:
            part.write_bytes(content)
        kept[sop_uid] = path

    with discreet():
        listed = server.instances(series)
        classes = tuple(sorted(set(listed.values()) - {""}))
        try:
            server.fetch(replace(series, sop_classes=classes), keep)
        except InputError as error:
            problem = str(error)
    if foreign:
        _LOGGER.warning(
            "%s also sent %d instances that are not of this series; left out.", server, len(foreign)
        )
    expected = max(len(listed), series.instances or 0)
    if len(kept) < expected or not kept:
        raise InputError(
            f"{server}: {expected - len(kept)} of the {expected} instances of series {series_uid} did not arrive; "
            f"{folder} has the {len(kept)} others, and is not the whole series. "
            f"{problem or 'The server sent no more and gave no reason. Fetch the series again.'}"
        )
    return sorted(kept.values())


def _only_series(server: Server, series_uid: str, study_uid: str) -> FoundSeries:
    found = find_series(server, SeriesQuery(study_uid=study_uid, series_uid=series_uid))
    found = [series for series in found if series.series_uid == series_uid]
    if not found:
        place = f" in study {study_uid}" if study_uid else ""
        raise InputError(
            f"{server} has no series {series_uid}{place}. `volseg pacs find` lists what it has; some servers find "
            "a series only if its study is named as well."
        )
    studies = sorted({series.study_uid for series in found})
    if len(studies) > 1:
        raise InputError(
            f"{server} has series {series_uid} in {len(studies)} studies: {few(studies, 3)}. Name one of them."
        )
    return found[0]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made a folder: {error.strerror}. Choose another.") from error


def store_files(server: Server, sources: Sequence[Path]) -> StoreReport:
    """Send DICOM files to a PACS, in the transfer syntax they are stored in.

    Args:
        server: the PACS.
        sources: files, folders (all files below them) and zip archives.

    Raises:
        InputError: a source is not there or no DICOM file, or the server cannot be reached.
        OutputError: some files were not stored; the others are in the PACS.
    """
    with discreet():
        instances, others = gather(sources)
        if not instances:
            raise InputError(
                f"{few([str(s) for s in sources], 3)}: no DICOM file in there. Nothing was sent."
            )
        stored: list[Instance] = []
        failures: list[tuple[Instance, str]] = []
        problem = ""
        try:
            for instance, reason in server.store(instances):
                if reason:
                    failures.append((instance, reason))
                else:
                    stored.append(instance)
        except InputError as error:
            if not stored and not failures:
                raise
            problem = f" Then the transfer ended: {error}"
    missing = len(instances) - len(stored)
    if missing:
        reasons = [f"{instance.file} ({reason})" for instance, reason in failures]
        raise OutputError(
            f"{server}: {missing} of {len(instances)} files were not stored; the other {len(stored)} were."
            + (f" Refused: {few(reasons, 3)}." if reasons else "")
            + problem
        )
    return StoreReport(tuple(stored), tuple(others))
