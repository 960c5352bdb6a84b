"""What can be wrong with one case, judged by its facts: one small function for each rule."""

from collections.abc import Callable, Iterator

from volseg.check.facts import CaseFacts, Expected
from volseg.check.report import Problem
from volseg.errors import counted, few

CaseRule = Callable[[CaseFacts, Expected], Iterator[Problem]]

SMALL_VOXELS = 16
"""A volume with fewer than two axes of at least this many voxels is small: most networks halve each axis four times."""

_NAMED_VALUES = 5
"""Unknown label values that are told one by one."""


def channel_count(facts: CaseFacts, expected: Expected) -> Iterator[Problem]:
    """As many channels as the collection names."""
    found, wanted = len(facts.channels), len(expected.channel_names)
    if facts.is_whole and found != wanted:
        text = f"{counted(found, 'channel')}, expected {wanted} ({', '.join(expected.channel_names)})"
        advice = "Add or remove files, or correct the list of channels."
        yield Problem("error", facts.case.id, "channel-count", text, advice)


def constant_channel(facts: CaseFacts, _expected: Expected) -> Iterator[Problem]:
    """A channel without any contrast."""
    for channel in facts.channels:
        if channel.is_constant:
            text = f"channel {channel.name} is {channel.lowest:g} in every voxel"
            advice = "Such a file shows nothing: replace it, or take the case out."
            yield Problem("error", facts.case.id, "constant-image", text, advice)


def repeated_channel(facts: CaseFacts, _expected: Expected) -> Iterator[Problem]:
    """One image given as two channels."""
    seen: dict[str, str] = {}
    for channel in facts.channels:
        if channel.is_constant:
            continue
        first = seen.setdefault(channel.digest, channel.name)
        if first != channel.name:
            text = f"channels {first} and {channel.name} hold the same voxels"
            advice = "Find out whether one is a copy in place of a missing scan; if so, get the scan or take the case out."
            yield Problem("warning", facts.case.id, "repeated-channel", text, advice)


def small_volume(facts: CaseFacts, _expected: Expected) -> Iterator[Problem]:
    """Hardly any voxels."""
    if facts.grid is not None and sorted(facts.grid.shape)[1] < SMALL_VOXELS:
        extents = " x ".join(map(str, facts.grid.shape))
        text = f"{extents} voxels, less than {SMALL_VOXELS} along two axes"
        advice = "Find out whether it is a localizer, a thumbnail or a cut-out by mistake."
        yield Problem("warning", facts.case.id, "small-volume", text, advice)


def not_hounsfield(facts: CaseFacts, expected: Expected) -> Iterator[Problem]:
    """CT without negative numbers: air is -1000 HU."""
    if expected.modality != "CT":
        return
    for channel in facts.channels:
        if channel.lowest < 0 or channel.is_constant:
            continue
        text = f"CT values from {channel.lowest:g} to {channel.highest:g}, but air has -1000 HU"
        cause = (
            "grey values of a window" if channel.highest <= 255 else "stored numbers that were never rescaled"
        )
        advice = (
            f"These look like {cause}. Take the original scans if you can; a model trained on these needs every scan "
            "prepared in the same way."
        )
        yield Problem("warning", facts.case.id, "not-hounsfield", text, advice)


def unknown_label(facts: CaseFacts, expected: Expected) -> Iterator[Problem]:
    """Values that are neither in the table nor remapped to one that is."""
    if facts.label is None:
        return
    known = {0, *expected.labels.values}
    unknown = {
        value: count
        for value, count in facts.label.counts.items()
        if facts.case.remap.get(value, value) not in known
    }
    if unknown:
        found = few([f"{value} ({counted(n, 'voxel')})" for value, n in unknown.items()], _NAMED_VALUES)
        text = f"the label map holds {found}"
        table = ", ".join(expected.label_name(value) for value in expected.labels.values)
        advice = f"The labels are {table}. Add what is missing to that table, or correct the label map."
        yield Problem("error", facts.case.id, "unknown-label", text, advice)


def empty_label(facts: CaseFacts, _expected: Expected) -> Iterator[Problem]:
    """No foreground at all."""
    if facts.label is not None and set(facts.label.counts) == {0}:
        text = f"all {counted(facts.label.counts[0], 'voxel')} of the label map are background"
        advice = "Right where there is nothing to find. Otherwise label it or leave it out, for it teaches that there is nothing."
        yield Problem("warning", facts.case.id, "empty-label", text, advice)


CASE_RULES: tuple[CaseRule, ...] = (
    channel_count,
    constant_channel,
    repeated_channel,
    small_volume,
    not_hounsfield,
    unknown_label,
    empty_label,
)
"""Every rule about a single case."""
