"""How much of a scan a network sees at once: the extents of a patch and how many make a batch."""

from dataclasses import dataclass
from math import prod
from typing import Literal

from volseg.errors import ConfigError
from volseg.models.unetpp import UNetPlusPlus
from volseg.plan.memory import NetworkShape, training_bytes
from volseg.plan.request import readable_bytes
from volseg.plan.topology import MOST_LEVELS, Topology, topology, widths

LEAST_BATCH = 2
MOST_BATCH = {"cpu": 2, "cuda": 64}
"""More patches at once make a GPU busier, a CPU only slower."""

BATCH_SHARE = 0.05
"""A batch holds at most this part of the voxels of the training set, lest it learns the set by heart."""

LEAST_PATCH_VOXELS = {3: 80**3, 2: 256**2}
"""A narrower network is taken before patches that are not the whole case get smaller than this."""

_START_VOXELS = {3: 256**3, 2: 2048**2}
_LEAST_WIDTH = 16


@dataclass(frozen=True)
class Room:
    """What a network is planned for; extents and spacing have 2 or 3 axes."""

    spacing_mm: tuple[float, ...]
    extents: tuple[int, ...]
    """Of the median case at that spacing."""
    in_channels: int
    out_channels: int
    exclusive: bool
    set_voxels: float
    """Of all training cases."""
    budget_bytes: int
    device: Literal["cpu", "cuda"]
    max_voxels: int | None = None
    max_batch_size: int | None = None

    @property
    def axes(self) -> int:
        """2 or 3."""
        return len(self.extents)


@dataclass(frozen=True)
class NetworkPlan:
    """A network, its patch and its batch, and what a training step takes."""

    architecture: UNetPlusPlus
    patch_voxels: tuple[int, ...]
    batch_size: int
    bytes: int
    whole: bool
    """The patch holds the median case."""


def network_plan(room: Room, base_width: int, *, may_narrow: bool) -> NetworkPlan:
    """The largest patch, and then the largest batch, that the memory allows.

    With `may_narrow` widths of 3/4 and 1/2 of the base are tried, not below 16 feature maps, until a patch holds the whole
    median case or 80 x 80 x 80 voxels (2D: 256 x 256): a network must see what it is to tell apart.

    Raises:
        ConfigError: not even the smallest patch fits; the message says how much that takes.
    """
    narrower = [base_width * 3 // 4 // 8 * 8, base_width // 2 // 8 * 8] if may_narrow else []
    tries = [base_width, *(width for width in narrower if width >= _LEAST_WIDTH)]
    for width in tries:
        plan = _planned(room, width)
        least = LEAST_PATCH_VOXELS[room.axes]
        enough = min(least, room.max_voxels // 2) if room.max_voxels else least
        if plan.bytes <= room.budget_bytes and (plan.whole or prod(plan.patch_voxels) >= enough):
            return plan
    fitting = [plan for plan in (_planned(room, width) for width in tries) if plan.bytes <= room.budget_bytes]
    if not fitting:
        least = min(_planned(room, width).bytes for width in tries)
        raise ConfigError(
            f"a training of two patches of the smallest useful size takes about {readable_bytes(least)}; there are "
            f"{readable_bytes(room.budget_bytes)}. Allow more memory by --max-vram (GPU) or --max-ram (CPU), or use --dims 2."
        )
    return max(fitting, key=lambda plan: prod(plan.patch_voxels))


def start_extents(room: Room) -> tuple[int, ...]:
    """The box of equal sides in mm that has 256^3 voxels (2D: 2048^2), no larger than the median case."""
    density = [1 / step for step in room.spacing_mm]
    scale = (_START_VOXELS[room.axes] / prod(density)) ** (1 / room.axes)
    return tuple(
        max(1, min(round(scale * axis), extent)) for axis, extent in zip(density, room.extents, strict=True)
    )


def _planned(room: Room, base_width: int) -> NetworkPlan:
    """Shrink the patch, the axis first that covers the most of the median case, until two fit; then add patches."""
    extents = start_extents(room)
    while True:
        shape = topology(room.spacing_mm, extents)
        patch = shape.fitted(extents)
        network = _network(room, shape, base_width)
        needed = _bytes(network, patch, LEAST_BATCH, room)
        too_many = room.max_voxels is not None and prod(patch) > room.max_voxels
        smaller = _smaller(room, patch)
        if (needed <= room.budget_bytes and not too_many) or smaller is None:
            break
        extents = smaller
    batch = _batch_size(network, patch, room)
    whole = all(side >= extent for side, extent in zip(patch, room.extents, strict=True))
    architecture = network.architecture
    assert isinstance(architecture, UNetPlusPlus)
    return NetworkPlan(architecture, patch, batch, _bytes(network, patch, batch, room), whole)


def _smaller(room: Room, patch: tuple[int, ...]) -> tuple[int, ...] | None:
    """The next smaller patch; None where every axis has the least extent a network can use."""
    shares = [
        side / extent if side > _least(extent) else 0.0
        for side, extent in zip(patch, room.extents, strict=True)
    ]
    if not any(shares):
        return None
    axis = shares.index(max(shares))
    shorter = tuple(side - 1 if n == axis else side for n, side in enumerate(patch))
    divisor = topology(room.spacing_mm, shorter).divisors[axis]
    return tuple(
        max(1, (side - 1) // divisor * divisor) if n == axis else side for n, side in enumerate(patch)
    )


def _least(extent: int) -> int:
    """No patch is made smaller than 16 voxels along an axis (or the case, if that is smaller)."""
    return min(16, extent)


def _batch_size(network: NetworkShape, patch: tuple[int, ...], room: Room) -> int:
    most = max(LEAST_BATCH, round(BATCH_SHARE * room.set_voxels / prod(patch)))
    most = min(most, MOST_BATCH[room.device], room.max_batch_size or most)
    one, two = (_bytes(network, patch, count, room) for count in (1, 2))
    fitting = 1 + (room.budget_bytes - one) // max(1, two - one)
    least = min(LEAST_BATCH, room.max_batch_size or LEAST_BATCH)
    return int(max(least, min(most, fitting)))


def _network(room: Room, shape: Topology, base_width: int) -> NetworkShape:
    levels = len(shape.kernel_sizes)
    assert levels <= MOST_LEVELS[room.axes]
    return NetworkShape(
        architecture=UNetPlusPlus(
            dimensions=2 if room.axes == 2 else 3,
            widths=widths(base_width, levels, room.axes),
            kernel_sizes=shape.kernel_sizes,
            strides=shape.strides,
        ),
        in_channels=room.in_channels,
        out_channels=room.out_channels,
        exclusive=room.exclusive,
        half=room.device == "cuda",
    )


def _bytes(network: NetworkShape, patch: tuple[int, ...], batch_size: int, room: Room) -> int:
    return training_bytes(network, patch, batch_size, device=room.device)
