"""Images that occur more than once in a collection, told by the digests of their voxels."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from volseg.check.facts import CaseFacts, Expected
from volseg.check.report import Problem, Severity
from volseg.errors import few

_ADVICE = (
    "Keep one case of each image: copies of it on both sides of a split would be learned, then asked for."
)

_NAMED_CASES = 5


def duplicate_image(cases: Sequence[CaseFacts], _expected: Expected) -> Iterator[Problem]:
    """The same image under several ids. The first case of exact copies is in order, the others are not."""
    by_image: dict[str, list[CaseFacts]] = defaultdict(list)
    for facts in cases:
        by_image[facts.image_digest].append(facts)
    by_image.pop("", None)
    for group in by_image.values():
        if len({facts.label.digest if facts.label else "" for facts in group}) == 1:
            text = f"the same image and labels as case {group[0].case.id}"
            found = [(facts, text) for facts in group[1:]]
        else:
            found = [
                (facts, f"the same image as {_others(facts, group)}, but other labels") for facts in group
            ]
        for facts, text in found:
            yield Problem(_severity(group), facts.case.id, "duplicate-image", text, _ADVICE)


def duplicate_channel(cases: Sequence[CaseFacts], _expected: Expected) -> Iterator[Problem]:
    """A channel that two cases share although their images differ: one of them has another's file."""
    by_voxels: dict[str, list[tuple[str, CaseFacts]]] = defaultdict(list)
    for facts in cases:
        for channel in facts.channels:
            if not channel.is_constant:
                by_voxels[channel.digest].append((channel.name, facts))
    for group in by_voxels.values():
        holders = [facts for _, facts in group]
        if len({facts.image_digest for facts in holders}) == 1:
            continue
        for name, facts in group:
            if others := _others(facts, holders):
                text = f"channel {name} holds the voxels of a channel of {others}"
                advice = "One of them has another's file: find out whose it is."
                yield Problem(_severity(holders), facts.case.id, "duplicate-channel", text, advice)


def _others(facts: CaseFacts, group: Sequence[CaseFacts]) -> str:
    return few(list(dict.fromkeys(o.case.id for o in group if o is not facts)), _NAMED_CASES)


def _severity(group: Sequence[CaseFacts]) -> Severity:
    """The cases of one patient stay together in a split; those of different patients do not."""
    return "error" if len({facts.patient for facts in group}) > 1 else "warning"
