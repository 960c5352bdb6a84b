"""Experiment trackers beside log.csv: TensorBoard events and MLflow, where the configuration asks for them."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from volseg.errors import ConfigError
from volseg.train.records.log import Row
from volseg.train.settings import TrainConfig

logger = logging.getLogger(__name__)

_EXPERIMENT = "volseg"


class Tracker(Protocol):
    """Takes the rows of the log."""

    def add(self, row: Row) -> None:
        """One row, with its `step`."""
        ...

    def close(self, *, finished: bool) -> None:
        """Write what is left; `finished` tells a completed training from one that will go on."""
        ...


def open_trackers(config: TrainConfig, folder: Path, *, resumed_at: int) -> Sequence[Tracker]:
    """The trackers that `config.log` asks for; a resumed run goes on in the same ones.

    Raises:
        ConfigError: the package of one is not installed, or its server does not answer.
    """
    trackers: list[Tracker] = []
    if config.log.tensorboard:
        trackers.append(TensorBoard(folder / "tensorboard", resumed_at=resumed_at))
    if config.log.mlflow is not None:
        trackers.append(MLflow(config.log.mlflow, config.card.name, folder, config.model_dump(mode="json")))
    return trackers


class TensorBoard:
    """Scalars as TensorBoard events; `tensorboard --logdir` shows them."""

    def __init__(self, folder: Path, *, resumed_at: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  an option, not a dependency
        except ImportError:
            raise _missing("tensorboard", "tensorboard") from None
        self._writer: Any = SummaryWriter(str(folder), purge_step=resumed_at + 1 if resumed_at else None)

    def add(self, row: Row) -> None:
        """One row, with its `step`."""
        for name, value in _metrics(row).items():
            self._writer.add_scalar(name, value, int(row["step"]))
        self._writer.flush()

    def close(self, *, finished: bool) -> None:  # noqa: ARG002  events tell nothing of the end
        """Close the file."""
        self._writer.close()


class MLflow:
    """Metrics and settings as a run of the experiment "volseg" of an MLflow server or folder.

    The run's id is kept in the run folder, so that a resumed training goes on in it. A server that stops answering is
    told once and does not stop the training.
    """

    def __init__(self, uri: str, name: str, folder: Path, settings: dict[str, Any]) -> None:
        try:
            from mlflow.exceptions import MlflowException  # noqa: PLC0415  an option, not a dependency
            from mlflow.tracking import MlflowClient  # noqa: PLC0415
        except ImportError:
            raise _missing("mlflow", "mlflow-skinny") from None
        self._failure: type[Exception] = MlflowException
        self._is_lost = False
        note = folder / "mlflow_run.txt"
        try:
            self._client: Any = MlflowClient(tracking_uri=uri)
            if note.is_file():
                self._run = note.read_text().strip()
                self._client.update_run(self._run, status="RUNNING")
                return
            found = self._client.get_experiment_by_name(_EXPERIMENT)
            experiment = self._client.create_experiment(_EXPERIMENT) if found is None else found.experiment_id
            self._run = self._client.create_run(experiment, run_name=name).info.run_id
            for key, value in _flat(settings).items():
                self._client.log_param(self._run, key, value)
        except MlflowException as error:
            raise ConfigError(
                f"log.mlflow = {uri}: no MLflow run can be opened there ({' '.join(str(error).split())[:300]}); check the "
                "address, or set it to null."
            ) from None
        note.write_text(self._run)

    def add(self, row: Row) -> None:
        """One row, with its `step`."""
        if self._is_lost:
            return
        try:
            for name, value in _metrics(row).items():
                self._client.log_metric(self._run, name, value, step=int(row["step"]))
        except self._failure as error:
            self._is_lost = True
            logger.warning("MLflow does not answer any more; the numbers go to log.csv only (%s)", error)

    def close(self, *, finished: bool) -> None:
        """Set the run's state: finished, or stopped for now."""
        if not self._is_lost:
            self._client.set_terminated(self._run, status="FINISHED" if finished else "KILLED")


def _metrics(row: Row) -> dict[str, float]:
    """The values of a row under names that every tracker takes."""
    return {
        re.sub(r"[^\w\-./ ]", "_", name.replace("dice_", "dice/", 1)): value
        for name, value in row.items()
        if name != "step"
    }


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as `a.b` names with short values, as MLflow's parameters are."""
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value)[:500]
    return flat


def _missing(setting: str, package: str) -> ConfigError:
    return ConfigError(
        f"log.{setting} needs a package that is not installed; run `pip install {package}`, or leave the setting out."
    )
