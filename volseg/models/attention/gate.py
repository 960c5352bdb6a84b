"""Attention gates on skips.

Oktay et al.: "Attention U-Net: Learning Where to Look for the Pancreas" (MIDL 2018).
"""

from typing import cast

from torch import Tensor, nn

from volseg.models.layers import CONV


class AttentionGate(nn.Module):
    """Weights each voxel of a skip x by what the map g from below says of it (eq. 1 and 2).

        alpha = sigmoid(psi(relu(W_x x + W_g g + b_g)) + b_psi)

    W_x, W_g and psi are 1x1 convolutions; the inner ones have half the channels of the skip. What differs from the paper's
    figure 2: g is up-sampled before the gate, not alpha after it, so that no voxel of the skip is averaged with others.
    """

    def __init__(self, dims: int, skip_channels: int, gating_channels: int) -> None:
        super().__init__()
        inner = max(1, skip_channels // 2)
        self.skip = CONV[dims](skip_channels, inner, 1, bias=False)
        self.gating = CONV[dims](gating_channels, inner, 1)
        self.psi = CONV[dims](inner, 1, 1)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, skip: Tensor, gating: Tensor) -> Tensor:
        """[B, skip_channels, ...] and [B, gating_channels, ...] of the same extents to the weighted skip."""
        return skip * self.weights(skip, gating)

    def weights(self, skip: Tensor, gating: Tensor) -> Tensor:
        """The factor alpha [B, 1, ...] in (0, 1)."""
        mixed = self.activation(self.skip(skip) + self.gating(gating))
        return cast(Tensor, self.psi(mixed).sigmoid())
