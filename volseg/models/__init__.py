"""Network architectures: parameters in, torch module out; found by name."""

from typing import Literal, Protocol

from volseg.registry import Registry, Step


class Architecture(Step):
    """The parameters of a network; `build` makes the torch module."""

    dimensions: Literal[2, 3] = 3

    def build(self, in_channels: int, label_count: int, *, head: int | None = None) -> "Network":
        """The untrained module for C input channels and L labels (background counted)."""
        raise NotImplementedError


class Network(Protocol):
    """What training and inference need of a module, beyond torch.nn.Module."""

    divisors: tuple[int, ...]
    """Each spatial extent of the input must be a multiple of the entry of its axis."""


MODELS: Registry[Architecture] = Registry("architecture", "volseg.models")
