"""Which volume of an index is meant: by its key, or because there is only one that can be."""

from collections.abc import Sequence
from pathlib import Path

from volseg.errors import FileFormatError, SeriesError, few
from volseg.io.dicom.frame import Reason
from volseg.io.dicom.index import SeriesSummary
from volseg.io.dicom.pixels import content_key

_LISTED = 12
"""Candidates named in one message."""

_NO_RIVALS = frozenset({Reason.COLOUR.value, Reason.SCREENSHOT.value})
"""Refused for what they are: nobody means a colour rendering when asking for a scan."""


def select_series(
    summaries: Sequence[SeriesSummary], source: Path, series: str | None = None
) -> SeriesSummary:
    """The volume that is meant.

    Args:
        summaries: the index of the source.
        source: the folder, archive or file, for messages.
        series: a key, a series UID or the ending of one that fits a single series; None takes the only volume.

    Raises:
        FileFormatError: nothing in the source is DICOM.
        SeriesError: none or several fit ("ambiguous", "unknown-series"), or the one that fits is refused (its code).
    """
    if series is not None:
        return _with_key(summaries, source, series)
    candidates = distinct_volumes(usable_series(summaries, source))
    if len(candidates) > 1:
        raise ambiguous(source, candidates)
    refuse_rivals(summaries, candidates[0], source)
    return candidates[0]


def usable_series(summaries: Sequence[SeriesSummary], source: Path) -> list[SeriesSummary]:
    """The volumes that can be read, at least one.

    Raises:
        FileFormatError: nothing in the source is DICOM.
        SeriesError: every series is refused; the code is that of the largest.
    """
    usable = [summary for summary in summaries if summary.verdict == "ok"]
    if usable:
        return usable
    dropped = [item for summary in summaries for item in summary.dropped]
    refused = sorted(
        (summary for summary in summaries if summary.verdict == "refused"), key=lambda s: -s.slices
    )
    if refused:
        lines = [f"{series_title(summary)}: {summary.text}" for summary in refused]
        raise SeriesError(f"{source}: no series can be read. {few(lines, 3)}", reason=refused[0].reason)
    told = [item for item in dropped if item.reason != Reason.NOT_DICOM]
    if not told:
        raise FileFormatError(nothing_dicom(source))
    raise SeriesError(
        f"{source}: there is no image series among {len(dropped)} files. "
        f"{few([f'{item.file}: {item.text}' for item in told], 3)}",
        reason=told[0].reason.value,
    )


def distinct_volumes(candidates: Sequence[SeriesSummary]) -> list[SeriesSummary]:
    """Candidates without re-sent copies: of those with the same voxels on the same grid the first stays."""
    distinct: list[SeriesSummary] = []
    for candidate in candidates:
        if not any(_is_copy(candidate, other) for other in distinct):
            distinct.append(candidate)
    return distinct


def refuse_rivals(summaries: Sequence[SeriesSummary], chosen: SeriesSummary, source: Path) -> None:
    """A small volume is not taken because the large one beside it cannot be read.

    Raises:
        SeriesError: a refused series has at least as many slices; the code is its own.
    """
    rivals = [
        summary
        for summary in summaries
        if summary.verdict == "refused"
        and summary.slices >= chosen.slices
        and summary.reason not in _NO_RIVALS
    ]
    if rivals:
        rival = max(rivals, key=lambda summary: summary.slices)
        raise SeriesError(
            f"{source}: the series {series_title(rival)} cannot be read: {rival.text} If another is meant, "
            f"name it with --series: {series_title(chosen)}, --series {chosen.key}",
            reason=rival.reason,
        )


def ambiguous(source: Path, candidates: Sequence[SeriesSummary], why: str = "") -> SeriesError:
    """The error for several candidates; it lists them with what to type."""
    listed = few([f"{series_title(summary)}, --series {summary.key}" for summary in candidates], _LISTED)
    return SeriesError(
        f"{source} holds {len(candidates)} volumes that could be meant{why}; choose one with --series KEY (an ending "
        f"that fits only one is enough): {listed}",
        reason="ambiguous",
    )


def series_title(summary: SeriesSummary) -> str:
    """A series for people: modality, description, trait, shape and spacing; nothing of the patient."""
    parts = [summary.modality or "series", f"'{summary.description}'" if summary.description else ""]
    parts += [f"({summary.trait})" if summary.trait else ""]
    if summary.shape is not None:
        parts.append(" x ".join(str(extent) for extent in summary.shape))
    if summary.spacing_mm is not None:
        parts.append(f"at {' x '.join(f'{step:.3g}' for step in summary.spacing_mm)} mm")
    return " ".join(part for part in parts if part)


def nothing_dicom(source: Path) -> str:
    """The message for a folder, archive or file without DICOM."""
    kind = "a folder" if source.is_dir() else "an archive" if source.suffix.lower() == ".zip" else "a file"
    if kind == "a file":
        return f"{source} is no DICOM file that could be read; expected an image file or a DICOM series."
    return (
        f"{source} is {kind}; expected an image file, or {kind} of DICOM files, and none is in it. "
        "Give the image itself, such as scan.nii.gz, or the folder of the series."
    )


def _with_key(summaries: Sequence[SeriesSummary], source: Path, wanted: str) -> SeriesSummary:
    named = [summary for summary in summaries if summary.key]
    exact = [summary for summary in named if wanted and wanted in (summary.key, summary.series_uid)]
    found = exact or [summary for summary in named if wanted and summary.key.endswith(wanted)]
    if not found:
        listed = few([f"{series_title(summary)}, {summary.key}" for summary in named], _LISTED)
        raise SeriesError(
            f"{source}: no series has the key or ending '{wanted}'. There are: {listed or 'none'}",
            reason="unknown-series",
        )
    if len(found) > 1:
        raise ambiguous(source, found, f" by '{wanted}'")
    if found[0].verdict != "ok":
        raise SeriesError(
            f"{source}: the series {series_title(found[0])} is {found[0].verdict}: {found[0].text}",
            reason=found[0].reason,
        )
    return found[0]


def _is_copy(first: SeriesSummary, other: SeriesSummary) -> bool:
    one, two = first.stack, other.stack
    if one is None or two is None or one.grid is None or two.grid is None:
        return False
    if one.slices != two.slices or not one.grid.is_same(two.grid):
        return False
    return len(one.frames) == len(two.frames) and all(
        content_key(a) == content_key(b) for a, b in zip(one.frames, two.frames, strict=True)
    )
