"""The training loss: the sum of its terms on every deep-supervision head."""

from collections.abc import Sequence

import torch
from torch import Tensor

from volseg.train.settings import HeadsConfig, LossConfig
from volseg.train.targets import Target


def head_weights(count: int, heads: HeadsConfig, progress: float) -> list[float]:
    """Weights of heads 1..L, which sum to one (Zhou et al. 2020, eq. 4, weighs all heads alike).

    With decay d and progress t, head n of L weighs, up to their common sum,

        fixed: d^(L-n)      shift: (1-t)·d^(n-1) + t·d^(L-n)

    so that a shift begins with the fixed weights in reverse, shallow heads first, and ends with them in order.

    Args:
        count: L, at least 1.
        heads: schedule and decay.
        progress: of the training, 0..1.
    """
    late = [heads.decay ** (count - n) for n in range(1, count + 1)]
    done = progress if heads.schedule == "shift" else 1.0
    mixed = [(1 - done) * shallow + done * deep for shallow, deep in zip(reversed(late), late, strict=True)]
    return [weight / sum(mixed) for weight in mixed]


def training_loss(heads: Sequence[Tensor], target: Target, loss: LossConfig, *, progress: float) -> Tensor:
    """The weighted sum over heads and terms, a scalar in float32.

    Args:
        heads: logits [B, N, I, J, K] of heads 1..L, of any precision; one without deep supervision.
        target: of the same extents.
        loss: terms and how the heads share them; a term of weight 0 is not computed.
        progress: of the training, 0..1.
    """
    weights = head_weights(len(heads), loss.heads, progress)
    terms = [term for term in loss.terms if term.weight > 0]
    parts = [w * t.weight * t(head, target) for w, head in zip(weights, heads, strict=True) for t in terms]
    return torch.stack(parts).sum()
