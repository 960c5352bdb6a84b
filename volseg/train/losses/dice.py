"""Losses on overlap: one number per label, however large it is.

A label that is neither in the truth nor found scores 1, thanks to a small constant; one that is absent but found scores 0
and has almost no gradient, so absent labels do not push the network.
"""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat
from torch import Tensor

from volseg.train.losses import LOSSES, Loss
from volseg.train.targets import Target

Pool = Literal["batch", "sample"]


@LOSSES.add
class SoftDice(Loss):
    """1 - mean over foreground channels of 2·sum(p·g) / (sum(p) + sum(g)), with probabilities p and truth g.

    Drozdzal et al.: "The importance of skip connections in biomedical image segmentation" (DLMIA 2016), eq. 1; with
    `squared` sum(p²) + sum(g²) below: Milletari, Navab, Ahmadi: "V-Net" (3DV 2016), section 3.
    """

    name: Literal["dice"] = "dice"
    over: Pool = "batch"
    """What the sums run over: `batch` pools its patches, so a label must not be in each of them; `sample` takes the mean of
    the patches' own Dice."""
    squared: bool = False

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """A scalar in 0..1."""
        probabilities, truth = target.probabilities(logits), target.one_hot
        axes = _axes(truth, self.over)
        overlap = (probabilities * truth).sum(axes)
        found = (probabilities.square() if self.squared else probabilities).sum(axes)
        dice = (2 * overlap + _SMOOTH) / (found + truth.sum(axes) + _SMOOTH)
        return 1 - target.foreground(dice).mean()


@LOSSES.add
class Tversky(Loss):
    """1 - mean Tversky index TP / (TP + alpha·FP + beta·FN) of the foreground channels, counted in probabilities.

    Salehi, Erdogmus, Gholipour: "Tversky loss function for image segmentation using 3D fully convolutional deep networks"
    (MLMI 2017), eq. 3. alpha = beta = 0.5 is Dice; beta above alpha finds more of what is small, with more false alarms.
    """

    name: Literal["tversky"] = "tversky"
    alpha: NonNegativeFloat = 0.3
    """Weight of false positives."""
    beta: NonNegativeFloat = 0.7
    """Weight of false negatives."""
    over: Pool = "batch"

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """A scalar in 0..1."""
        return 1 - _tversky_index(logits, target, alpha=self.alpha, beta=self.beta, over=self.over).mean()


@LOSSES.add
class FocalTversky(Loss):
    """Mean of (1 - Tversky index)^(1/gamma) over the foreground channels: labels found badly count more.

    Abraham, Khan: "A novel focal Tversky loss function with improved attention U-Net for lesion segmentation" (ISBI 2019),
    eq. 4. Their alpha weighs false negatives; here as in `tversky` alpha weighs false positives, beta false negatives.
    """

    name: Literal["focal_tversky"] = "focal_tversky"
    alpha: NonNegativeFloat = 0.3
    """Weight of false positives."""
    beta: NonNegativeFloat = 0.7
    """Weight of false negatives."""
    gamma: Annotated[float, Field(ge=1, le=3)] = 4 / 3
    """1 is the Tversky loss; the paper's range."""
    over: Pool = "batch"

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """A scalar in 0..1."""
        index = _tversky_index(logits, target, alpha=self.alpha, beta=self.beta, over=self.over)
        return ((1 - index).clamp_min(_PERFECT) ** (1 / self.gamma)).mean()


def _tversky_index(logits: Tensor, target: Target, *, alpha: float, beta: float, over: Pool) -> Tensor:
    probabilities, truth = target.probabilities(logits), target.one_hot
    axes = _axes(truth, over)
    both = (probabilities * truth).sum(axes)
    false_positive = probabilities.sum(axes) - both
    false_negative = truth.sum(axes) - both
    index = (both + _SMOOTH) / (both + alpha * false_positive + beta * false_negative + _SMOOTH)
    return target.foreground(index)


def _axes(truth: Tensor, over: Pool) -> tuple[int, ...]:
    """Of [B, N, I, J, K], those that are summed."""
    space = tuple(range(2, truth.ndim))
    return (0, *space) if over == "batch" else space


_SMOOTH = 1e-5
"""Added above and below: the index of what is nowhere is 1."""
_PERFECT = 1e-6
"""Least distance from a perfect index whose root is taken: its slope at 0 is infinite."""
