"""Weights that an encoder starts from, out of a file that the user names; nothing is ever fetched."""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as decode_tensors
from torch import Tensor, nn

from volseg.errors import ConfigError, InputError, counted
from volseg.models.encoder_weights import Fitted, load_encoder_weights
from volseg.models.encoders import Encoder

_WRAPPERS = ("state_dict", "model")
_NAMED_SUM = re.compile(r"-([0-9a-f]{8})\.pth$")


@dataclass(frozen=True)
class WeightsFile:
    """The tensors of a file, and which file it is."""

    path: Path
    sha256: str
    tensors: Mapping[str, Tensor]


def read_weights(path: Path) -> WeightsFile:
    """Read a state dict: safetensors, or a file of torch.save, of which only tensors and plain values are accepted.

    A state dict inside `{"state_dict": ...}` or `{"model": ...}` is taken out. Torchvision ends its file names in the first eight
    digits of their SHA-256; such a name must agree with the file.

    Raises:
        InputError: the file is missing, damaged, not what its name says, or holds anything but a state dict.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"encoder_weights: {path}: cannot be read ({error.strerror}); give the path of a file of weights."
        ) from None
    digest = sha256(content).hexdigest()
    named = _NAMED_SUM.search(path.name)
    if named and not digest.startswith(named[1]):
        raise InputError(
            f"encoder_weights: {path}: by its name its SHA-256 begins with {named[1]}, but it begins with {digest[:8]}; the "
            "file is damaged or another one. Download it again."
        )
    return WeightsFile(path, digest, _state_dict(_decoded(content, path), path))


def apply_encoder_weights(network: nn.Module, path: Path) -> str:
    """Start the encoder of a network from the weights in a file.

    Returns:
        What was done, in a line: the file's name and SHA-256, how many tensors were used, what was adapted.

    Raises:
        InputError: the file cannot be used; see read_weights.
        ConfigError: the network has no encoder, or the weights are of another one; it is then unchanged.
    """
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, Encoder):
        raise ConfigError(f"encoder_weights: {type(network).__name__} has no encoder; leave the setting out.")
    found = read_weights(path)
    fitted = load_encoder_weights(encoder, found.tensors, f"encoder_weights: {path}")
    return f"{path.name} (SHA-256 {found.sha256}): {_in_words(fitted)}"


def _in_words(fitted: Fitted) -> str:
    parts = [f"{fitted.used} of {counted(fitted.total, 'tensor')}", *fitted.adapted]
    if fitted.left_out:
        parts.append(f"{fitted.left_out} of the file left out")
    return "; ".join(parts)


def _decoded(content: bytes, path: Path) -> Any:
    if path.suffix == ".safetensors":
        try:
            return decode_tensors(content)
        except SafetensorError as error:
            raise InputError(f"encoder_weights: {path}: is no readable safetensors file ({error}).") from None
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for damaged files
        raise InputError(
            f"encoder_weights: {path}: is no state dict of torch.save that can be read safely ({type(error).__name__}): it is "
            "cut short, of another kind, or holds code or a whole model. Give the state dict alone, or a .safetensors file."
        ) from error


def _state_dict(found: Any, path: Path) -> dict[str, Tensor]:
    for key in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found:
        raise InputError(f"encoder_weights: {path}: holds no tensors by name, but {type(found).__name__}.")
    entries = cast(Mapping[Any, Any], found)
    others = [key for key, value in entries.items() if not isinstance(key, str) or not _is_dense(value)]
    if others:
        raise InputError(
            f"encoder_weights: {path}: the entry {others[0]!r} is no tensor of plain numbers ({type(entries[others[0]]).__name__}); "
            "give a state dict, which holds tensors by name only, none of them sparse or quantised."
        )
    return dict(entries)


def _is_dense(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized
