"""What a training leaves to read: a CSV of numbers and a picture of the curves."""

import csv
from collections.abc import Sequence
from pathlib import Path

from volseg.io.atomic import replacing

Row = dict[str, float]

_COLUMNS = ("step", "loss", "learning_rate", "seconds", "waited", "patches_per_second")


class TrainLog:
    """Rows keyed by step in `log.csv`; a resumed run drops the rows after its checkpoint.

    The columns: `loss` is the mean over the last steps; `seconds` the training time so far; `waited` the part (0..1) of
    the time since the row before that was spent waiting for patches; `patches_per_second` of all processes together, in
    that time; `dice_<name>` of a validation.
    """

    def __init__(
        self, folder: Path, names: Sequence[str], *, resumed_at: int, further: Sequence[str] = ()
    ) -> None:
        """Open (resumed_at > 0: continue) the log of a run folder.

        Args:
            folder: of the run.
            names: of the channels that are scored.
            resumed_at: the last row to keep; 0 begins anew.
            further: columns of other numbers.
        """
        self.path = folder / "log.csv"
        self.columns = [*_COLUMNS, *(f"dice_{name}" for name in names), *further]
        kept = [row for row in read_log(self.path) if row["step"] <= resumed_at] if resumed_at else []
        with replacing(self.path) as unfinished, unfinished.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, self.columns)
            writer.writeheader()
            writer.writerows(_cells(row) for row in kept)

    def add(self, row: Row) -> None:
        """Append one row; columns without a value stay empty."""
        with self.path.open("a", newline="") as stream:
            csv.DictWriter(stream, self.columns).writerow(_cells(row))


def _cells(row: Row) -> dict[str, str]:
    return {name: f"{value:.6g}" for name, value in row.items()}


_MOST_NAMES = 16
"""In the legend of the curves; more would leave no room for them."""


def read_log(path: Path) -> list[Row]:
    """The rows of a log; empty cells are left out. No file: no rows."""
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        return [
            {name: float(value) for name, value in row.items() if value} for row in csv.DictReader(stream)
        ]


def draw_curves(log: Path, picture: Path) -> None:
    """Loss and learning rate above, validation Dice per channel below, against the step, as PNG."""
    from matplotlib.figure import Figure  # noqa: PLC0415  half a second, only when a picture is due

    rows = read_log(log)
    figure = Figure(figsize=(8, 7), layout="constrained")
    loss_axes, dice_axes = figure.subplots(2, 1, sharex=True)
    logged = [row for row in rows if "loss" in row]
    steps = [row["step"] for row in logged]
    loss_axes.plot(steps, [row["loss"] for row in logged], color="tab:blue")
    loss_axes.set_ylabel("training loss")
    rate_axes = loss_axes.twinx()
    rate_axes.plot(steps, [row.get("learning_rate", 0.0) for row in logged], color="tab:gray", linestyle=":")
    rate_axes.set_ylabel("learning rate (dotted)")
    for name in sorted({name for row in rows for name in row if name.startswith("dice_")}):
        scored = [row for row in rows if name in row]
        steps, dices = [row["step"] for row in scored], [row[name] for row in scored]
        dice_axes.plot(
            steps, dices, marker=".", label=f"{name.removeprefix('dice_')} (best {max(dices):.4f})"
        )
    dice_axes.set(xlabel="step", ylabel="validation Dice")
    if 0 < len(dice_axes.lines) <= _MOST_NAMES:
        dice_axes.legend(loc="lower right")
    for axes in (loss_axes, dice_axes):
        axes.grid(alpha=0.3)
    with replacing(picture) as unfinished:
        figure.savefig(unfinished, dpi=110)
