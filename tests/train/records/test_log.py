import logging
import sys
import types
from typing import ClassVar

import pytest

from volseg.errors import ConfigError
from volseg.train.records.log import TrainLog, draw_curves, read_log
from volseg.train.records.trackers import open_trackers

ROW = {"step": 50, "loss": 1.25, "learning_rate": 1e-3, "waited": 0.25, "dice_left (liver)": 0.5}


def test_rows_come_back_and_a_resumed_log_drops_what_came_after_its_checkpoint(tmp_path):
    log = TrainLog(tmp_path, ["liver"], resumed_at=0)
    log.add({"step": 50, "loss": 1.25, "learning_rate": 1e-3, "seconds": 9, "waited": 0.5})
    log.add({"step": 75, "dice_liver": 0.5})
    log.add({"step": 100, "loss": 0.75, "learning_rate": 1e-3, "seconds": 18})
    again = TrainLog(tmp_path, ["liver"], resumed_at=80)
    again.add({"step": 100, "loss": 0.5})
    assert read_log(log.path) == [
        {"step": 50, "loss": 1.25, "learning_rate": 1e-3, "seconds": 9, "waited": 0.5},
        {"step": 75, "dice_liver": 0.5},
        {"step": 100, "loss": 0.5},
    ]


def test_a_new_run_starts_an_empty_log(tmp_path):
    TrainLog(tmp_path, ["liver"], resumed_at=0).add({"step": 50, "loss": 1})
    assert read_log(TrainLog(tmp_path, ["liver"], resumed_at=0).path) == []


def test_curves_are_drawn_even_before_the_first_validation(tmp_path):
    log = TrainLog(tmp_path, ["liver"], resumed_at=0)
    log.add({"step": 50, "loss": 1})
    draw_curves(log.path, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("setting", "module", "install"),
    [
        ("log.tensorboard=true", "torch.utils.tensorboard", "pip install tensorboard"),
        ("log.mlflow=http://nowhere", "mlflow.exceptions", "pip install mlflow-skinny"),
    ],
)
def test_a_tracker_that_is_not_installed_is_told_with_the_command(
    phantom_config, tmp_path, monkeypatch, setting, module, install
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=install):
        open_trackers(phantom_config(setting), tmp_path, resumed_at=0)


def test_without_options_there_are_no_trackers(phantom_config, tmp_path):
    assert open_trackers(phantom_config(), tmp_path, resumed_at=0) == []


class FakeWriter:
    made: ClassVar[list] = []

    def __init__(self, folder, purge_step):
        self.folder, self.purge_step, self.seen, self.closed = folder, purge_step, [], False
        FakeWriter.made.append(self)

    def add_scalar(self, name, value, step):
        self.seen.append((name, value, step))

    def flush(self):
        pass

    def close(self):
        self.closed = True


def test_tensorboard_gets_the_rows_and_forgets_those_after_the_checkpoint(
    phantom_config, tmp_path, monkeypatch
):
    fake = types.SimpleNamespace(SummaryWriter=FakeWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    (tracker,) = open_trackers(phantom_config("log.tensorboard=true"), tmp_path, resumed_at=40)
    tracker.add(ROW)
    tracker.close(finished=True)
    writer = FakeWriter.made.pop()
    assert writer.folder == str(tmp_path / "tensorboard")
    assert writer.purge_step == 41
    assert ("dice/left _liver_", 0.5, 50) in writer.seen
    assert ("loss", 1.25, 50) in writer.seen
    assert writer.closed


class FakeError(Exception):
    pass


class FakeClient:
    """Just enough of MlflowClient."""

    metrics: ClassVar[list] = []
    states: ClassVar[list] = []
    is_down = False

    def __init__(self, tracking_uri):
        self.uri = tracking_uri

    def get_experiment_by_name(self, name):
        if self.uri == "http://nowhere":
            raise FakeError("no route to host")

    def create_experiment(self, name):
        return "7"

    def create_run(self, experiment, run_name):
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=f"{experiment}-{run_name}"))

    def update_run(self, run, status):
        self.states.append((run, status))

    def log_param(self, run, key, value):
        assert len(value) <= 500

    def log_metric(self, run, name, value, step):
        if FakeClient.is_down:
            raise FakeError("gone")
        self.metrics.append((run, name, value, step))

    def set_terminated(self, run, status):
        self.states.append((run, status))


