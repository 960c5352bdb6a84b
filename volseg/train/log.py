"""What a training leaves to read: a CSV of numbers and a picture of the curves."""

import csv
from collections.abc import Sequence
from pathlib import Path

Row = dict[str, float]


class TrainLog:
    """Rows keyed by step in `log.csv`; a resumed run drops the rows after its checkpoint."""

    def __init__(self, folder: Path, label_names: Sequence[str], *, resumed_at: int) -> None:
        """Open (resumed_at > 0: continue) the log of a run folder."""
        self.path = folder / "log.csv"
        self.columns = ["step", "loss", "learning_rate", "seconds", *(f"dice_{name}" for name in label_names)]
        kept = [row for row in read_log(self.path) if row["step"] <= resumed_at] if resumed_at else []
        with self.path.open("w", newline="") as stream:
            csv.DictWriter(stream, self.columns).writeheader()
        for row in kept:
            self.add(row)
        self.seconds_before = max((row["seconds"] for row in kept if "seconds" in row), default=0.0)
        """Training time of the runs before this one, in seconds."""

    def add(self, row: Row) -> None:
        """Append one row; columns without a value stay empty."""
        with self.path.open("a", newline="") as stream:
            csv.DictWriter(stream, self.columns).writerow(
                {name: f"{value:.6g}" for name, value in row.items()}
            )


def read_log(path: Path) -> list[Row]:
    """The rows of a log; empty cells are left out. No file: no rows."""
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        return [
            {name: float(value) for name, value in row.items() if value} for row in csv.DictReader(stream)
        ]


def draw_curves(log: Path, picture: Path) -> None:
    """Loss and learning rate above, validation Dice per label below, against the step, as PNG."""
    from matplotlib.figure import Figure  # noqa: PLC0415  half a second, only when a picture is due

    rows = read_log(log)
    figure = Figure(figsize=(8, 7), layout="constrained")
    loss_axes, dice_axes = figure.subplots(2, 1, sharex=True)
    logged = [row for row in rows if "loss" in row]
    loss_axes.plot([row["step"] for row in logged], [row["loss"] for row in logged], color="tab:blue")
    loss_axes.set_ylabel("training loss")
    for name in sorted({name for row in rows for name in row if name.startswith("dice_")}):
        scored = [row for row in rows if name in row]
        steps, dices = [row["step"] for row in scored], [row[name] for row in scored]
        dice_axes.plot(
            steps, dices, marker=".", label=f"{name.removeprefix('dice_')} (best {max(dices):.4f})"
        )
    dice_axes.set(xlabel="step", ylabel="validation Dice")
    if dice_axes.lines:
        dice_axes.legend(loc="lower right")
    for axes in (loss_axes, dice_axes):
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=110)
