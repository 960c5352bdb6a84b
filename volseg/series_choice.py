"""Which series of a folder a model is meant for, and why: by modality, contrast, field of view and slices.

The rules, in this order; a series that a rule rejects is told with the reason:

1. refused and skipped series are no candidates;
2. the modality is that of the model's channel;
3. the contrast is that of the channel, where the package names one: a known other contrast is rejected, an unknown one
   only where another series is known to fit;
4. the scan is not larger than the package's `largest_mm`;
5. of copies (the same voxels on the same grid) the first stays;
6. a handful of slices (fewer than FEWEST_SLICES) is rejected where another series has more;
7. of reconstructions of one acquisition with one kernel over one extent the one with the thinnest slices is taken.

More than one left is an error that lists them, and so is a refused series with at least as many slices as the chosen one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from volseg.errors import SeriesError, few
from volseg.io.dicom.index import SeriesSummary
from volseg.io.dicom.selection import (
    ambiguous,
    distinct_volumes,
    refuse_rivals,
    select_series,
    series_title,
    usable_series,
)
from volseg.package import ModelInfo

FEWEST_SLICES = 4
"""A series of fewer slices gives way to one of more: it is a scout, a projection or a sample."""

THINNER = 0.8
"""A reconstruction counts as thinner if its slices are at most this part of the others' apart."""

SAME_EXTENT = 0.1
"""Two stacks cover one extent if their lengths differ by at most this part."""

Objection = Callable[[SeriesSummary], str]
"""Why a series is not for a model; empty where it may be."""


@dataclass(frozen=True, eq=False)
class Choice:
    """The series taken, the reason, and the series left aside with theirs."""

    summary: SeriesSummary
    why: str
    rejected: tuple[tuple[SeriesSummary, str], ...] = ()

    def lines(self) -> list[str]:
        """The choice in words, one line for each series; nothing of the patient."""
        chosen = f"{series_title(self.summary)} (...{self.summary.key[-12:]}): chosen because {self.why}"
        others = [
            f"{series_title(other)} (...{other.key[-12:]}): not taken, {why}" for other, why in self.rejected
        ]
        return [chosen, *others]


def choose_series(
    summaries: Sequence[SeriesSummary],
    source: Path,
    *,
    info: ModelInfo,
    channel: int = 0,
    series: str | None = None,
) -> Choice:
    """The series of an index that is input for a channel of a model.

    Args:
        summaries: the index of the source.
        source: the folder, archive or file, for messages.
        info: the model.
        channel: the position of the channel.
        series: a key, a series UID or an ending of one: no rule is asked then.

    Raises:
        FileFormatError: nothing in the source is DICOM.
        SeriesError: no series fits ("unsuitable", or the code of a refused one), or several do ("ambiguous").
    """
    if series is not None:
        return Choice(select_series(summaries, source, series), "it was asked for")
    usable = usable_series(summaries, source)
    rejected: list[tuple[SeriesSummary, str]] = []
    rules = (_modality_rule(info, channel), _contrast_rule(info, channel), _size_rule(info))
    left = usable
    for rule in rules:
        left = _apply(rule, left, rejected)
    if not left:
        told = few([f"{series_title(summary)}: {why}" for summary, why in rejected], 6)
        raise SeriesError(f"{source}: no series is for the model '{info.name}'. {told}", reason="unsuitable")
    for narrow in (_known_contrast_rule(info, channel), _copy_rule, _slices_rule, _thinness_rule):
        left = _apply(narrow(left), left, rejected)
    if len(left) > 1:
        raise ambiguous(source, left, f" for the model '{info.name}'")
    readable_kind = [s for s in summaries if not any(rule(s) for rule in rules[:2])]
    refuse_rivals(readable_kind, left[0], source)
    return Choice(left[0], _why(usable, rejected), tuple(rejected))


def _why(usable: Sequence[SeriesSummary], rejected: Sequence[tuple[SeriesSummary, str]]) -> str:
    if len(usable) == 1:
        return "it is the only volume"
    return f"it is the only one of {len(usable)} that the rules leave" if rejected else "it fits"


