"""From a finished run to a model package: averaged weights, scores on the held-out cases, the card."""

import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError

from volseg.datasets import Case
from volseg.errors import ConfigError
from volseg.evaluate import Score, Summary, summarise, summarise_cases, write_scores
from volseg.infer.predictor import golden_case
from volseg.io import read_volume, write_label_map
from volseg.labels import LabelTable, default_colour
from volseg.locate.template import Template, decode_template
from volseg.package import (
    ChannelInfo,
    CodeInfo,
    LabelInfo,
    ModelInfo,
    Package,
    RegionInfo,
    ScoreInfo,
    TrainingInfo,
    write_package,
)
from volseg.package.fingerprint import Fingerprint
from volseg.postprocess import PostprocessStep
from volseg.train.outcome.card import card_text
from volseg.train.outcome.choose import Choice
from volseg.train.outcome.previews import draw_worst
from volseg.train.outcome.scoring import (
    cases_in_words,
    chosen_predictions,
    cross_validation_scores,
    folds_postprocess,
    held_out_predictions,
    score_prediction,
)
from volseg.train.settings import SplitConfig, TrainConfig
from volseg.train.split import trained_regions

_METRICS = {"dice": "dice", "iou": "iou", "hd95_mm": "hausdorff95_mm", "nsd_1mm": "surface_dice"}
"""Names in a card and the measures of volseg.evaluate they stand for."""


ENCODER_NOTE = "encoder_weights.txt"
"""The file of a run folder that says which weights the encoder started from."""


def export_package(
    config: TrainConfig,
    weights: Mapping[str, npt.NDArray[Any]],
    split: tuple[Sequence[Case], Sequence[Case]],
    folder: Path,
    *,
    device: str = "auto",
) -> Path:
    """Write `<name>.volseg` and `scores.csv` into the run folder, and what was found in the held-out cases.

    The held-out cases are predicted from their files by the packed model itself (half-precision weights, tiles,
    postprocessing), so the scores in the card are those a user gets. A model of all cases quotes the runs of the
    folds (`cross_validation`).

    Args:
        config: the training's configuration.
        weights: the network's state by name.
        split: (training cases, held-out cases).
        folder: the run folder.
        device: where to predict.
    """
    training, held_out = split
    info = describe_model(config, [case.id for case in training], len(held_out))
    half = packed_weights(config, info, weights)
    template = _template(config)
    draft = Package.pack(info, weights=half, card=info.title, golden=None, template=template)
    if config.split.fold == "all":
        scores = cross_validation_scores(config, [case.id for case in training])
        choice = folds_postprocess(config) if config.postprocess == "choose" else None
    else:
        scores, choice = _score_held_out(config, draft, held_out, folder, device=device)
    write_scores(scores, folder / "scores.csv")
    patients = {case.id: case.patient for case in (*training, *held_out) if case.patient}
    summaries = summarise(scores, patients=patients)
    found: dict[str, Any] = {"scores": [_score_info(row, config) for row in summaries]}
    if choice is not None:
        found["postprocess"] = [step.model_dump(mode="json") for step in choice.steps]
    info = info.model_copy(update=found)
    draft = Package.pack(info, weights=half, card=info.title, golden=None, template=template)
    golden = None if config.golden is None else golden_case(draft, read_volume(config.golden))
    path = folder / f"{info.name}.volseg"
    card = card_text(
        info,
        summaries,
        whole=summarise_cases(scores, patients=patients) if scores else None,
        postprocess_notes=() if choice is None else choice.notes,
        encoder_start=_encoder_start(folder),
    )
    card += "" if template is None else f"\n## Template\n\n{template.notice}\n"
    write_package(path, info=info, weights=half, card=card, golden=golden, template=template)
    return path


def _score_held_out(
    config: TrainConfig, draft: Package, held_out: Sequence[Case], folder: Path, *, device: str
) -> tuple[list[Score], Choice | None]:
    """Predict the held-out cases, keep what was found in `validation/`, and draw the worst of them.

    Gives the scores, and the choice of postprocessing where it was to be chosen.
    """
    if config.postprocess == "choose":
        choice, predictions = chosen_predictions(draft, held_out, device=device)
    else:
        choice, predictions = None, held_out_predictions(draft, held_out, device=device)
    maps = folder / "validation"
    maps.mkdir(exist_ok=True)
    files: dict[str, Path] = {}
    scores: list[Score] = []
    for found in predictions:
        files[found.case.id] = maps / f"{found.case.file_name}.nii.gz"
        write_label_map(found.found, files[found.case.id])
        scores += score_prediction(found, draft.info)
    table, count = draft.info.label_table, config.validation.previews
    draw_worst(scores, held_out, files, folder / "previews", labels=table, count=count)
    return scores, choice


