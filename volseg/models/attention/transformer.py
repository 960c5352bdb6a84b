"""Self-attention between all voxels of a coarse level.

Vaswani et al.: "Attention Is All You Need" (NeurIPS 2017); Chu et al.: "Conditional Positional Encodings for Vision
Transformers" (2021).
"""

from math import prod
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from volseg.errors import InputError
from volseg.models.layers import CONV

_HEAD_WIDTH = 32
_MLP_RATIO = 2
_NUMBERS_PER_GIB = 2**30 // 4
"""In single precision."""


class SelfAttention(nn.Module):
    """One transformer block whose tokens are the voxels of a feature map x.

        p = x + depthwise convolution(x)
        y = p + W_o attention(norm(p))
        z = y + MLP(norm(y))

    Attention is softmax(Q K^T / sqrt(d)) V in heads of d = about 32 channels (Vaswani et al. 2017, eq. 1); the MLP has one
    hidden layer of twice the width and a GELU. The convolution tells a token where it is by what is around it (Chu et al.
    2021, its positional encoding generator), so that no parameter depends on the extents. What differs from the papers: the norms come before
    what they norm (Xiong et al. 2020), and the convolution and both last layers start at zero, so that the block starts as
    the identity.

    Args:
        dims: 2 or 3.
        width: channels of x.
        budget_gib: the most memory for the attention matrices of an input, which take B * heads * voxels^2 * 4 bytes where
            torch has no way around storing them.
    """

    def __init__(self, dims: int, width: int, *, budget_gib: float) -> None:
        super().__init__()
        divisors = [count for count in range(1, width + 1) if width % count == 0]
        self.heads = min(divisors, key=lambda count: abs(count - width / _HEAD_WIDTH))
        self.budget_gib = budget_gib
        self.position = CONV[dims](width, width, 3, padding=1, groups=width)
        self.norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        last = nn.Linear(_MLP_RATIO * width, width)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, _MLP_RATIO * width), nn.GELU(), last)
        for layer in (self.position, self.join, last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(cast(Tensor, layer.bias))

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, ...] to the same shape.

        Raises:
            InputError: the attention matrices would take more memory than the budget.
        """
        self._check_memory(x)
        batch, width, *extents = x.shape
        tokens = (x + self.position(x)).flatten(2).transpose(1, 2)
        tokens = tokens + self.join(self._attention(self.norm(tokens)))
        tokens = tokens + self.mlp(tokens)
        return tokens.transpose(1, 2).reshape(batch, width, *extents)

    def _attention(self, tokens: Tensor) -> Tensor:
        """[B, voxels, width] to the same shape."""
        batch, voxels, width = tokens.shape
        split = self.queries_keys_values(tokens).reshape(batch, voxels, 3, self.heads, width // self.heads)
        queries, keys, values = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        return mixed.transpose(1, 2).reshape(batch, voxels, width)

    def _check_memory(self, x: Tensor) -> None:
        batch, voxels = x.shape[0], prod(x.shape[2:])
        numbers = batch * self.heads * voxels**2
        if numbers > int(self.budget_gib * _NUMBERS_PER_GIB):
            raise InputError(
                f"self-attention between the {voxels} voxels of a level of extents {tuple(x.shape[2:])}, {self.heads} "
                f"heads and a batch of {batch}, takes {numbers / _NUMBERS_PER_GIB:.3g} GiB, more than the "
                f"{self.budget_gib:g} GiB of self_attention_gib. Put self_attention_levels at a coarser level, take a "
                "smaller patch or fewer per batch, or raise self_attention_gib."
            )
