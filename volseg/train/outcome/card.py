"""The model card: what a person should read before using a model, as Markdown."""

from collections.abc import Sequence

from volseg.evaluate import FAILED_DICE, CaseSummary, Rate, Summary
from volseg.package import ModelInfo
from volseg.package.fingerprint import ChannelPrint, Fingerprint, LabelPrint, Spread

_AXES = ("right-left", "front-back", "up-down")


def card_text(
    info: ModelInfo,
    summaries: Sequence[Summary],
    *,
    whole: CaseSummary | None = None,
    postprocess_notes: Sequence[str] = (),
    encoder_start: str | None = None,
) -> str:
    """The card of a model with its scores on held-out cases.

    Args:
        info: the model; the first of its scores says which cases they are from.
        summaries: of each label, then each region.
        whole: the measures of whole label maps.
        postprocess_notes: how the postprocess steps were chosen, where they were.
        encoder_start: which trained weights the encoder began with.
    """
    training = info.training
    return f"""# {info.title}

{info.description}

**Research software, not a medical device.**

- For: {info.intended_use}
- Not for, limits: {info.limits}
- Input: {"; ".join(f"{channel.name} ({channel.modality})" for channel in info.channels)}
- Labels: {", ".join(f"{label.value} {label.name}" for label in info.labels)}
{_regions(info)}- Data: {training.dataset}, licence {training.dataset_licence}; {training.split}
- Training: {training.steps} steps{_epochs(training.epochs)}; volseg {info.volseg_version}, commit {info.git_commit}
{_encoder(encoder_start)}- Licence of the weights: {info.data_licence}, as the data's

## Scores

{_scores(info, summaries, whole)}
{_postprocess(info, postprocess_notes)}{_fingerprint(training.fingerprint)}"""


def _regions(info: ModelInfo) -> str:
    names = {label.value: label.name for label in info.labels}
    regions = [
        f"{region.name} ({', '.join(names[value] for value in region.values)})" for region in info.regions
    ]
    return f"- Regions, each found on its own: {'; '.join(regions)}\n" if regions else ""


def _encoder(start: str | None) -> str:
    return "" if start is None else f"- Encoder: began with {start}\n"


def _epochs(epochs: float | None) -> str:
    return "" if epochs is None else f", {epochs:.0f} epochs"


def _scores(info: ModelInfo, summaries: Sequence[Summary], whole: CaseSummary | None) -> str:
    if not summaries:
        return "None: no case was held out, and no run of the folds was named."
    parts = [
        _score_table(summaries),
        f"""Mean ± standard deviation over {summaries[0].cases} cases, in brackets the 95 % confidence interval of the mean
(percentile bootstrap over patients; too narrow for fewer than about ten): {info.scores[0].cases}. HD95: 95th percentile of the symmetric surface distance. NSD:
surface Dice at 1 mm. Failed: cases with a Dice below {FAILED_DICE:g}.""",
        _absent(summaries),
        _whole(whole),
        _lesion_table(summaries),
    ]
    return "\n\n".join(part for part in parts if part)


def _score_table(summaries: Sequence[Summary]) -> str:
    rows = [
        "| label | Dice | IoU | HD95 (mm) | NSD | volume error (ml) | failed |",
        "|---|---|---|---|---|---|---|",
    ]
    digits = {"dice": 4, "iou": 4, "hausdorff95_mm": 2, "surface_dice": 4, "volume_error_ml": 3}
    for row in summaries:
        cells = [_spread(row, measure, places) for measure, places in digits.items()]
        rows.append(f"| {' | '.join([row.name, *cells, f'{row.failures} of {row.cases}'])} |")
    labels = [row for row in summaries if row.label] or list(summaries)
    means = [
        sum(row.mean[name] for row in labels) / len(labels) for name in ("dice", "iou", "hausdorff95_mm")
    ]
    rows.append(f"| mean of labels | {means[0]:.4f} | {means[1]:.4f} | {means[2]:.2f} | | | |")
    return "\n".join(rows)


def _spread(row: Summary | CaseSummary, measure: str, digits: int) -> str:
    text = f"{row.mean[measure]:.{digits}f} ± {row.deviation[measure]:.{digits}f}"
    interval = row.interval.get(measure)
    return text if interval is None else f"{text} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


