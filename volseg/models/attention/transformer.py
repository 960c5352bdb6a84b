"""Self-attention between all voxels of a coarse level."""

from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Placeholder."""

    def __init__(self, dims: int, width: int, *, budget_gib: float) -> None:
        super().__init__()
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, ...] to the same shape."""
        raise NotImplementedError
