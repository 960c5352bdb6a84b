"""Which postprocessing helps: chosen on predictions of held-out cases, each decision with its numbers.

As in nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z): first the largest component of all labels as one,
then that of each label, each only where it raises the Dice. Then, label by label, a least size of components. A step is
taken where

- the mean Dice of the labels and regions it touches rises by more than GAIN, or by more than CLEAR_GAIN for a least
  size, of which several are tried, on at least SIZED_CASES cases;
- the mean Dice of none of them falls;
- no case loses more than LOSS of the Dice of any of them;
- at most the part LOST of the true components (26 neighbours) of these labels touched before is touched no longer: a step
  that improves the mean by dropping true second lesions is refused.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volseg.labels import LabelRegion, LabelTable
from volseg.metrics import Mask
from volseg.postprocess import PostprocessStep
from volseg.postprocess.components import KeepLargest, RemoveSmall
from volseg.train.outcome.components import CaseComponents, count_components
from volseg.volume import LabelMap

GAIN = 0.0005
CLEAR_GAIN = 0.002
LOSS = 0.05
LOST = 0.01
SIZED_CASES = 3
SIZES_MM3 = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
"""The least sizes that are tried: balls of 2.7 to 17.9 mm in diameter."""


@dataclass(frozen=True)
class Choice:
    """The steps to take, in order (one per label, so that the folds of a training can vote on each), with the reasons."""

    steps: tuple[PostprocessStep, ...]
    notes: tuple[str, ...]
    """A sentence on each step that was tried: taken or not, why, and the numbers."""


def choose_postprocess(
    predictions: Iterable[tuple[LabelMap, LabelMap]],
    labels: LabelTable,
    regions: Sequence[LabelRegion] = (),
) -> Choice:
    """Choose keep_largest and remove_small where they help held-out cases; the rule is that of the module.

    Args:
        predictions: a predicted label map without postprocessing and the true one, case by case. Each pair is looked at once
            and let go; what stays is a table of its components, from which the Dice after any of the steps is exact.
        labels: the labels of the maps.
        regions: unions of labels whose Dice counts as well.
    """
    cases = [count_components(found, reference, labels.values) for found, reference in predictions]
    if not cases:
        return Choice((), ("no postprocessing: there was no held-out case to choose it on",))
    trial = _Trial(cases, labels, regions)
    names = [label.name for label in labels]
    steps: list[PostprocessStep] = []
    if len(labels) > 1 and trial.take(
        "keep_largest of all labels as one", range(len(labels)), _largest_whole
    ):
        steps.append(KeepLargest(united=True))
    for index, value in enumerate(labels.values):
        if trial.take(f"keep_largest of {names[index]}", [index], _largest_of(index)):
            steps.append(KeepLargest(labels=(value,)))
    for index, value in enumerate(labels.values):
        size_mm3 = trial.take_size(names[index], index) if len(cases) >= SIZED_CASES else None
        if size_mm3 is not None:
            steps.append(RemoveSmall(min_volume_mm3=size_mm3, labels=(value,)))
    return Choice(tuple(steps), tuple(trial.notes))


_Erase = Callable[[CaseComponents, Mask], Mask]
"""From the components [C] kept so far to those kept after a step."""


@dataclass(frozen=True)
class _Verdict:
    after: list[Mask]
    gain: float
    refusal: str
    """Why the step is not taken; empty where it is."""
    numbers: str


class _Trial:
    """The components kept so far, and the notes on how that came about."""

    def __init__(
        self, cases: list[CaseComponents], labels: LabelTable, regions: Sequence[LabelRegion]
    ) -> None:
        self._cases = cases
        self._kept: list[Mask] = [np.ones(len(case.voxels), bool) for case in cases]
        positions = {value: position for position, value in enumerate(labels.values)}
        self._parts = [(label.name, [positions[label.value]]) for label in labels]
        self._parts += [(region.name, [positions[value] for value in region.values]) for region in regions]
        self.notes: list[str] = []

    def take(self, name: str, labels: Sequence[int], erase: _Erase) -> bool:
        """Take a step that erases components of some labels where it helps, and note why or why not."""
        verdict = self._judge(labels, erase, GAIN)
        self._note(name, verdict)
        return not verdict.refusal

    def take_size(self, name: str, label: int) -> float | None:
        """Take the least size of the components of a label that helps most, if any does."""
        verdicts = {size: self._judge([label], _smaller_than(label, size), CLEAR_GAIN) for size in SIZES_MM3}
        # The refused come last; of equals the smallest size stays.
        best = max(verdicts, key=lambda size: (not verdicts[size].refusal, verdicts[size].gain))
        self._note(f"remove_small below {best:g} mm3 of {name}", verdicts[best])
        return None if verdicts[best].refusal else best

    def _note(self, name: str, verdict: _Verdict) -> None:
        self.notes.append(
            f"{name}: {f'no, {verdict.refusal}' if verdict.refusal else 'yes'}{verdict.numbers}"
        )
        if not verdict.refusal:
            self._kept = verdict.after

    def _judge(self, labels: Sequence[int], erase: _Erase, least_gain: float) -> _Verdict:
        after = [erase(case, kept) for case, kept in zip(self._cases, self._kept, strict=True)]
        changed = sum(bool((old != new).any()) for old, new in zip(self._kept, after, strict=True))
        if not changed:
            return _Verdict(after, 0.0, "it would change no case", "")
        parts = [(name, own) for name, own in self._parts if set(own) & set(labels)]
        before, then = (self._dice(kept, parts) for kept in (self._kept, after))
        rises = (then - before).mean(axis=0)
        touched, lost = self._lost(after, labels)
        refusal = ""
        if rises.mean() <= least_gain:
            refusal = f"the mean Dice does not rise by more than {least_gain:g}"
        elif rises.min() < -1e-9:
            refusal = f"the Dice of {parts[int(rises.argmin())][0]} falls"
        elif (then - before).min() < -LOSS:
            refusal = f"one case loses more than {LOSS:g}"
        elif lost > LOST * touched:
            refusal = f"{lost} of {touched} true components that were found would be lost"
        dice = ", ".join(
            f"{name} {old:.4f} to {new:.4f}"
            for (name, _), old, new in zip(parts, before.mean(axis=0), then.mean(axis=0), strict=True)
        )
        numbers = f"; with it the mean Dice goes from {dice}; {changed} of {len(after)} cases change, the worst by {(then - before).min():+.4f}"
        return _Verdict(after, float(rises.mean()), refusal, numbers)

    def _dice(self, kept: list[Mask], parts: Sequence[tuple[str, list[int]]]) -> npt.NDArray[np.float64]:
        """[cases, parts]."""
        return np.array(
            [
                [case.dice(own, labels) for _, labels in parts]
                for case, own in zip(self._cases, kept, strict=True)
            ]
        )

    def _lost(self, after: list[Mask], labels: Sequence[int]) -> tuple[int, int]:
        """True components of some labels touched so far, and how many of them would be no longer."""
        pairs = zip(self._cases, self._kept, after, strict=True)
        counts = [
            (len(case.touched(old, labels)), len(case.touched(new, labels))) for case, old, new in pairs
        ]
        touched = sum(old for old, _ in counts)
        return touched, touched - sum(new for _, new in counts)


def _largest_whole(case: CaseComponents, kept: Mask) -> Mask:
    sizes = np.bincount(case.whole[kept], case.voxels[kept])
    return kept & (case.whole == sizes.argmax()) if len(sizes) else kept


def _largest_of(label: int) -> _Erase:
    def erase(case: CaseComponents, kept: Mask) -> Mask:
        own = kept & (case.label == label)
        largest = np.where(own, case.voxels, 0).argmax() if own.any() else -1
        return kept & (~own | (np.arange(len(own)) == largest))

    return erase


def _smaller_than(label: int, size_mm3: float) -> _Erase:
    def erase(case: CaseComponents, kept: Mask) -> Mask:
        # As RemoveSmall: a component of exactly the given size stays.
        small = case.voxels < size_mm3 / case.voxel_mm3 * (1 - 1e-6)
        return kept & ~(small & (case.label == label))

    return erase
