"""From a finished run to a model package: averaged weights, scores on the held-out cases, the card."""

import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volseg.datasets import Case
from volseg.errors import ConfigError
from volseg.evaluate import Summary, summarise, write_scores
from volseg.infer.predictor import golden_case
from volseg.io import read_volume
from volseg.labels import LabelTable, default_colour
from volseg.locate.template import Template, decode_template
from volseg.package import (
    ChannelInfo,
    CodeInfo,
    LabelInfo,
    ModelInfo,
    Package,
    ScoreInfo,
    TrainingInfo,
    write_package,
)
from volseg.train.card import card_text
from volseg.train.scoring import cases_in_words, cross_validation_scores, score_cases
from volseg.train.settings import TrainConfig

_METRICS = {"dice": "dice", "hd95_mm": "hausdorff95_mm", "nsd_1mm": "surface_dice"}
"""Names in a card and the measures of volseg.evaluate they stand for."""


def export_package(
    config: TrainConfig,
    weights: Mapping[str, npt.NDArray[Any]],
    split: tuple[Sequence[Case], Sequence[Case]],
    folder: Path,
    *,
    device: str = "auto",
) -> Path:
    """Write `<name>.volseg` and `scores.csv` into the run folder.

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
    half = {name: _half_precision(array) for name, array in weights.items()}
    info = describe_model(config, [case.id for case in training], len(held_out))
    template = _template(config)
    draft = Package.pack(info, weights=half, card=info.title, golden=None, template=template)
    if config.split.fold == "all":
        scores = cross_validation_scores(config, [case.id for case in training])
    else:
        scores = score_cases(draft, held_out, device=device)
    write_scores(scores, folder / "scores.csv")
    summaries = summarise(scores)
    info = info.model_copy(update={"scores": [_score_info(row, config) for row in summaries]})
    golden = None if config.golden is None else golden_case(draft, read_volume(config.golden))
    path = folder / f"{info.name}.volseg"
    card = card_text(info, summaries) + ("" if template is None else f"\n## Template\n\n{template.notice}\n")
    write_package(path, info=info, weights=half, card=card, golden=golden, template=template)
    return path


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
        channels=[
            ChannelInfo(name=name, modality=card.modality, contrast=card.contrast)
            for name in config.dataset.channel_names()
        ],
        preprocess=[step.model_dump(mode="json") for step in config.preprocess],
        postprocess=[step.model_dump(mode="json") for step in config.postprocess],
        tile=config.tile,
        mirror_axes=list(config.mirror_axes),
        largest_mm=card.largest_mm,
        labels=label_infos(config.dataset.labels(), config),
        locate=None if config.locate is None else config.locate.model_dump(mode="json"),
        located_labels=list(config.located_labels),
        training=TrainingInfo(
            dataset=card.data_name,
            dataset_licence=card.data_licence,
            case_count=len(training_ids),
            case_ids_sha256=hashlib.sha256("\n".join(sorted(training_ids)).encode()).hexdigest(),
            split=f"{len(training_ids)} of {total} labelled cases; "
            + ("none" if split.fold == "all" else f"fold {split.fold} of {split.folds} (seed {split.seed})")
            + f" held out; averaged weights (EMA {optimizer.ema_decay}) of the last step, not the best one",
            steps=config.steps,
            epochs=config.steps * config.batch_size / len(training_ids),
        ),
        intended_use=card.intended_use,
        limits=card.limits,
        data_licence=card.data_licence,
        volseg_version=version("volseg"),
        git_commit=_git_commit(),
    )


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