def _absent(summaries: Sequence[Summary]) -> str:
    absent = [f"{row.empty_references} have no {row.name}" for row in summaries if row.empty_references]
    if not absent:
        return ""
    return (
        f"Of the {summaries[0].cases} cases, {', '.join(absent)}. Marking nothing there counts as Dice 1 and HD95 0, marking "
        "anything as Dice 0 and HD95 the diagonal of the image."
    )


def _whole(whole: CaseSummary | None) -> str:
    if whole is None:
        return ""
    text = f"Mean IoU of the labels of a case: {_spread(whole, 'mean_iou', 4)}."
    if "pixel_accuracy" in whole.mean:
        text += f" Voxels with the right label, background included: {_spread(whole, 'pixel_accuracy', 5)}."
    return text


def _lesion_table(summaries: Sequence[Summary]) -> str:
    """Lesions found and real, of the labels that have more lesions than cases."""
    rows = [
        f"| {row.name} | {_rate(row.lesion_recall)} | {_rate(row.lesion_precision)} |"
        for row in summaries
        if row.lesion_recall and row.lesion_precision and row.lesion_recall.total > row.cases
    ]
    if not rows:
        return ""
    head = ["| label | separate lesions found | separate marks that are real |", "|---|---|---|"]
    return "\n".join([*head, *rows]) + (
        "\n\nA lesion is a connected component; it is found where a mark overlaps it with an IoU of at least 0.1."
    )


def _rate(rate: Rate) -> str:
    text = f"{rate.hits} of {rate.total}"
    if rate.value is None:
        return text
    interval = "" if rate.interval is None else f" [{rate.interval[0]:.2f}, {rate.interval[1]:.2f}]"
    return f"{text}: {rate.value:.2f}{interval}"


def _postprocess(info: ModelInfo, notes: Sequence[str]) -> str:
    if not info.postprocess and not notes:
        return ""
    names = {label.value: label.name for label in info.labels}
    steps = [
        ", ".join(
            [
                str(step["name"]),
                *(_setting(*entry, names) for entry in step.items() if entry[0] != "name" and entry[1]),
            ]
        )
        for step in info.postprocess
    ]
    lines = [f"{number}. {step}" for number, step in enumerate(steps, start=1)] or ["None."]
    chosen = ["", "How that was chosen:", "", *(f"- {note}" for note in notes)] if notes else []
    return "\n".join(["", "## Postprocessing", "", *lines, *chosen, ""])


def _setting(key: str, value: object, names: dict[int, str]) -> str:
    """A parameter of a step, label values by name."""
    if key == "labels" and isinstance(value, list | tuple):
        return f"labels {', '.join(names.get(label, str(label)) for label in value)}"
    return key if value is True else f"{key} {value}"


def _fingerprint(found: Fingerprint | None) -> str:
    """What scans the training set held: a scan far from these is one the model has not seen the like of."""
    if found is None:
        return ""
    spacing, size = (
        ", ".join(f"{axis} {_range(spread)}" for axis, spread in zip(_AXES, spreads, strict=True))
        for spreads in (found.spacing_mm, found.size_mm)
    )
    lines = [
        f"{found.cases} scans of {found.patients} patients. Ranges are the 10th to the 90th percentile of the cases.",
        "",
        f"- Voxels (mm): {spacing}",
        f"- Size (mm): {size}",
        *(_channel(channel) for channel in found.channels),
        *(_label(label, found.cases) for label in found.labels),
    ]
    return "\n".join(["", "## Scans of the training set", "", *lines, ""])


def _channel(channel: ChannelPrint) -> str:
    return (
        f"- {channel.name} inside the labels: mean {channel.mean:.4g} ± {channel.deviation:.4g}, "
        f"0.5 to 99.5 % of the voxels from {channel.low:.4g} to {channel.high:.4g}"
    )


def _label(label: LabelPrint, cases: int) -> str:
    text = f"- {label.name}: in {label.present} of {cases} cases"
    text += "" if label.volume_ml is None else f", {_range(label.volume_ml)} ml"
    return text + ("" if label.components is None else f", pieces in a case: {_range(label.components)}")


def _range(spread: Spread) -> str:
    low, high = (f"{end:.3g}" if abs(end) < 1000 else f"{end:.0f}" for end in (spread.low, spread.high))
    return low if low == high else f"{low} to {high}"
