"""The state of a training on disk: written whole or not at all, read without running code."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from volseg.errors import InputError
from volseg.io.atomic import replacing

_FORMAT = 2


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything a run needs to go on exactly: the next batch depends only on the step number."""

    step: int
    recorded: int
    """The last step that was logged and, where due, validated; what is missing up to `step` is made up for."""
    state: dict[str, dict[str, Any]]
    """Of the Stepper: module, average, optimizer, scaler."""
    plateau: dict[str, Any]
    best_dice: float
    last_dice: dict[str, float]
    """Of the last validation, by channel name; empty before the first."""
    losses: list[float]
    """Of the last steps, so that the log goes on without a break."""
    seconds: float
    """Training time so far."""
    processes: int
    """How many train together; each draws patches of its own."""
    config: str
    """The resolved configuration, YAML."""


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write whole or not at all: a crash leaves the previous checkpoint.

    Raises:
        OutputError: no space left, or another refusal of the file system.
    """
    with replacing(path) as unfinished, unfinished.open("wb") as stream:
        torch.save({"format": _FORMAT, **vars(checkpoint)}, stream)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; only tensors and plain values are accepted.

    Raises:
        InputError: missing, damaged, or of another format.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(
            f"{path}: there is no such checkpoint; start the training without --resume."
        ) from None
    except Exception as error:  # torch raises many types for damaged files
        raise InputError(
            f"{path}: is no readable checkpoint ({type(error).__name__}); use another one."
        ) from error
    if not isinstance(state, dict) or state.pop("format", None) != _FORMAT:
        raise InputError(
            f"{path}: is no volseg checkpoint of format {_FORMAT}; train again with this version."
        )
    return Checkpoint(**state)