@pytest.fixture
def fake_mlflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", types.ModuleType("mlflow"))
    monkeypatch.setitem(sys.modules, "mlflow.exceptions", types.SimpleNamespace(MlflowException=FakeError))
    monkeypatch.setitem(sys.modules, "mlflow.tracking", types.SimpleNamespace(MlflowClient=FakeClient))
    for name in ("metrics", "states"):
        monkeypatch.setattr(FakeClient, name, [])
    return FakeClient


def test_a_resumed_training_goes_on_in_its_mlflow_run(phantom_config, tmp_path, fake_mlflow):
    config = phantom_config("log.mlflow=http://host")
    (first,) = open_trackers(config, tmp_path, resumed_at=0)
    first.add(ROW)
    first.close(finished=False)
    (second,) = open_trackers(config, tmp_path, resumed_at=50)
    second.close(finished=True)
    assert ("7-phantom", "dice/left _liver_", 0.5, 50) in fake_mlflow.metrics
    states = ["KILLED", "RUNNING", "FINISHED"]
    assert fake_mlflow.states == [("7-phantom", state) for state in states]


def test_an_mlflow_server_that_never_answers_is_an_error_one_that_stops_is_told_once(
    phantom_config, tmp_path, fake_mlflow, monkeypatch, caplog
):
    with pytest.raises(ConfigError, match=r"log\.mlflow = http://nowhere.*no route to host"):
        open_trackers(phantom_config("log.mlflow=http://nowhere"), tmp_path, resumed_at=0)
    (tracker,) = open_trackers(phantom_config("log.mlflow=http://host"), tmp_path, resumed_at=0)
    monkeypatch.setattr(fake_mlflow, "is_down", True)
    with caplog.at_level(logging.WARNING):
        tracker.add(ROW)
        tracker.add(ROW)
        tracker.close(finished=True)
    assert [record.message for record in caplog.records if "does not answer" in record.message] != []
    assert len(caplog.records) == 1


@pytest.mark.slow
def test_the_real_tensorboard_reads_what_was_written(phantom_config, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    (tracker,) = open_trackers(phantom_config("log.tensorboard=true"), tmp_path, resumed_at=0)
    tracker.add(ROW)
    tracker.close(finished=True)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("dice/left _liver_")] == [(50, 0.5)]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_real_mlflow_keeps_metrics_and_settings(phantom_config, tmp_path, monkeypatch):
    monkeypatch.setenv(
        "MLFLOW_ALLOW_FILE_STORE", "true"
    )  # MLflow's own switch; a server or SQLite needs none
    tracking = pytest.importorskip("mlflow.tracking")
    uri = f"file://{tmp_path / 'mlflow'}"
    (tracker,) = open_trackers(phantom_config(f"log.mlflow={uri}"), tmp_path, resumed_at=0)
    tracker.add(ROW)
    tracker.close(finished=True)
    client = tracking.MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("volseg").experiment_id])
    assert run.data.metrics["dice/left _liver_"] == 0.5
    assert run.data.params["optimizer.learning_rate"] == "0.005"
    assert run.info.status == "FINISHED"


def test_curves_of_many_labels_keep_their_room(tmp_path):
    log = TrainLog(tmp_path, [f"part {n}" for n in range(60)], resumed_at=0)
    log.add({"step": 50, "loss": 1.25} | {f"dice_part {n}": n / 60 for n in range(60)})
    draw_curves(log.path, tmp_path / "curves.png")  # a legend of 60 names leaves none, and matplotlib warns
    assert (tmp_path / "curves.png").stat().st_size > 10_000
