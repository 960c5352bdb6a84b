"""What a network costs, told without running it: parameters, operations and memory at stated extents."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from volseg.models import Architecture
from volseg.models.extents import ExtentRule
from volseg.models.live_bytes import LiveBytes

_NUMBER_BYTES = 4


@dataclass(frozen=True)
class Cost:
    """Of one input, batch 1, in single precision."""

    extents: tuple[int, ...]
    """Of the input: the smallest that suit the network and are at least those asked for."""
    parameters: int
    flops: int
    """Of one inference. A multiplication and an addition count two. Counted are convolutions, transposed convolutions,
    linear layers and the matrix products of attention; not norms, activations, pooling, interpolation, biases and sums."""
    inference_bytes: int
    """Weights and the most that the tensors of one inference take at a time."""
    training_bytes: int
    """Weights, their gradients, and the most that the tensors of one step take at a time; without the states of the
    optimiser and what a device takes for itself."""


def cost(
    architecture: Architecture,
    extents: tuple[int, ...],
    *,
    in_channels: int = 1,
    label_count: int = 3,
    head: int | None = None,
) -> Cost:
    """What a network costs at these extents; it runs on tensors that have no data, so any size is quick.

    Args:
        architecture: its parameters.
        extents: (I, J, K), or (I, J) in 2D, in voxels; enlarged to what the network takes.
        in_channels: C.
        label_count: L, background counted.
        head: prune the network to this head, where it has several.

    Raises:
        ConfigError: the architecture does not exist in this form.
        InputError: extents of another number of axes.
    """
    with torch.device("meta"):
        network = architecture.build(in_channels, label_count, head=head)
    rule = cast(ExtentRule, network.extents)
    fitting = rule.fitting(extents) if len(extents) == len(rule.divisors) else extents
    rule.check(fitting)
    batch = torch.empty((1, in_channels, *fitting), device="meta")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    flops, inference = _inference(network.eval(), batch)
    return Cost(
        extents=fitting,
        parameters=parameters,
        flops=flops,
        inference_bytes=parameters * _NUMBER_BYTES + inference,
        training_bytes=parameters * _NUMBER_BYTES + _training(network.train(), batch),
    )


def _inference(network: nn.Module, batch: Tensor) -> tuple[int, int]:
    """Operations, and bytes at the peak."""
    with torch.no_grad(), LiveBytes() as live, FlopCounterMode(display=False) as counter:
        live.start(batch)
        network(batch)
    return counter.get_total_flops(), live.peak


def _training(network: nn.Module, batch: Tensor) -> int:
    """Bytes at the peak of a forward and a backward pass, those of the gradients of the weights counted."""
    with LiveBytes() as live:
        live.start(batch)
        outputs = network(batch)
        heads = cast(list[Tensor], outputs if isinstance(outputs, list) else [outputs])
        torch.stack([head.square().mean() for head in heads]).sum().backward()
    return live.peak