def _apply(
    rule: Objection, candidates: Sequence[SeriesSummary], rejected: list[tuple[SeriesSummary, str]]
) -> list[SeriesSummary]:
    found = [(summary, rule(summary)) for summary in candidates]
    rejected += [(summary, why) for summary, why in found if why]
    return [summary for summary, why in found if not why]


def _modality_rule(info: ModelInfo, channel: int) -> Objection:
    wanted = info.channels[channel].modality
    return lambda summary: (
        ""
        if summary.modality.upper() == wanted.upper()
        else f"its modality is {summary.modality or 'unknown'} and the model's is {wanted}"
    )


def _contrast_rule(info: ModelInfo, channel: int) -> Objection:
    wanted = info.channels[channel].contrast
    return lambda summary: (
        f"its contrast is '{summary.contrast}' and the model's is '{wanted}'"
        if wanted is not None and summary.contrast not in ("", wanted)
        else ""
    )


def _size_rule(info: ModelInfo) -> Objection:
    def objection(summary: SeriesSummary) -> str:
        if info.largest_mm is None or summary.stack is None or summary.stack.grid is None:
            return ""
        sizes = summary.stack.grid.body_size_mm
        if all(size <= most for size, most in zip(sizes, info.largest_mm, strict=True)):
            return ""
        found, most = (" x ".join(f"{size:.0f}" for size in each) for each in (sizes, info.largest_mm))
        return f"its field of view is {found} mm and the model is for up to {most} mm"

    return objection


def _known_contrast_rule(info: ModelInfo, channel: int) -> Callable[[Sequence[SeriesSummary]], Objection]:
    wanted = info.channels[channel].contrast

    def narrow(candidates: Sequence[SeriesSummary]) -> Objection:
        is_known = any(summary.contrast == wanted for summary in candidates)
        return lambda summary: (
            f"its contrast is unknown and another's is '{wanted}'"
            if is_known and summary.contrast != wanted
            else ""
        )

    return narrow


def _copy_rule(candidates: Sequence[SeriesSummary]) -> Objection:
    distinct = distinct_volumes(candidates)
    return lambda summary: "" if summary in distinct else "it is a copy of another series"


def _slices_rule(candidates: Sequence[SeriesSummary]) -> Objection:
    most = max(summary.slices for summary in candidates)
    return lambda summary: (
        f"it has only {summary.slices} slices"
        if most >= FEWEST_SLICES and summary.slices < FEWEST_SLICES
        else ""
    )


def _thinness_rule(candidates: Sequence[SeriesSummary]) -> Objection:
    """Between reconstructions that differ in nothing but the distance of their slices."""
    ordered = sorted(candidates, key=_slice_distance_mm)
    thinnest, others = ordered[0], ordered[1:]
    if not others or not all(_is_coarser_twin(thinnest, other) for other in others):
        return lambda _: ""
    return lambda summary: (
        "" if summary is thinnest else "it is a thicker reconstruction of the same acquisition"
    )


def _is_coarser_twin(thin: SeriesSummary, thick: SeriesSummary) -> bool:
    acquisition = _acquisition(thin)
    if acquisition is None or acquisition != _acquisition(thick):
        return False
    lengths = [summary.slices * _slice_distance_mm(summary) for summary in (thin, thick)]
    return _slice_distance_mm(thin) <= THINNER * _slice_distance_mm(thick) and abs(
        lengths[0] - lengths[1]
    ) <= SAME_EXTENT * max(lengths)


def _slice_distance_mm(summary: SeriesSummary) -> float:
    return summary.spacing_mm[2] if summary.spacing_mm else float("inf")


def _acquisition(summary: SeriesSummary) -> tuple[object, ...] | None:
    """What reconstructions of one acquisition share; None where the headers do not say which it was."""
    frames = summary.stack.frames if summary.stack else ()
    times = [frame.traits.acquisition_time for frame in frames if frame.traits.acquisition_time]
    if not frames or not times or not frames[0].frame_of_reference:
        return None
    traits = frames[0].traits
    return frames[0].frame_of_reference, min(times), traits.acquisition_number, traits.kernel
