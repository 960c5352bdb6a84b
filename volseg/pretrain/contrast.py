"""Contrastive learning: views of one place are to be described alike, those of other places not."""

import torch
from torch import Tensor
from torch.nn import functional


def contrastive_loss(descriptions: Tensor, temperature: float) -> Tensor:
    """NT-Xent (Chen et al. 2020, eq. 1), the mean over all ordered positive pairs; in float32.

    Args:
        descriptions: [2 n, D] of views 0 and 1 of the first place, then of the second, ...; of any length but zero.
        temperature: tau.

    Returns:
        A scalar; log(2 n - 1) where nothing is told apart.
    """
    similarity = _similarity(descriptions) / temperature
    return functional.cross_entropy(similarity, _partners(len(descriptions), similarity.device))


@torch.no_grad()
def pairs_found(descriptions: Tensor) -> float:
    """The part of the views [2 n, D] whose most similar other view is their partner; 1 / (2 n - 1) by chance."""
    nearest = _similarity(descriptions).argmax(dim=1)
    return float((nearest == _partners(len(descriptions), nearest.device)).float().mean())


def _similarity(descriptions: Tensor) -> Tensor:
    """Cosines [2 n, 2 n], minus infinity between a view and itself."""
    unit = functional.normalize(descriptions.float(), dim=1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    return (unit @ unit.T).masked_fill(itself, -torch.inf)


def _partners(count: int, device: torch.device) -> Tensor:
    """1, 0, 3, 2, ..."""
    return torch.arange(count, device=device) ^ 1
