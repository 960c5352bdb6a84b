"""The decoder nodes of a network of the U-Net family.

Node X[i,j] sits at resolution level i (0 is the finest of the encoder) and column j (Zhou et al. 2020, eq. 1):

    X[i,0] = the encoder's feature
    X[i,j] = H([X[i,0], ..., X[i,j-1], U(X[i+1,j-1])])    j > 0; U is up-sampling, [.] concatenation

A U-Net has of these only X[i,D-i], each with the one skip X[i,0] (Zhou et al. 2020, figure 1a), where D is the depth.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where a decoder node is, and the columns of its level that it takes as skips."""

    level: int
    column: int
    skips: tuple[int, ...]

    @property
    def name(self) -> str:
        """X0_1 for X[0,1]."""
        return f"X{self.level}_{self.column}"


def node_order(head: int) -> list[tuple[int, int]]:
    """The nodes (i, j) that head L of a U-Net++ needs, each after its inputs: by anti-diagonal i + j, encoder first."""
    return [(total - j, j) for total in range(head + 1) for j in range(total + 1)]


def nested_places(head: int) -> list[Place]:
    """The decoder nodes of a U-Net++ up to head L, those of shallow heads first."""
    return [Place(i, j, tuple(range(j))) for i, j in node_order(head) if j]


def single_places(depth: int) -> list[Place]:
    """The decoder nodes of a U-Net, coarsest first."""
    return [Place(depth - column, column, (0,)) for column in range(1, depth + 1)]
