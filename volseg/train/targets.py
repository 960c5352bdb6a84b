"""What the network is to say: one channel per label (softmax) or per region (sigmoid)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from volseg.geometry import Shape
from volseg.labels import ChannelRule, LabelRegion, LabelTable


@dataclass(frozen=True, eq=False)
class Target:
    """The truth of a batch, in the channels of the logits."""

    one_hot: Tensor
    """[B, N, I, J, K] float32 of 0 and 1."""
    exclusive: bool
    """Channels exclude each other and the first is background (softmax); otherwise each stands alone (sigmoid)."""
    _derived: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Of logits [B, N, I, J, K], float32 or more precise."""
        return widened(logits).softmax(dim=1) if self.exclusive else widened(logits).sigmoid()

    def foreground(self, channels: Tensor) -> Tensor:
        """Of anything [..., N] by channel, the part that is not background."""
        return channels[..., 1:] if self.exclusive else channels

    @torch.no_grad()
    def derived(self, key: str, derive: Callable[[], Tensor]) -> Tensor:
        """What `derive` makes of this truth, made once: the deep-supervision heads share one target."""
        if key not in self._derived:
            self._derived[key] = derive()
        return self._derived[key]


@dataclass(frozen=True, eq=False)
class TargetCode:
    """From label indices 0..L-1 to the channels of the network."""

    membership: Tensor
    """[N, L] bool: whether a label index belongs to a channel."""
    names: tuple[str, ...]
    """Of the channels that count in scores: all but background."""
    exclusive: bool = True

    @classmethod
    def of(cls, labels: LabelTable, regions: Sequence[LabelRegion] = ()) -> "TargetCode":
        """A channel per label, background first; with regions a channel per region, no background."""
        if not regions:
            names = tuple(label.name for label in labels)
            return cls(torch.eye(len(labels) + 1, dtype=torch.bool), names)
        values = (0, *labels.values)
        membership = torch.tensor([[value in region.values for value in values] for region in regions])
        return cls(membership, tuple(region.name for region in regions), exclusive=False)

    @property
    def channels(self) -> int:
        """N, the channels of the logits."""
        return len(self.membership)

    def encode(self, labels: Tensor) -> Target:
        """Label indices [B, I, J, K] as a Target on their device."""
        table = self.membership.T.to(labels.device, torch.float32)
        return Target(functional.embedding(labels.long(), table).movedim(-1, 1), self.exclusive)


def channel_rule(labels: LabelTable, regions: Sequence[LabelRegion] = ()) -> ChannelRule:
    """How the channels of TargetCode.of become label values again."""
    if regions:
        return ChannelRule(tuple(region.paint for region in regions), exclusive=False)
    return ChannelRule((0, *labels.values))


def answered(labels: Tensor, margins: Shape) -> Tensor:
    """Of the label indices of patches [B, I, J, K] those with logits: all but these margins on each face."""
    for axis, margin in enumerate(margins, start=1):
        labels = labels.narrow(axis, margin, labels.shape[axis] - 2 * margin)
    return labels


def widened(logits: Tensor) -> Tensor:
    """In float32, or in float64 if they are: half precision is too coarse for sums over a patch."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
