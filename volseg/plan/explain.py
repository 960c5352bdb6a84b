"""Why a plan is as it is, in sentences with numbers."""

from collections.abc import Iterable
from math import prod

from volseg.labels import LabelTable
from volseg.package.fingerprint import ChannelPrint, Fingerprint
from volseg.plan.intensities import FIXED, background_is_zeroed, peaks_are_wild
from volseg.plan.memory import NetworkShape, parameter_count
from volseg.plan.patch import NetworkPlan
from volseg.plan.recipe import PASSES, comes_in_pieces, names_a_side
from volseg.plan.request import readable_bytes
from volseg.preprocess.spatial import Orient, Respace
from volseg.train.settings import TrainConfig


def choice(chosen: str, names: list[str], where: str) -> str:
    """Where it was planned for and which of the variants was chosen."""
    others = [name for name in names if name != chosen]
    rest = f" {', '.join(others)} can be tried as well." if others else ""
    return f"{where} Chosen: {chosen}.{rest}"


def reasons(
    config: TrainConfig,
    fingerprint: Fingerprint,
    network: NetworkPlan,
    *,
    extents: tuple[int, ...],
    labels: LabelTable,
    budget_bytes: int,
) -> dict[str, str]:
    """One text per field of a configuration, in the order of the file.

    Args:
        config: the planned configuration.
        fingerprint: what it was planned from.
        network: its network with patch and memory.
        extents: of the median case on the model's grid, (I, J, K).
        labels: the label table.
        budget_bytes: what a training step may take.
    """
    whole = " It holds the whole median case." if network.whole else ""
    share = prod(config.patch_voxels) / prod(extents)
    return {
        "split": _split(config, fingerprint),
        "preprocess": f"{_grid(config, fingerprint)} {_intensities(fingerprint)}",
        "architecture": _network(config, network, fingerprint),
        "patch_voxels": (
            f"{_times(config.patch_voxels)} voxels of the median case's {_times(extents)} ({share:.0%}), in batches of "
            f"{config.batch_size}: a training step takes about {readable_bytes(network.bytes)} of "
            f"{readable_bytes(budget_bytes)}.{whole}"
        ),
        "steps": (
            f"{config.steps} steps show {config.steps * config.batch_size * share / fingerprint.cases:.0f} times the voxels "
            f"of each case (aim: {PASSES}, within bounds)."
        ),
        "sampling": _sampling(config, fingerprint),
        "augment": _augmentation(config, labels, fingerprint),
        "optimizer": "AdamW with a short warm-up and half a cosine; averaged weights are validated and shipped.",
        "postprocess": "Chosen on held-out predictions: only the largest component, or none below a size, of a label where that helps.",
    }


def _split(config: TrainConfig, fingerprint: Fingerprint) -> str:
    if config.split.fold == "all":
        return f"All {fingerprint.cases} cases train; none is held out, so no score will be known."
    return (
        f"{fingerprint.cases} cases of {fingerprint.patients} patients in {config.split.folds} folds; no patient lies on both "
        "sides of a split."
    )


def _grid(config: TrainConfig, fingerprint: Fingerprint) -> str:
    respace = next(step for step in config.preprocess if isinstance(step, Respace))
    codes = next(step.codes for step in config.preprocess if isinstance(step, Orient))
    data = _times(axis.median for axis in fingerprint.spacing_mm)
    smooth = ", smoothed first as that is coarser than the data" if respace.antialias else ""
    axis = "" if codes == "RAS" else f" Axes point to {codes}, so that the thick slices are the last axis."
    frame = "RAS"
    if fingerprint.slices_last:
        axis = " Slices run in several directions: of each scan, whatever its direction, that axis is made the last."
        frame = "slices last"
    return f"The median spacing is {data} mm ({frame}); the model's is {_times(respace.spacing_mm)} mm{smooth}.{axis}"


def _intensities(fingerprint: Fingerprint) -> str:
    parts = [_fixed_text(channel) for channel in fingerprint.channels if channel.modality in FIXED]
    own = [channel.name for channel in fingerprint.channels if channel.modality not in FIXED]
    if own:
        where = " over voxels that are not zero" if background_is_zeroed(fingerprint) else ""
        clip = (
            ", clipped to its 0.5th and 99.5th percentile as single voxels are far brighter than the rest"
            if peaks_are_wild(fingerprint)
            else ""
        )
        parts.append(f"{', '.join(own)}: scaled by each scan's own mean and deviation{where}{clip}.")
    if background_is_zeroed(fingerprint):
        parts.append(
            f"The box of what is not zero has {fingerprint.nonzero_fraction.median:.0%} of the median case."
        )
    return " ".join(parts)


def _fixed_text(channel: ChannelPrint) -> str:
    return (
        f"{channel.name} ({channel.modality}): clipped to {channel.low:g}..{channel.high:g}, then ({channel.mean:g} ± "
        f"{channel.deviation:g}) becomes (0 ± 1), from the labelled voxels."
    )


def _network(config: TrainConfig, network: NetworkPlan, fingerprint: Fingerprint) -> str:
    architecture = network.architecture
    around = 2 * config.tile.slices_around + 1
    channels = len(fingerprint.channels) * around
    count = parameter_count(
        NetworkShape(
            architecture=architecture, in_channels=channels, out_channels=2, half=config.channels_last
        )
    )
    waits = sum(1 in row for row in architecture.strides or ())
    thick = (
        f" {waits} of {architecture.depth} halvings leave an axis out, as it is thick or short."
        if waits
        else ""
    )
    slices = f" It sees {around} neighbouring slices." if around > 1 else ""
    return (
        f"U-Net++ in {architecture.dimensions}D, {architecture.depth + 1} levels, {count / 1e6:.1f} million parameters.{thick}"
        f"{slices}"
    )


def _sampling(config: TrainConfig, fingerprint: Fingerprint) -> str:
    pieces = [label.name for label in fingerprint.labels if comes_in_pieces(label)]
    text = f"{config.sampling.foreground_fraction:.0%} of the patches are centred on a label."
    if pieces:
        text += f" {', '.join(pieces)}: several pieces, so half of these patches choose a piece, whatever its size."
    if config.sampling.label_weights:
        text += f" Rare, so taken more often: {', '.join(config.sampling.label_weights)}."
    return text


def _augmentation(config: TrainConfig, labels: LabelTable, fingerprint: Fingerprint) -> str:
    sided = names_a_side(labels)
    if sided:
        mirror = f"Not mirrored: '{sided[0]}' has a side."
    elif config.mirror_axes:
        mirror = "Mirrored between right and left, as no label has a side."
    elif fingerprint.slices_last:
        mirror = "Not mirrored: right-left is another axis in some scans."
    else:
        mirror = "Not mirrored: right-left is across the slices."
    return f"{mirror} Turned by up to {config.augment.rotation_degrees:g} degrees."


def _times(numbers: Iterable[float]) -> str:
    return " x ".join(f"{number:.3g}" for number in numbers)
