"""A network in the ONNX format, for other runtimes."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from volseg.errors import ConfigError
from volseg.models.extents import ExtentRule

if TYPE_CHECKING:
    from onnx import ModelProto

INPUT, OUTPUT = "image", "logits"
"""Names of the input [B, C, ...] and of the output [B, L, ...]."""

_OPSET = 20
_NEEDED = ("onnx", "onnxscript")


def to_onnx(network: nn.Module, extents: tuple[int, ...], *, in_channels: int) -> "ModelProto":
    """The network in evaluation mode as an ONNX model of opset 20, for any batch size and these extents only.

    It is returned, not written: `onnx.save(model, path)` makes the file, `model.SerializeToString()` the bytes that
    `onnxruntime.InferenceSession` takes. Preprocessing, tiling and labels are not part of it. Its logits are not compared
    with those of torch here; expect differences of 1e-5 relative to the largest.

    Args:
        network: from `Architecture.build`, with its weights; its mode is the same afterwards.
        extents: (I, J, K), or (I, J) in 2D.
        in_channels: C.

    Raises:
        ConfigError: onnx or onnxscript are not installed, or the network holds something that ONNX has no operator for.
        InputError: the extents do not suit the network.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"an ONNX model needs {' and '.join(missing)}, not installed; run: pip install 'volseg[onnx]'"
        )
    cast(ExtentRule, network.extents).check(extents)
    was_training = network.training
    # Two samples: torch.export takes a batch of one for a network that knows no other.
    example = torch.zeros((2, in_channels, *extents), device=next(network.parameters()).device)
    try:
        with _quiet():
            program = torch.onnx.export(
                network.eval(),
                (example,),
                dynamo=True,
                opset_version=_OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim.AUTO},),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ConfigError(f"this network cannot be written as ONNX: {error}") from error
    finally:
        network.train(was_training)
    return cast("torch.onnx.ONNXProgram", program).model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's remarks on its own parts: deprecated calls inside it, and operators of a torchvision that is absent."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