def describe_model(config: TrainConfig, training_ids: Sequence[str], held_out_count: int) -> ModelInfo:
    """model.json of a training, scores still empty."""
    card, split, optimizer = config.card, config.split, config.optimizer
    total = len(training_ids) + held_out_count
    return ModelInfo(
        name=card.name,
        version=card.version,
        title=card.title,
        description=card.description,
        architecture=config.architecture.model_dump(mode="json"),
        head=config.head,
        channels=[
            ChannelInfo(name=name, modality=card.modality, contrast=card.contrast)
            for name in config.dataset.channel_names()
        ],
        preprocess=[step.model_dump(mode="json") for step in config.preprocess],
        postprocess=[
            step.model_dump(mode="json") for step in config.postprocess if isinstance(step, PostprocessStep)
        ],
        tile=config.tile,
        mirror_axes=list(config.mirror_axes),
        largest_mm=card.largest_mm,
        labels=label_infos(config.dataset.labels(), config),
        regions=[
            RegionInfo(name=region.name, values=list(region.values), paint=region.paint)
            for region in trained_regions(config)
        ],
        locate=None if config.locate is None else config.locate.model_dump(mode="json"),
        located_labels=list(config.located_labels),
        training=TrainingInfo(
            dataset=card.data_name,
            dataset_licence=card.data_licence,
            case_count=len(training_ids),
            case_ids_sha256=hashlib.sha256("\n".join(sorted(training_ids)).encode()).hexdigest(),
            split=f"{len(training_ids)} of {total} labelled cases; {_held_out_in_words(split)}; averaged "
            f"weights (EMA {optimizer.ema_decay}) of the last step, not the best one",
            steps=config.steps,
            epochs=config.steps * config.batch_size * config.accumulate / len(training_ids),
            fingerprint=_fingerprint(config),
        ),
        intended_use=card.intended_use,
        limits=card.limits,
        data_licence=card.data_licence,
        volseg_version=version("volseg"),
        git_commit=_git_commit(),
    )


def _held_out_in_words(split: SplitConfig) -> str:
    if split.fold == "all":
        return "none held out"
    source = f"of {split.folds} (seed {split.seed})" if split.file is None else f"of {split.file.name}"
    return f"fold {split.fold} {source} held out"


def _fingerprint(config: TrainConfig) -> Fingerprint | None:
    """What `volseg plan` measured of the training set."""
    if config.fingerprint is None:
        return None
    try:
        return Fingerprint.model_validate_json(config.fingerprint.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{config.fingerprint}: cannot be read ({error.strerror}).") from None
    except ValidationError as error:
        raise ConfigError(
            f"{config.fingerprint}: is no fingerprint of `volseg plan` ({error.error_count()} problems)."
        ) from None


def _encoder_start(folder: Path) -> str | None:
    note = folder / ENCODER_NOTE
    return note.read_text(encoding="utf-8").strip() if note.is_file() else None


def _template(config: TrainConfig) -> Template | None:
    """The template that the package will hold."""
    if config.template is None:
        return None
    try:
        return decode_template(config.template.read_bytes(), str(config.template))
    except OSError as error:
        raise ConfigError(f"{config.template}: the template cannot be read ({error.strerror}).") from None


def label_infos(labels: LabelTable, config: TrainConfig) -> list[LabelInfo]:
    """The labels with the colours and codes the configuration gives them."""
    infos: list[LabelInfo] = []
    for index, label in enumerate(labels):
        code = config.card.codes.get(label.name)
        infos.append(
            LabelInfo(
                value=label.value,
                name=label.name,
                colour=config.card.colours.get(label.name, default_colour(index)),
                code=CodeInfo(scheme=code[0], value=code[1], meaning=code[2]) if code else None,
            )
        )
    return infos


def _score_info(summary: Summary, config: TrainConfig) -> ScoreInfo:
    return ScoreInfo(
        label=summary.name,
        cases=cases_in_words(config),
        case_count=summary.cases,
        means={name: round(summary.mean[measure], 4) for name, measure in _METRICS.items()},
    )


def packed_weights(
    config: TrainConfig, info: ModelInfo, weights: Mapping[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    """The network's state in half precision; with a `head` that of the nodes which it needs, alone."""
    names = list(weights)
    if config.head is not None:
        with torch.device("meta"):
            pruned = config.architecture.build(info.in_channels, info.channel_count, head=config.head)
        names = list(pruned.state_dict())
    return {name: _half_precision(weights[name]) for name in names}


def _half_precision(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.astype(np.float16) if array.dtype.kind == "f" else array


def _git_commit() -> str:
    """The commit of the checkout this code runs from, "unknown" for an installed copy."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "rev-parse", "--short=12", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return answer.stdout.strip()
