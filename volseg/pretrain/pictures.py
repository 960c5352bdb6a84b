"""What a pre-training shows: its curves, and scans as the network saw them and as it filled them in."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from volseg.io.atomic import replacing
from volseg.pretrain.masking import MaskedBatch
from volseg.train.records.log import read_log

_TITLES = ("scan", "what the network saw", "filled in by the network")


def draw_curves(log: Path, picture: Path, *, error: str) -> None:
    """The losses of the tasks above, what was measured on held-out scans below, against the step, as PNG.

    Args:
        log: log.csv of the run.
        picture: where to.
        error: "l1" or "mse", for the axis.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  half a second, only when a picture is due

    rows = read_log(log)
    figure = Figure(figsize=(8, 7), layout="constrained")
    loss_axes, measured_axes = figure.subplots(2, 1, sharex=True)
    for name, colour in (("masked_loss", "tab:blue"), ("contrastive_loss", "tab:orange")):
        found = [(row["step"], row[name]) for row in rows if name in row]
        if found:
            loss_axes.plot(*zip(*found, strict=True), color=colour, label=name.replace("_", " "))
    loss_axes.set_ylabel("training losses")
    lines = {
        "held_out_error": ("network", "tab:blue", "-"),
        "mean_error": ("mean of what is visible", "tab:gray", "--"),
        "nearest_error": ("nearest visible voxel", "tab:gray", ":"),
        "pairs_found": ("pairs found", "tab:orange", "-"),
        "pairs_by_chance": ("pairs by chance", "tab:orange", ":"),
    }
    for name, (label, colour, style) in lines.items():
        found = [(row["step"], row[name]) for row in rows if name in row]
        if found:
            told = f"{label} ({found[-1][1]:.3f})"
            measured_axes.plot(*zip(*found, strict=True), color=colour, linestyle=style, label=told)
    measured_axes.set(xlabel="step", ylabel=f"held-out scans ({error} of hidden voxels)")
    for axes in (loss_axes, measured_axes):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(loc="upper right")
    with replacing(picture) as unfinished:
        figure.savefig(unfinished, dpi=110)


def draw_reconstructions(found: Sequence[tuple[MaskedBatch, Tensor]], picture: Path) -> None:
    """A row for each patch: its middle slice whole, with the hidden cubes, and with these filled in; as PNG.

    Args:
        found: each a batch of one patch and what the network says of it [1, C, ...], in units of the target.
        picture: where to.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  half a second, only when a picture is due

    figure = Figure(figsize=(7.5, 2.6 * len(found)), layout="constrained")
    rows = figure.subplots(len(found), len(_TITLES), squeeze=False)
    for axes, (batch, said) in zip(rows, found, strict=True):
        image = batch.target * batch.deviation + batch.mean
        filled = torch.where(batch.hidden, said * batch.deviation + batch.mean, image)
        whole = _middle(image)
        low, high = torch.quantile(whole.flatten(), torch.tensor([0.01, 0.99])).tolist()
        for one, plane in zip(axes, (whole, _middle(batch.image), _middle(filled)), strict=True):
            one.imshow(plane.T.numpy(), cmap="gray", origin="lower", vmin=low, vmax=max(high, low + 1e-6))
            one.set_axis_off()
    for one, title in zip(rows[0], _TITLES, strict=True):
        one.set_title(title)
    with replacing(picture) as unfinished:
        figure.savefig(unfinished, dpi=110)


def _middle(patch: Tensor) -> Tensor:
    """[I, J]: the middle slice of the first channel of [1, C, I, J, K] or [1, C, I, J]."""
    plane = patch[0, 0].float().cpu()
    return plane[..., plane.shape[-1] // 2] if plane.ndim == 3 else plane
