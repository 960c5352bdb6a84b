"""Which extents a network takes, and what it gives back of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from volseg.errors import InputError
from volseg.models.places import Place

Extents = tuple[int, ...]


@dataclass(frozen=True)
class ExtentRule:
    """Each axis of an input must be a multiple of its divisor, plus a remainder; the logits lack a margin on each side.

    Networks that pad their convolutions have neither remainder nor margin. Those that do not (Ronneberger et al. 2015)
    lose voxels at every border: their U-Net takes 16 n + 12 voxels, such as 572, and gives 184 fewer, such as 388.
    """

    divisors: Extents
    """Also the steps by which an input may move for the network to see its voxels on the same grids."""
    remainders: Extents
    margins: Extents
    """Voxels of the input on each face that have no logits."""
    least: Extents
    """The smallest input."""

    @classmethod
    def multiples_of(cls, divisors: Extents, least: Extents | None = None) -> "ExtentRule":
        """Multiples of the divisors, nothing lost."""
        zeros = (0,) * len(divisors)
        return cls(divisors, zeros, zeros, least or divisors)

    def fitting(self, extents: Extents) -> Extents:
        """The smallest input that is at least as large as these extents."""
        rows = zip(extents, self.divisors, self.remainders, self.least, strict=True)
        return tuple(
            _next(max(extent, least), divisor, remainder) for extent, divisor, remainder, least in rows
        )

    def output(self, extents: Extents) -> Extents:
        """Extents of the logits of an input."""
        return tuple(extent - 2 * margin for extent, margin in zip(extents, self.margins, strict=True))

    def check(self, extents: Extents) -> None:
        """Refuse what the network cannot take.

        Raises:
            InputError: another number of axes, or extents that do not fit; the message gives the size to use.
        """
        if len(extents) != len(self.divisors):
            raise InputError(
                f"this network is {len(self.divisors)}D; found an input of {len(extents)} axes, {extents}."
            )
        fitting = self.fitting(extents)
        if fitting != extents:
            raise InputError(f"extents {extents} do not suit this network; pad the input to {fitting}.")


def _next(extent: int, divisor: int, remainder: int) -> int:
    return extent + (remainder - extent) % divisor


def extent_rule(
    strides: Sequence[Extents], losses: Sequence[Extents], places: Sequence[Place], *, exact: bool
) -> ExtentRule:
    """What a network takes whose level i divides by strides[i] and whose every block there loses losses[i] voxels.

    Args:
        strides: per level and axis; those of level 0 divide the image.
        losses: per level and axis, 0 where convolutions are padded.
        places: the decoder nodes in the order of their computation.
        exact: extents must divide at every level; they must where something is lost.
    """
    rows = [
        _axis_rule(steps, lost, places)
        for steps, lost in zip(zip(*strides, strict=True), zip(*losses, strict=True), strict=True)
    ]
    divisors, remainders, margins, least = (tuple(values) for values in zip(*rows, strict=True))
    if not exact:
        return ExtentRule.multiples_of((1,) * len(least), least)
    return ExtentRule(divisors, remainders, margins, least)


def _axis_rule(
    steps: tuple[int, ...], lost: tuple[int, ...], places: Sequence[Place]
) -> tuple[int, int, int, int]:
    """Divisor, remainder, margin and least extent of an axis.

    Where the coarsest level gives m voxels, node X[i,j] gives m times its strides down to there, plus `more` voxels: the
    encoder above loses fewer, the decoder more. A node has what the smallest of its inputs has, less what it loses.
    """
    more = {(len(steps) - 1, 0): 0}
    for level in range(len(steps) - 1, 0, -1):
        more[level - 1, 0] = steps[level] * (more[level, 0] + lost[level])
    for place in places:
        level, column = place.level, place.column
        inputs = [
            steps[level + 1] * more[level + 1, column - 1],
            *(more[level, skip] for skip in place.skips),
        ]
        more[level, column] = min(inputs) - lost[level]
    divisor = prod(steps)
    taken = steps[0] * (more[0, 0] + lost[0])
    given = steps[0] * more[places[-1].level, places[-1].column]
    count = max(1, -((given - 1) // divisor))
    return divisor, taken % divisor, (taken - given) // 2, taken + count * divisor
