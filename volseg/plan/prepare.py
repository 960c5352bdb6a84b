"""From a dataset folder to the settings of a training: planned once, kept in a folder, and read from there ever after."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from volseg.config import dump_config, load_config
from volseg.datasets import Case, Dataset
from volseg.datasets.recognise import Recognition, recognise
from volseg.errors import ConfigError, OutputError
from volseg.io.atomic import replacing
from volseg.package.fingerprint import Fingerprint
from volseg.plan.budget import fit_budget
from volseg.plan.fingerprint import measure_fingerprint
from volseg.plan.planner import Plan, check_request, plan_training
from volseg.plan.request import PlanRequest
from volseg.plan.throughput import measure_step
from volseg.plan.write import FINGERPRINT_FILE, PLAN_FILE, write_fingerprint, write_plan
from volseg.train.settings import TrainConfig

REQUEST_FILE = "request.yaml"


@dataclass(frozen=True)
class Prepared:
    """A folder with a plan."""

    path: Path
    """Of the configuration."""
    recognition: Recognition
    plan: Plan | None
    """The plan, where it was made now; None where it was there."""


def prepare(
    root: Path,
    folder: Path,
    request: PlanRequest,
    *,
    layout: str | None = None,
    report: Callable[[int, int], None] | None = None,
    found: Callable[[Recognition], None] | None = None,
    measured: Callable[[Fingerprint], None] | None = None,
) -> Prepared:
    """Recognise a collection, measure it and plan its training; what an earlier call left in the folder is kept.

    Args:
        root: the collection, as it was downloaded.
        folder: receives plan.yaml (which may be edited), fingerprint.json, splits.json and request.yaml.
        request: what the plan must keep to.
        layout: the kind of collection, where it could be several.
        report: called after each case that was measured, with how many of how many.
        found: called once the collection is recognised.
        measured: called once it is measured.

    Raises:
        ConfigError: the folder holds a plan made from another request or for another collection.
        VolsegError: the collection is unknown, cannot be read, or the request cannot be met.
    """
    began = time.monotonic()
    recognition = recognise(root, layout)
    if found is not None:
        found(recognition)
    path = folder / PLAN_FILE
    if path.exists():
        _check_same_request(folder, request)
        _check_same_collection(path, root, recognition.dataset)
        return Prepared(path, recognition, None)
    dataset = recognition.dataset
    check_request(dataset, request)
    cases = dataset()
    _make(folder)
    fingerprint = _known_fingerprint(folder, cases, dataset)
    if fingerprint is None:
        fingerprint = measure_fingerprint(cases, dataset, progress=report)
        write_fingerprint(fingerprint, folder)  # what took so long is kept, whatever comes of the plan
    if measured is not None:
        measured(fingerprint)
    plan_for = partial(plan_training, dataset, fingerprint)
    if request.budget_seconds is None:
        plan = plan_for(request)
    else:
        left = request.budget_seconds - (time.monotonic() - began)
        plan = fit_budget(left, plan_for, request, measure=partial(measure_step, device=request.device))
    with replacing(folder / REQUEST_FILE) as unfinished:
        unfinished.write_text(dump_config(request), encoding="utf-8")
    return Prepared(path, recognition, write_plan(plan, folder, cases))


def _make(folder: Path) -> None:
    """Have the folder before the scans are measured, which may take long."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be made ({error.strerror}); choose another folder by --output."
        ) from error


def _known_fingerprint(folder: Path, cases: Sequence[Case], dataset: Dataset) -> Fingerprint | None:
    """That of an earlier plan whose plan.yaml was removed to plan again; None where the collection is no longer the same."""
    path = folder / FINGERPRINT_FILE
    if not path.is_file() or any(
        file.stat().st_mtime > path.stat().st_mtime for case in cases for file in case.files
    ):
        return None
    try:
        known = Fingerprint.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError:
        return None
    labels = [(label.value, label.name) for label in known.labels]
    channels = tuple(channel.name for channel in known.channels)
    same = (
        known.cases == len(cases)
        and labels == [(label.value, label.name) for label in dataset.labels()]
        and channels == dataset.channel_names()
    )
    return known if same else None


def _check_same_collection(path: Path, root: Path, dataset: Dataset) -> None:
    """Refuse to train the collection of an earlier plan in place of the one that was named."""
    planned = load_config(path, TrainConfig).dataset
    if planned.root.resolve() != dataset.root.resolve():
        raise ConfigError(
            f"{path}: was planned for {planned.root}, not for {root}. Give --output another folder for this collection; if it "
            "is the same one in another place, correct dataset.root in that file."
        )


def _check_same_request(folder: Path, request: PlanRequest) -> None:
    """What is not asked for is as it was planned."""
    path = folder / REQUEST_FILE
    if not path.is_file():
        return
    before = load_config(path, PlanRequest)
    changed = [
        f"{name} (then {getattr(before, name)}, now {getattr(request, name)})"
        for name, field in PlanRequest.model_fields.items()
        if getattr(request, name) not in (getattr(before, name), field.default) and name != "fold"
    ]
    if changed:
        raise ConfigError(
            f"{folder / PLAN_FILE}: was planned with another {' and '.join(changed)}. Ask for the same, edit the file, or plan "
            "into another folder."
        )
