"""What the encoders of published networks share: the choice of norm, and tensors under torchvision's names."""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from torch import Tensor

from volseg.errors import ConfigError
from volseg.models.blocks import GROUPS

EncoderNorm = Literal["batch", "instance", "group"]
"""Published weights are of batch norm."""


def monai_norm(name: EncoderNorm, **batch: float) -> tuple[str, dict[str, object]]:
    """A norm with weights, as MONAI's blocks are told; `batch` is for batch norm, such as its epsilon."""
    options: dict[EncoderNorm, dict[str, object]] = {
        "batch": dict(batch),
        "instance": {"affine": True},
        "group": {"num_groups": GROUPS},
    }
    return name, options[name]


def renamed(
    own: Iterable[str],
    weights: Mapping[str, Tensor],
    published_name: Callable[[str], str],
    *,
    what: str,
    file: str,
) -> dict[str, Tensor]:
    """The tensors of a torchvision state dict under the encoder's own names.

    Args:
        own: names of the encoder's tensors.
        weights: the state dict.
        published_name: torchvision's name of one of them.
        what: the network, for messages.
        file: what to give instead, for messages.

    Raises:
        ConfigError: one is not there.
    """
    published = {name: published_name(name) for name in own}
    for name in published.values():
        if name not in weights:
            raise ConfigError(
                f"these weights are not those of this {what}: they have no '{name}'. Give the file of {file}."
            )
    return {name: weights[other] for name, other in published.items()}
