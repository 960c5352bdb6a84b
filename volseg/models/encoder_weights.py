"""Weights of another training into an encoder: all that it needs, or none."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from volseg.errors import ConfigError, counted, few
from volseg.models.encoders import Encoder

_OWN = "stages."
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Fitted:
    """What was done with the weights."""

    used: int
    """Tensors of the encoder that were set."""
    total: int
    """Tensors that it has, statistics of batch norm counted."""
    adapted: tuple[str, ...] = ()
    """In words, such as "first layer 3 to 1 channels, summed"."""
    left_out: int = 0
    """Tensors of the file without a place: the classifier, levels that were not built, statistics of another norm."""


@torch.no_grad()
def load_encoder_weights(encoder: Encoder, weights: Mapping[str, Tensor], source: str) -> Fitted:
    """Set all tensors of an encoder, or none.

    Two differences are bridged. A first layer for another number of channels: see `adapt_channels`. Weights of a 2D network in
    a 3D one: see `inflate`. The encoder may have fewer levels than the weights, and no statistics of batch norm.

    Args:
        encoder: whose weights change.
        weights: under the encoder's own names (its state_dict, as `volseg pretrain` writes it) or torchvision's.
        source: the file, for messages.

    Raises:
        ConfigError: the weights are of another network: an unknown or missing tensor, another shape, numbers that are not
            finite; the encoder is then unchanged.
    """
    state = encoder.state_dict()
    given = _own_names(encoder, weights, source)
    _check_names(encoder, given, source)
    first = _first_layer(encoder)
    fitted: dict[str, Tensor] = {}
    notes: dict[str, None] = {}
    for name in [name for name in state if name in given]:
        tensor, made = _fit(given[name], state[name], is_first=name == first)
        if tensor.shape != state[name].shape:
            raise ConfigError(
                f"{source}: {name} is {_extents(given[name])}, but this encoder needs {_extents(state[name])}; the weights "
                "are of another network. Name the architecture that they were trained in, or leave encoder_weights out."
            )
        if not tensor.is_floating_point() and state[name].is_floating_point():
            raise ConfigError(f"{source}: {name} holds {tensor.dtype}, not floating-point numbers.")
        if not torch.isfinite(tensor).all():
            raise ConfigError(f"{source}: {name} holds numbers that are not finite; the file cannot be used.")
        fitted[name] = tensor
        notes |= dict.fromkeys(made)
    for name, tensor in fitted.items():
        state[name].copy_(tensor)
    return Fitted(len(fitted), len(state), tuple(notes), len(weights) - len(fitted))


def adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """The weights [F, C, ...] of a first layer for another number of channels.

    For one channel they are summed over C: a grey image then gives what it gave when it was shown in all C channels. For n
    channels they are repeated in turn and scaled by C / n, so that the response to n like channels keeps its size (as in
    timm's adapt_input_conv and segmentation_models.pytorch; ImageNet networks saw channels of mean 0 and deviation 1,
    so z-scored images fit).
    """
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    found = weight.shape[1]
    return weight[:, [channel % found for channel in range(channels)]] * (found / channels)


def inflate(weight: Tensor, size: int) -> Tensor:
    """A 2D kernel [F, C, I, J] as a 3D one [F, C, I, J, size], repeated along K and divided by its extent there.

    A volume that does not change along K then gives what its slices gave (Carreira & Zisserman 2017,
    doi:10.1109/CVPR.2017.502, section 2.4), away from the borders.
    """
    return weight.unsqueeze(-1).expand(*weight.shape, size) / size


def _own_names(encoder: Encoder, weights: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    if any(name.startswith(_OWN) for name in weights):
        return dict(weights)
    try:
        return encoder.convert_torchvision(weights)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _check_names(encoder: Encoder, given: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights that lack a tensor, or have one in a level of the encoder where it has none."""
    state = encoder.state_dict()
    missing = [name for name in state if name not in given and not name.endswith(_COUNTER)]
    built = tuple(f"{_OWN}{level}." for level in range(len(encoder.stages)))
    foreign = [
        name
        for name in given
        if name not in state
        and not name.endswith(_STATISTICS)
        and (name.startswith(built) or not name.startswith(_OWN))
    ]
    found = (
        [f"lack {counted(len(missing), 'tensor')} that this encoder needs ({few(missing, 3)})"]
        if missing
        else []
    )
    if foreign:
        found.append(f"hold {counted(len(foreign), 'tensor')} that it does not have ({few(foreign, 3)})")
    if found:
        raise ConfigError(
            f"{source}: the weights {' and '.join(found)}: they are of another network, or of one with another norm. Name "
            "the architecture that they were trained in, or leave encoder_weights out."
        )


def _first_layer(encoder: Encoder) -> str:
    """The name of the weight that sees the image: that of the first convolution."""
    for name, module in encoder.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            return f"{name}.weight"
    return ""


def _fit(tensor: Tensor, own: Tensor, *, is_first: bool) -> tuple[Tensor, list[str]]:
    """A tensor in the shape of the encoder's where that is sound, and what was done to it."""
    made: list[str] = []
    if tensor.ndim == 4 and own.ndim == 5:
        tensor = inflate(tensor, own.shape[-1])
        made.append("2D kernels inflated to 3D")
    if is_first and tensor.ndim == own.ndim and tensor.shape[1] != own.shape[1]:
        how = "summed" if own.shape[1] == 1 else "repeated and scaled"
        made.append(f"first layer {tensor.shape[1]} to {own.shape[1]} channels, {how}")
        tensor = adapt_channels(tensor, own.shape[1])
    return tensor, made


def _extents(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"
