"""What an index says of each volume found, and what became of each file."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from volseg.geometry import Shape
from volseg.io.dicom.contrast import contrast_of
from volseg.io.dicom.frame import Dropped, SeriesText, Stack
from volseg.origin import FileRef

NO_UID = "no-uid"
"""Stands in a key for the UID of a series that has none."""


@dataclass(frozen=True, eq=False)
class SeriesSummary:
    """One volume of a series, or a series without any; the last one of an index may hold files of no series."""

    key: str
    """The series' UID (NO_UID where it has none), with "#1", "#2" ... where it has several volumes; empty for files of no series."""
    patient: str
    """A pseudonym such as "patient 1"; empty for files of no series."""
    study: str
    """A pseudonym such as "study 1", numbered across all patients."""
    study_uid: str
    series_uid: str
    modality: str
    description: str
    body_part: str
    contrast: str
    """See volseg.io.dicom.contrast; empty when unsure."""
    trait: str
    """What sets the volume apart from the others of its series."""
    slices: int
    """Planes found: more or fewer than shape[2] where gaps were filled."""
    shape: Shape | None
    """Columns, rows, slices; None without a frame."""
    spacing_mm: tuple[float, float, float] | None
    """None unless the verdict is "ok"."""
    verdict: str
    """"ok", "refused" or "skipped" (nothing that could be a slice)."""
    reason: str
    """The code of the refusal, or the most frequent reason for which files were set aside; empty if ok."""
    text: str
    """The reason in words, or what a reader of an ok volume should know."""
    dropped: tuple[Dropped, ...] = field(default=(), repr=False)
    """What is used for nothing; listed with the first volume of the series."""
    stack: Stack | None = field(default=None, repr=False)

    @property
    def files(self) -> tuple[FileRef, ...]:
        """The files whose frames make up the volume, each once, in the order of the slices."""
        return tuple(dict.fromkeys(frame.file for frame in self.stack.frames)) if self.stack else ()


@dataclass(frozen=True)
class FileFate:
    """What became of one file (or of one frame, where the others of its file went elsewhere)."""

    file: FileRef
    frame: int | None
    key: str
    """The volume it belongs to; empty where it is used for nothing."""
    reason: str
    """Why it is used for nothing, or why its volume is refused; empty where it is used."""
    text: str


@dataclass(frozen=True, eq=False)
class DividedSeries:
    """The frames of one series (or of joined ones), divided into stacks."""

    text: SeriesText
    stacks: Sequence[Stack]
    dropped: list[Dropped]
    uids: frozenset[str]
    """The UIDs of the series: one, or those that were joined."""


def file_fates(summaries: Sequence[SeriesSummary]) -> list[FileFate]:
    """What became of every file of an index, ordered by file."""
    fates = [
        FileFate(file, None, summary.key, summary.reason, summary.text if summary.reason else "")
        for summary in summaries
        for file in summary.files
    ]
    fates += [
        FileFate(dropped.file, dropped.frame, "", dropped.reason.value, dropped.text)
        for summary in summaries
        for dropped in summary.dropped
    ]
    return sorted(fates, key=lambda fate: (fate.file, -1 if fate.frame is None else fate.frame, fate.key))


def series_order(text: SeriesText) -> tuple[str, str, int, str, str]:
    """Patient, study, series number, UID."""
    number = text.series_number.strip()
    return text.patient, text.study_uid, int(number) if number.isdecimal() else -1, number, text.series_uid


def summarise_series(divided: Sequence[DividedSeries]) -> list[SeriesSummary]:
    """One summary for each stack, and one for each series without any; pseudonyms are given in this order."""
    patients: dict[str, str] = {}
    studies: dict[tuple[str, str], str] = {}
    totals: Counter[str] = Counter()
    for group in divided:
        totals[group.text.series_uid] += max(1, len(group.stacks))
    volumes: Counter[str] = Counter()
    summaries: list[SeriesSummary] = []
    for group in divided:
        text = group.text
        patient = patients.setdefault(text.patient, f"patient {len(patients) + 1}")
        study = studies.setdefault((text.patient, text.study_uid), f"study {len(studies) + 1}")
        stacks: list[Stack | None] = list(group.stacks) or [None]
        for position, stack in enumerate(stacks):
            volumes[text.series_uid] += 1
            number = f"#{volumes[text.series_uid]}" if totals[text.series_uid] > 1 else ""
            summaries.append(
                SeriesSummary(
                    key=(text.series_uid or NO_UID) + number,
                    patient=patient,
                    study=study,
                    study_uid=text.study_uid,
                    series_uid=text.series_uid,
                    modality=text.modality,
                    description=text.description or text.protocol,
                    body_part=text.body_part,
                    contrast=contrast_of(stack.frames) if stack else "",
                    trait=stack.trait if stack else "",
                    slices=len(stack.frames) if stack else 0,
                    shape=_shape(stack) if stack else None,
                    spacing_mm=stack.grid.spacing_mm if stack and _is_ok(stack) and stack.grid else None,
                    **_verdict(stack, group.dropped),
                    dropped=() if position else tuple(group.dropped),
                    stack=stack,
                )
            )
    return summaries


def _is_ok(stack: Stack) -> bool:
    return stack.refusal is None and stack.grid is not None


def _shape(stack: Stack) -> Shape:
    if stack.grid is not None:
        return stack.grid.shape
    return stack.frames[0].columns, stack.frames[0].rows, len(stack.frames)


def _verdict(stack: Stack | None, dropped: Sequence[Dropped]) -> dict[str, str]:
    if stack is None:
        return {"verdict": "skipped", "reason": _most_frequent(dropped), "text": count_reasons(dropped)}
    if stack.refusal is not None:
        return {"verdict": "refused", "reason": stack.refusal.reason.value, "text": stack.refusal.text}
    return {"verdict": "ok", "reason": "", "text": "; ".join(stack_notes(stack))}


def stack_notes(stack: Stack) -> tuple[str, ...]:
    """What a reader of the volume should know: of its geometry, then of its values."""
    return tuple(dict.fromkeys((*stack.notes, *(note for frame in stack.frames for note in frame.notes))))


def summarise_strays(strays: Sequence[Dropped]) -> SeriesSummary:
    """The last line of an index: what belongs to no series."""
    return SeriesSummary(
        *[""] * 10,
        slices=0,
        shape=None,
        spacing_mm=None,
        verdict="skipped",
        reason=_most_frequent(strays),
        text=count_reasons(strays),
        dropped=tuple(strays),
    )


def count_reasons(dropped: Sequence[Dropped]) -> str:
    """How many files and frames were set aside for what, such as "2 x scout, 1 x duplicate"."""
    counts = Counter(item.reason.value for item in dropped)
    return ", ".join(
        f"{count} x {reason}" for reason, count in sorted(counts.items(), key=lambda p: (-p[1], p[0]))
    )


def _most_frequent(dropped: Sequence[Dropped]) -> str:
    counts = Counter(item.reason.value for item in dropped)
    return min(counts, key=lambda reason: (-counts[reason], reason), default="")
