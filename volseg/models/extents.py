"""Which extents a network takes, and what it gives back of them."""

from dataclasses import dataclass

from volseg.errors import InputError

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
